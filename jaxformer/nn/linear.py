"""The linear map of every layer: `nnx.Linear`, with its leading dimensions merged for the product."""

from __future__ import annotations

import jax
from flax import nnx

from jaxformer.parallel.sharding import enter, gathered, leave


class Linear(nnx.Linear):
    """`nnx.Linear` over [*, D] as one product of matrices, of which each device may have a part.

    The gradient of the kernel sums over all the leading dimensions; merged, it is one plain product too. As they stand,
    XLA's CPU backend copies the transposed inputs first and takes twice as long.

    Args:
      in_features, out_features: D and E.
      dims: what they are called, from which `parallel.layout` tells how devices share them; one of the two at most is
        split over devices that work on the same rows.
      kernel_init: of the kernel; the bias starts at zero.
      rngs: of the initialisation.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dims: tuple[str, str] = ("model", "model"),
        kernel_init: nnx.Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            kernel_init=kernel_init or nnx.initializers.glorot_uniform(),
            kernel_metadata={"dims": dims},
            bias_metadata={"dims": dims[1:]},
            rngs=rngs,
        )
        self.dims = dims

    def __call__(self, inputs: jax.Array, out_sharding: object = None) -> jax.Array:
        """[*, D] to [*, E], or of a device's part of D to all of E, or to its part of E."""
        taken, made = self.dims
        kernel = gathered(self.kernel[...], self.dims)
        flat = enter(inputs, made).reshape(-1, inputs.shape[-1])
        assert self.bias is not None
        return (leave(flat @ kernel, taken) + self.bias[...]).reshape(*inputs.shape[:-1], -1)
