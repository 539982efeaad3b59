"""Dropout of activations of which a device may have a part: together the devices drop what one would."""

from __future__ import annotations

import jax

from jaxformer.ops.dropout import dropout as drop
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
    return drop(x, rate, seed, (place("length"), place(width)) if x.ndim > 2 else ())
