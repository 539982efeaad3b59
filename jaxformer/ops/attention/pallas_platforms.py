"""What each platform wants of the portable kernels: sizes of blocks, a compiler, where single numbers lie.

Not for what the kernels compute (`pallas_kernels`).
"""

from __future__ import annotations

import warnings
from typing import Any

import jax
from jax.experimental import pallas as pl


def block_sizes(platform: str, wide: bool, queries: int, keys: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Queries and keys to a tile, forward and backward; what a GPU's registers hold, not yet tuned on one."""
    if platform == "tpu":
        return (128, 128), (128, 128)  # its vectors have 128 lanes
    largest = ((64, 32), (32, 32)) if wide else ((128, 64), (64, 64))
    # A tensor core's product takes at least 16 rows.
    short_q, short_k = (max(16, pl.next_power_of_2(length)) for length in (queries, keys))
    forward, backward = ((min(block_q, short_q), min(block_k, short_k)) for block_q, block_k in largest)
    return forward, backward


def compiler_params(platform: str, head_size: int) -> Any:
    """Names the backend that compiles for this platform; None for its only one."""
    if platform != "gpu":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from jax.experimental.pallas import triton

            return triton.CompilerParams(num_warps=4 if head_size <= 64 else 8, num_stages=2)
    except (ImportError, AttributeError) as error:
        raise NotImplementedError(
            f"jax {jax.__version__} has no Triton route for Pallas, and Mosaic GPU does not take these kernels"
        ) from error


def scalars(platform: str) -> pl.BlockSpec:
    """A whole small array, read one number at a time."""
    if platform != "tpu":
        return pl.BlockSpec()
    from jax.experimental.pallas import tpu

    return pl.BlockSpec(memory_space=tpu.SMEM)  # the only memory of a TPU that gives out single numbers
