"""XLA's flags for GPUs: set before JAX starts its devices, unless a person has.

XLA ends the process at a flag that it does not know. Each flag below is known to jaxlib 0.10.2 and 0.12.0.1, which were
tried, and stands in 0.11.2; other versions get none. What each does, and which are not set and why:
docs/parallelism.md and docs/performance.md. Not for what is exchanged (`sharding`, `rows`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import MutableMapping

FLAGS = {
    "xla_gpu_enable_latency_hiding_scheduler": "true",
    "xla_gpu_enable_pipelined_all_gather": "true",
    # cuBLAS adds biases itself; beside products that XLA writes in Triton they are a pass over memory of their own.
    "xla_gpu_enable_triton_gemm": "false",
    # Projections of the same input stay apart, as they are written: their results would be copied out of one.
    "xla_gpu_dot_merger_threshold_mb": "0",
}
"""Flag -> value."""

_KNOWN_TO = ((0, 10), (0, 13))
"""The first version of jaxlib that knows them all, and the first that nobody has tried."""

_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def set_gpu_flags(environment: MutableMapping[str, str] | None = None) -> list[str]:
    """Adds `FLAGS` to `XLA_FLAGS` where JAX will find GPUs; before anything asks JAX for devices.

    A flag that `XLA_FLAGS` names already, with whatever value, is left alone.

    Args:
      environment: of the process, by default.

    Returns:
      what was added: nothing on a CPU, or with a version of jaxlib that has not been tried.
    """
    environment = os.environ if environment is None else environment
    if not (_expects_gpus(environment) and jaxlib_was_tried()):
        return []
    present = environment.get("XLA_FLAGS", "")
    named = set(re.findall(r"--(\w+)", present))
    added = [f"--{name}={value}" for name, value in FLAGS.items() if name not in named]
    if added:
        environment["XLA_FLAGS"] = " ".join(filter(None, [present, *added]))
    return added


def jaxlib_was_tried() -> bool:
    """Whether the jaxlib here is known to know the flags that stand here and in `cpu_options`."""
    return _KNOWN_TO[0] <= _version("jaxlib") < _KNOWN_TO[1]


def _expects_gpus(environment: MutableMapping[str, str]) -> bool:
    """Whether JAX has a plugin for CUDA, and is not told to use something else."""
    platforms = environment.get("JAX_PLATFORMS", "").lower()
    wanted = not platforms or "cuda" in platforms or "gpu" in platforms
    return wanted and any(importlib.util.find_spec(name) is not None for name in _PLUGINS)


def _version(package: str) -> tuple[int, int]:
    major, minor = importlib.metadata.version(package).split(".")[:2]
    return int(major), int(minor)
