"""What XLA's CPU backend is told about programs whose products have few rows, where one core computes them.

It gives products to YNNPACK: the faster way for a training step, and for attention that multiplies matrices. But for 32
rows times [128, 8000], in float32, on one core and with other data read in between, YNNPACK takes 1.5 ms and Eigen,
which has the products otherwise, 0.9 to 1.0, with AVX-512 and without (256 rows: 6.0 to 6.4 and 5.1 to 5.9;
benchmarks/results.md). Not for GPUs.
"""

from __future__ import annotations

import os
from pathlib import Path

import jax

from jaxformer.cores import bound_cores
from jaxformer.parallel.gpu_flags import jaxlib_was_tried

_OPTION = "xla_cpu_experimental_ynn_fusion_type"
_REDUCTIONS_ALONE = "LIBRARY_FUSION_TYPE_REDUCE"
"""What is left to YNNPACK: by default also products, each by itself."""

FEWEST_ROWS = 8
"""From how many rows on the options help: with 2 the steps of a greedy search take twice as long, with 4 as long."""


def options_for_few_rows(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Compiler options, for `jax.jit`, of a program of vectors times matrices; none where nobody saw them help.

    They change the last digits of what is computed, as another device would. A person's own choice in `XLA_FLAGS`
    stays, and what a file that it names may say.

    Args:
      cpuinfo: in which Linux describes the processor.
    """
    one_core = len(bound_cores()) == 1
    flags = os.environ.get("XLA_FLAGS", "").strip()
    own_choice = _OPTION in flags or (flags and not flags.startswith("--"))
    if jax.default_backend() != "cpu" or not one_core or own_choice:
        return {}
    try:
        processor = cpuinfo.read_text()
    except OSError:
        return {}
    measured = "avx2" in processor and "amx" not in processor and jaxlib_was_tried()
    return {_OPTION: _REDUCTIONS_ALONE} if measured else {}
