"""A pile of like layers: compiled one by one, or compiled once and scanned over the depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.ops import fold_seed


class Stack(nnx.Module):
    """`depth` layers made by `make`, applied one after another.

    Initial values depend on the generator alone, not on `scan`: a scanned stack and an unrolled one are equal.

    Args:
      make: makes one layer from its `nnx.Rngs`.
      depth: L.
      scan: hold the layers' parameters stacked, [L, ...], and compile one layer for any depth.
      rngs: of the initialisation.
    """

    def __init__(self, make: Callable[[nnx.Rngs], nnx.Module], depth: int, *, scan: bool, rngs: nnx.Rngs) -> None:
        self.depth = depth
        self.scan = scan
        keys = jax.random.split(rngs.params(), depth)
        if scan:
            graph, _ = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(params=keys[0]))))
            self.layers: Any = nnx.merge(graph, jax.vmap(lambda key: nnx.state(make(nnx.Rngs(params=key))))(keys))
        else:
            self.layers = nnx.List([make(nnx.Rngs(params=key)) for key in keys])

    def __iter__(self) -> Iterator[Any]:
        """The layers one by one, also when they are stacked (a view of each is sliced out)."""
        if not self.scan:
            yield from self.layers
            return
        graph, state = nnx.split(self.layers)
        for i in range(self.depth):
            yield nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], state))

    def __call__(self, x: jax.Array, *arguments: Any, seed: jax.Array | None = None) -> jax.Array:
        """`x` through `layer(x, *arguments, seed=...)` for every layer, each with a seed of its own."""
        if not self.scan:
            for i, layer in enumerate(self.layers):
                x = layer(x, *arguments, seed=fold_seed(seed, i))
            return x
        graph, state = nnx.split(self.layers)

        def body(x: jax.Array, layer: tuple[nnx.State, jax.Array]) -> tuple[jax.Array, None]:
            state, i = layer
            return nnx.merge(graph, state)(x, *arguments, seed=fold_seed(seed, i)), None

        return jax.lax.scan(body, x, (state, jnp.arange(self.depth)))[0]
