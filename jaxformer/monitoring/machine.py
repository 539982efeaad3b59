"""What the machine offers a run: devices, cores, memory, disk and data, each with what it means.

Facts only; which experiment suits them is said in `experiments/`. Not for use during a run (`monitoring.throughput`).
JAX is imported only where devices are asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from jaxformer.config import DataConfig
from jaxformer.cores import available_cores
from jaxformer.data.cache import cache_folder
from jaxformer.paths import expanded

WMT14 = "wmt14_translate/de-en"
_GIB = 1024**3
_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "sentencepiece", "sacrebleu", "sacremoses",
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """The facts of one machine, as `assess` found them.

    Attributes:
      platform: JAX's name of the default backend: `cpu`, `gpu`, `tpu`.
      device_kind: such as `NVIDIA H200`.
      num_devices: devices of this process.
      device_memory: bytes of one device, 0 where the backend does not say.
      usable_cores: cores this process may use (affinity and container limit), of `total_cores`.
      usable_memory: bytes of host memory that are free for this process, of `total_memory`.
      workdir, workdir_free: where the run is written and the free bytes there.
      cache, cache_free: where prepared data is kept and the free bytes there.
      data: what was found, one line a source.
      wmt_prepared: WMT14 lies prepared in the TFDS folder.
    """

    platform: str
    device_kind: str
    num_devices: int
    device_memory: int
    usable_cores: int
    total_cores: int
    usable_memory: int
    total_memory: int
    workdir: str
    workdir_free: int
    cache: str
    cache_free: int
    data: tuple[str, ...]
    wmt_prepared: bool

    @property
    def has_accelerator(self) -> bool:
        """Whether training runs on something other than the CPU."""
        return self.platform != "cpu"

    def table(self, *, chosen: str = "", reason: str = "") -> str:
        """The assessment for a person: what there is, how much, what it means, and which experiment was chosen why."""
        rows = [("machine", "found", "meaning"), *self._rows()]
        return _aligned([*rows, *([("chosen", chosen, reason)] if chosen else [])])

    def _rows(self) -> list[tuple[str, str, str]]:
        memory = f", {gibibytes(self.device_memory)} each" if self.device_memory else ""
        if self.has_accelerator:
            meaning = "the training step runs here; the batch is split over all of them"
        else:
            meaning = "no accelerator: the training step runs on the cores below"
        cores = f"{self.usable_cores}"
        if self.usable_cores < self.total_cores:
            cores += f" of {self.total_cores} (affinity or container limit)"
        work = "batches are made" if self.has_accelerator else "batches and training steps are made"
        memory_note = "model, optimizer and batches; the corpus stays on disk"
        low = "LOW: a run may need more; " if self.workdir_free < 2 * _GIB else ""
        return [
            ("devices", f"{self.num_devices} x {self.device_kind} ({self.platform}{memory})", meaning),
            ("cores", cores, f"{work} by these"),
            ("memory", f"{gibibytes(self.usable_memory)} free of {gibibytes(self.total_memory)}", memory_note),
            ("disk", f"{gibibytes(self.workdir_free)} free", f"{low}checkpoints and records go to {self.workdir}"),
            ("cache", f"{gibibytes(self.cache_free)} free", f"prepared data is kept in {self.cache}"),
            *(("data", what, state) for what, _, state in (line.partition(": ") for line in self.data)),
        ]


def assess(data: DataConfig, workdir: str | os.PathLike[str]) -> Machine:
    """Looks at this machine: its devices (which starts JAX), limits, disks, and the data that `data` and WMT14 need."""
    import jax

    devices = jax.local_devices()
    stats = _memory_stats(devices[0]) or {}
    total_memory, usable_memory = memory()
    cache = cache_folder(data.cache_dir)
    wmt = _prepared(WMT14, data.path if data.source == "tfds" else "")
    return Machine(
        platform=devices[0].platform,
        device_kind=_device_kind(devices[0]),
        num_devices=len(devices),
        device_memory=int(stats.get("bytes_limit", 0)),
        usable_cores=usable_cores(),
        total_cores=os.cpu_count() or 1,
        usable_memory=usable_memory,
        total_memory=total_memory,
        workdir=os.fspath(workdir),
        workdir_free=free_disk(workdir),
        cache=os.fspath(cache),
        cache_free=free_disk(cache),
        data=tuple(_data_lines(data, wmt)),
        wmt_prepared=wmt is not None,
    )


def _data_lines(data: DataConfig, wmt: Path | None) -> list[str]:
    lines = ["bundled: always there, made by a program from a seed"]
    if wmt:
        lines.append(f"{WMT14}: prepared in {wmt}")
    else:
        lines.append(f"{WMT14}: not prepared (python run.py --experiment=wmt:base --mode=prepare downloads it)")
    if data.source == "tfds" and data.name != WMT14:
        found = _prepared(data.name, data.path)
        lines.append(f"{data.name}: " + (f"prepared in {found}" if found else "not prepared (--mode=prepare makes it)"))
    if data.source == "files":
        state = "found" if data.path and os.path.exists(expanded(data.path)) else "MISSING: set --config.data.path"
        lines.append(f"{data.path or 'data.path is empty'}: {state}")
    return lines


def _prepared(name: str, path: str) -> Path | None:
    """The folder of a TFDS data set that training can read."""
    from jaxformer.data.tfds import has_random_access, prepared_folder  # imports JAX

    folder = prepared_folder(name, path)
    return folder if folder and has_random_access(folder) else None


def free_disk(path: str | os.PathLike[str]) -> int:
    """Free bytes where `path` is or would be made."""
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def usable_cores() -> int:
    """Cores this process may use: its affinity, and the container's quota if there is one."""
    cores, quota = available_cores(), _cgroup_cores()
    return max(1, min(cores, int(quota + 0.5))) if quota else cores


