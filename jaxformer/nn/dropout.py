"""Dropout of activations of which a device may have a part: together the devices drop what one would."""

from __future__ import annotations

import jax

from jaxformer.ops.dropout import Parts, dropout as drop, keep_mask
from jaxformer.parallel.sharding import place


def dropout(x: jax.Array, rate: float, seed: jax.Array | None, *, width: str = "model_width") -> jax.Array:
    """`ops.dropout` of [B, T, *], or of [*, D] where nothing is split.

    Args:
      x: activations.
      rate: in [0, 1).
      seed: uint32, one or one for each row; None for none.
      width: name of the last dimension.
    """
    if rate == 0.0 or seed is None:
        return x
    return drop(x, rate, seed, _parts(x.ndim, width))


def kept(shape: tuple[int, ...], rate: float, seed: jax.Array, *, width: str = "model_width") -> jax.Array:
    """bool `shape`: what `dropout` of activations of this shape leaves; rate in (0, 1)."""
    return keep_mask(seed, shape, rate, _parts(len(shape), width))


def _parts(rank: int, width: str) -> Parts:
    return (place("length"), place(width)) if rank > 2 else ()
