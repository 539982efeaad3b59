"""What XLA's CPU backend is told about a program whose products have few rows, and which one core computes.

It gives products to YNNPACK, which was measured to be the faster way for many rows, several cores, and the products of
a beam's attention. For 32 rows times [128, 8000] on one core without AVX-512, with other data read in between, it takes
1.5 ms, where XLA's own way, Eigen, takes 0.9; for 256 rows 6.4 and 5.9 (`docs/performance.md`). Not for GPUs.
"""

from __future__ import annotations

import os
from pathlib import Path

import jax

from jaxformer.parallel.gpu_flags import jaxlib_was_tried

_OPTION = "xla_cpu_experimental_ynn_fusion_type"
_REDUCTIONS_ALONE = "LIBRARY_FUSION_TYPE_REDUCE"
"""What is left to YNNPACK: by default also products, each by itself."""


def options_for_few_rows(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Compiler options, for `jax.jit`, of a program of vectors times matrices; none where nobody saw them help.

    They change the last digits of what is computed, as another device would. A person's own choice in `XLA_FLAGS`
    stays.

    Args:
      cpuinfo: in which Linux describes the processor.
    """
    one_core = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1
    if jax.default_backend() != "cpu" or not one_core or _OPTION in os.environ.get("XLA_FLAGS", ""):
        return {}
    try:
        flags = cpuinfo.read_text()
    except OSError:
        return {}
    measured = "avx2" in flags and "avx512f" not in flags and jaxlib_was_tried()
    return {_OPTION: _REDUCTIONS_ALONE} if measured else {}
