"""The linear map of every layer: `nnx.Linear`, with its leading dimensions merged for the product."""

from __future__ import annotations

import jax
from flax import nnx


class Linear(nnx.Linear):
    """`nnx.Linear` over [*, D] as one product of matrices.

    The gradient of the kernel sums over all the leading dimensions; merged, it is one plain product too. As they stand,
    XLA's CPU backend copies the transposed inputs first and takes twice as long.
    """

    def __call__(self, inputs: jax.Array, out_sharding: object = None) -> jax.Array:
        """[*, D] to [*, E]."""
        flat = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return flat.reshape(*inputs.shape[:-1], -1)
