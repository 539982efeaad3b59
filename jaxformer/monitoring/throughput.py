"""How fast a run really is: real tokens per second, padding efficiency, MFU, where the time went, and peak memory.

Counted on the host from numbers it already has, so measuring never waits for a device. Not for showing or recording
them (`monitoring.progress`, `monitoring.trackers`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

TRAINING_PHASES = ("data_wait", "step", "other")
"""Phases that count as training when tokens are divided by seconds; start, compile, evaluation, checkpoint do not."""


class PhaseClock:
    """Divides wall time among named phases: each second belongs to exactly one, so they sum to the wall time.

    A phase entered inside another one pauses it. Time outside every phase is `other`. For one thread.

    Args:
      clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._seconds: dict[str, float] = {"other": 0.0}
        self._stack = ["other"]
        self._start = self._mark = clock()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Gives the time inside the block to `name`: `data_wait`, `step`, `compile`, `evaluation`, `checkpoint`, ..."""
        self._settle()
        self._stack.append(name)
        try:
            yield
        finally:
            self._settle()
            self._stack.pop()

    def _settle(self) -> None:
        now = self._clock()
        current = self._stack[-1]
        self._seconds[current] = self._seconds.get(current, 0.0) + now - self._mark
        self._mark = now

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far; they sum to `wall`."""
        self._settle()
        return dict(self._seconds)

    def wall(self) -> float:
        """Seconds since the clock was made."""
        self._settle()
        return self._mark - self._start

    def goodput(self) -> float:
        """The share of the wall time spent in training steps, 0 to 1."""
        wall = self.wall()
        return self._seconds.get("step", 0.0) / wall if wall > 0 else 0.0


@dataclasses.dataclass
class _Counts:
    steps: int = 0
    source_tokens: int = 0
    target_tokens: int = 0
    slots: int = 0
    flops: float = 0.0
    imbalance: float = 0.0  # summed over those steps that several devices shared
    shared: int = 0

    def add(
        self, source_tokens: float, target_tokens: float, slots: float, flops: float, imbalance: float | None
    ) -> None:
        self.steps += 1
        self.source_tokens += int(source_tokens)
        self.target_tokens += int(target_tokens)
        self.slots += int(slots)
        self.flops += flops
        if imbalance is not None:
            self.imbalance += imbalance
            self.shared += 1

    def rates(self, seconds: float, waited: float, peak: float) -> dict[str, float]:
        if not self.steps:  # those that compiled are not counted: there may be no others yet
            return {}
        real = self.source_tokens + self.target_tokens
        per_second = 1.0 / seconds if seconds > 0 else 0.0
        rates = {
            "train/source_tokens_per_second": self.source_tokens * per_second,
            "train/target_tokens_per_second": self.target_tokens * per_second,
            "train/tokens_per_second": real * per_second,
            "train/steps_per_second": self.steps * per_second,
            "train/padding_efficiency": real / self.slots if self.slots else 0.0,
            "train/data_wait": waited * per_second,
        }
        if self.shared:
            rates["train/imbalance"] = self.imbalance / self.shared
        if self.flops:
            rates["train/flops_per_second"] = self.flops * per_second
            if peak:
                rates["train/mfu"] = self.flops * per_second / peak
        return rates


class Throughput:
    """Counts real tokens and divides them by training time, for the last window and for the whole run.

    Args:
      phases: the clock of the run; only its `TRAINING_PHASES` count as time.
      peak: FLOP/s of all devices, which model FLOPs are compared with; 0 where it is not known: then there is no MFU.
    """

    def __init__(self, phases: PhaseClock, peak: float = 0.0):
        self._phases, self._peak = phases, peak
        self._window, self._total = _Counts(), _Counts()
        self._window_start = self._total_start = self._times()

    def _times(self) -> tuple[float, float]:
        """Seconds of training so far, and those among them that waited for data."""
        seconds = self._phases.seconds()
        return sum(seconds.get(phase, 0.0) for phase in TRAINING_PHASES), seconds.get("data_wait", 0.0)

    def update(
        self,
        *,
        source_tokens: float,
        target_tokens: float,
        slots: float,
        flops: float = 0.0,
        imbalance: float | None = None,
    ) -> None:
        """Adds a step; everything is of all devices together, those of other processes included.

        Args:
          source_tokens: real ones.
          target_tokens: likewise.
          slots: of both sides together, padding included.
          flops: model FLOPs of the step; 0 where nobody counts them.
          imbalance: how much more real tokens the fullest device had than the mean, 0.03 for 3 %; None for one device.
        """
        for counts in (self._window, self._total):
            counts.add(source_tokens, target_tokens, slots, flops, imbalance)

    def window(self) -> dict[str, float]:
        """Rates since the last call of `window`, if a step was counted since, and memory now; starts a new window."""
        now = self._times()
        rates = self._rates(self._window, self._window_start, now)
        self._window, self._window_start = _Counts(), now
        return {**rates, **memory_metrics()}

    def total(self) -> dict[str, float]:
        """Rates of the whole run, if a step was counted, seconds of each phase, goodput and peak memory."""
        rates = self._rates(self._total, self._total_start, self._times())
        phases = {f"seconds/{name}": seconds for name, seconds in self._phases.seconds().items()}
        return {
            **rates,
            **phases,
            "seconds/wall": self._phases.wall(),
            "train/goodput": self._phases.goodput(),
            **memory_metrics(),
        }

    def _rates(self, counts: _Counts, start: tuple[float, float], end: tuple[float, float]) -> dict[str, float]:
        return counts.rates(end[0] - start[0], end[1] - start[1], self._peak)


def process_start() -> float:
    """When this process started, in seconds since 1970."""
    import psutil

    return float(psutil.Process().create_time())


def host_memory() -> int:
    """Bytes of memory this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def host_peak_memory() -> int:
    """The most bytes of memory this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def device_peak_memory() -> int:
    """The most bytes ever allocated on any device of this process; 0 where the backend does not say (CPU)."""
    import jax

    return max((int(_stats(device).get("peak_bytes_in_use", 0)) for device in jax.local_devices()), default=0)


def _stats(device: Any) -> dict[str, Any]:
    try:
        return device.memory_stats() or {}
    except Exception:  # backends without statistics refuse in different ways
        return {}


def memory_metrics() -> dict[str, float]:
    """Memory in bytes, under the names that trackers record; the device's only where the backend says."""
    device = device_peak_memory()
    return {
        "memory/host": float(host_memory()),
        "memory/host_peak": float(host_peak_memory()),
        **({"memory/device_peak": float(device)} if device else {}),
    }
