"""What both backward kernels of the Mosaic GPU attention do: that for dq, along the keys, and that for dk and dv, along
the queries.

Both recompute the weights from the scores and the forward pass's logarithms (Dao et al. 2022, algorithm 4). Two
kernels do seven matrix products where one would do five, but nothing is added up in global memory: the result is the
same every time. The kernels are in `mosaic_backward_queries.py` and `mosaic_backward_keys.py`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxformer.ops.attention import mosaic_tile as tile_ops
from jaxformer.ops.attention.mosaic_tile import Call, Refs

# On rows that see nothing, and rows past T. Such a row has the logarithm 0 or that of a number of keys. Where hidden,
# its weights are exp2(-inf - 0) = 0. Past T, q and its gradient are zeros (TMA fills them in), so its scores are 0,
# its weights are at most 1, and all that it adds to dk and dv is a multiple of these zeros. Nothing is ever infinite,
# so nothing is nan.


def products(shape: tuple[int, int], first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
    """Two products of a matrix with another one's transpose, on their way at once: float32 of `shape` each."""

    def multiply(one: Any, other: Any) -> tuple[jax.Array, jax.Array]:
        plgpu.wgmma(one, first[0], first[1].transpose((1, 0)))
        plgpu.wgmma(other, second[0], second[1].transpose((1, 0)))
        return one[...], other[...]  # waits for both

    accumulator = plgpu.ACC(shape, jnp.float32)
    both: tuple[jax.Array, jax.Array] = pl.run_scoped(multiply, accumulator, accumulator)
    return both


def dropped(
    call: Call, refs: Refs, weights: jax.Array, d_weights: jax.Array, **place: Any
) -> tuple[jax.Array, jax.Array]:
    """What dropout leaves of a tile of weights, which are not scaled, and of their gradient, which is.

    Args:
      call: the call.
      refs: the arrays in global memory.
      weights: the tile.
      d_weights: its gradient.
      **place: of the tile, as for `mosaic_tile.keep`.
    """
    if not call.dropout:
        return weights, d_weights
    kept = tile_ops.keep(call, refs, weights.shape, **place)
    return jnp.where(kept, weights, 0.0), jnp.where(kept, d_weights * (1.0 / call.kept), 0.0)