def memory() -> tuple[int, int]:
    """(total, available) bytes of host memory, within the container's limit if there is one."""
    import psutil

    system = psutil.virtual_memory()
    limit, used = _cgroup_memory()
    if limit and limit < system.total:
        return limit, min(system.available, max(0, limit - used))
    return system.total, system.available


def _read(*paths: str) -> str:
    for path in paths:
        try:
            return Path(path).read_text().strip()
        except OSError:
            continue
    return ""


def _cgroup_cores(root: str = "/sys/fs/cgroup") -> float:
    """Cores the container's quota allows; 0.0 for no limit. Version 2 first, then version 1."""
    quota, period = [*_read(f"{root}/cpu.max").split(), "", ""][:2]
    if not quota:
        quota, period = _read(f"{root}/cpu/cpu.cfs_quota_us"), _read(f"{root}/cpu/cpu.cfs_period_us")
    if not quota.isdigit() or not period.isdigit() or not int(period):
        return 0.0
    return int(quota) / int(period)


def _cgroup_memory(root: str = "/sys/fs/cgroup") -> tuple[int, int]:
    """(limit, used) bytes of the container; limit 0 for none. Page cache is not counted as used: it is given back."""
    limit = _read(f"{root}/memory.max", f"{root}/memory/memory.limit_in_bytes")
    used = _read(f"{root}/memory.current", f"{root}/memory/memory.usage_in_bytes")
    if not limit.isdigit() or not used.isdigit():
        return 0, 0
    stat = dict(line.split()[:2] for line in _read(f"{root}/memory.stat", f"{root}/memory/memory.stat").splitlines())
    reclaimable = int(stat.get("inactive_file", stat.get("total_inactive_file", "0")))
    return int(limit), max(0, int(used) - reclaimable)


def _memory_stats(device: Any) -> dict[str, Any] | None:
    try:
        return device.memory_stats()
    except Exception:  # backends without statistics refuse in different ways
        return None


def _device_kind(device: Any) -> str:
    return _processor() if device.platform == "cpu" else str(device.device_kind)


@functools.cache
def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or "cpu"


def environment() -> dict[str, Any]:
    """What a result was measured on: versions, device, cores and, in a git checkout, the commit."""
    import jax

    devices = jax.local_devices()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "platform": devices[0].platform,
        "device_kind": _device_kind(devices[0]),
        "num_devices": jax.device_count(),
        "usable_cores": usable_cores(),
        "commit": commit(),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def commit() -> str:
    """The git commit of this code, with `+changes` when the work tree differs from it; empty outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        run = functools.partial(subprocess.run, cwd=root, capture_output=True, text=True, timeout=10, check=True)
        head = run(["git", "rev-parse", "HEAD"]).stdout.strip()
        changed = run(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head}+changes" if changed else head


def gibibytes(size: float) -> str:
    """`size` bytes in GiB, for a person."""
    return f"{size / _GIB:.1f} GiB"


def _aligned(rows: list[tuple[str, str, str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows)
