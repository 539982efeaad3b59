"""The linear map of every layer: `nnx.Linear`, with its leading dimensions merged for the product."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.parallel.sharding import enter, gathered, leave


def cut(x: jax.Array, counts: Sequence[int], size: int) -> list[jax.Array]:
    """The parts of something fused.

    Args:
      x: [*, groups * n * size], the parts of a group side by side.
      counts: how many of the n vectors of a group belong to each part.
      size: of these vectors.

    Returns:
      [*, groups * count * size] for each count.
    """
    groups = x.reshape(*x.shape[:-1], -1, sum(counts), size)
    # Not by slices: each of them would have a gradient as large as the whole, mostly zeros, to be added up.
    parts = jnp.split(groups, list(itertools.accumulate(counts))[:-1], axis=-2)
    return [part.reshape(*x.shape[:-1], -1) for part in parts]


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

    def __call__(
        self, inputs: jax.Array, out_sharding: object = None, *, then: Callable[[jax.Array], jax.Array] | None = None
    ) -> jax.Array:
        """[*, D] to [*, E], or of a device's part of D to all of E, or to its part of E; `then` of each element."""
        return self._products(inputs, lambda x: [x], then)[0]

    def in_parts(self, inputs: jax.Array, counts: Sequence[int], size: int) -> list[jax.Array]:
        """`cut` of what a call would give, each part of which is a product by itself."""
        return self._products(inputs, lambda x: cut(x, counts, size))

    def _products(
        self,
        inputs: jax.Array,
        parts_of: Callable[[jax.Array], list[jax.Array]],
        then: Callable[[jax.Array], jax.Array] | None = None,
    ) -> list[jax.Array]:
        """[*, D] by each part of the kernel, and each part of the bias added."""
        taken, made = self.dims
        flat = enter(inputs, made).reshape(-1, inputs.shape[-1])
        assert self.bias is not None
        parts = zip(parts_of(gathered(self.kernel[...], self.dims)), parts_of(self.bias[...]), strict=True)
        results = [leave(flat @ kernel, taken) + bias for kernel, bias in parts]
        # While it is a matrix: cuBLAS adds a bias, and rectifies, where nothing stands between.
        return [(then(x) if then else x).reshape(*inputs.shape[:-1], -1) for x in results]
