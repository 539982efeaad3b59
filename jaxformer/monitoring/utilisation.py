"""How busy the cores and the GPUs are while a run goes on.

The cores by this process's own time, NVIDIA's GPUs by NVML, asked once a second by a thread (`pip install
nvidia-ml-py`; part of the extras `cuda12` and `cuda13`). Not for how much of that was useful: that is MFU
(`monitoring.throughput`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_INTERVAL = 1.0


class Utilisation:
    """Shares of the time since the last look, 0 to 1.

    Args:
      gpus: the GPUs to watch, as NVML counts them or by their UUIDs; none on a CPU.
      cores: that this process may use.
      nvml: the module `pynvml`, or one like it; None where there is none.
      clock: seconds that only grow.
      interval: seconds between two looks at the GPUs.
    """

    def __init__(
        self,
        gpus: Sequence[int | str],
        cores: int,
        *,
        nvml: Any = None,
        clock: Callable[[], float] = time.perf_counter,
        interval: float = _INTERVAL,
    ) -> None:
        self._cores, self._clock, self._interval = cores, clock, interval
        self._before = (clock(), time.process_time())
        self._busy: list[float] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._nvml, self._handles = nvml, self._open(nvml, gpus)
        self._thread = threading.Thread(target=self._watch, name="utilisation", daemon=True)
        if self._handles:
            self._thread.start()

    @staticmethod
    def _open(nvml: Any, gpus: Sequence[int | str]) -> list[Any]:
        if nvml is None or not gpus:
            return []
        try:
            nvml.nvmlInit()
            by_index, by_uuid = nvml.nvmlDeviceGetHandleByIndex, nvml.nvmlDeviceGetHandleByUUID
            return [by_index(gpu) if isinstance(gpu, int) else by_uuid(gpu) for gpu in gpus]
        except nvml.NVMLError:  # a driver without NVML, or one that this user may not ask
            return []

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            with contextlib.suppress(self._nvml.NVMLError), self._lock:
                rates = [self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100 for handle in self._handles]
                self._busy.append(sum(rates) / len(rates))

    def window(self) -> dict[str, float]:
        """`utilisation/cpu` and, where GPUs are watched, `utilisation/gpu`, since the last call."""
        now = (self._clock(), time.process_time())
        wall, busy = now[0] - self._before[0], now[1] - self._before[1]
        self._before = now
        shares = {"utilisation/cpu": busy / (wall * self._cores)} if wall > 0 else {}
        with self._lock:
            if self._busy:
                shares["utilisation/gpu"] = sum(self._busy) / len(self._busy)
                self._busy = []
        return shares

    def close(self) -> None:
        """Stops watching; may be called twice."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._handles:
            self._nvml.nvmlShutdown()
            self._handles = []


def watch(devices: Sequence[Any]) -> Utilisation:
    """The utilisation of this process's cores, and of those of `devices` that are GPUs."""
    from jaxformer.monitoring.machine import usable_cores

    devices = [device for device in devices if device.platform == "gpu"]
    nvml = None
    if devices and importlib.util.find_spec("pynvml"):
        nvml = importlib.import_module("pynvml")
    gpus = physical_gpus([int(device.local_hardware_id or 0) for device in devices], os.environ)
    return Utilisation(gpus, usable_cores(), nvml=nvml)


def physical_gpus(visible: Sequence[int], environment: Mapping[str, str]) -> list[int | str]:
    """The GPUs that a process counts as `visible`, as the machine names them: CUDA_VISIBLE_DEVICES renumbers them."""
    named = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    found = [named[gpu] if gpu < len(named) else str(gpu) for gpu in visible]
    return [int(gpu) if gpu.isdigit() else gpu for gpu in found]
