"""A pile of like layers: compiled one by one, or compiled once and scanned over the depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.ops import fold_seed
from jaxformer.parallel.sharding import parameters_are_gathered, save_all_but_gathered

_POLICIES: dict[str, Callable[[], Any]] = {
    "dots": lambda: jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": lambda: jax.checkpoint_policies.nothing_saveable,
    "offload": lambda: jax.checkpoint_policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
}


class Stack(nnx.Module):
    """`depth` layers made by `make`, applied one after another.

    Initial values depend on the generator alone, not on `scan`: a scanned stack and an unrolled one are equal.

    Args:
      make: makes one layer from its `nnx.Rngs`.
      depth: L.
      scan: hold the layers' parameters stacked, [L, ...], and compile one layer for any depth.
      remat: what a layer's backward pass computes again: `none`, `dots`, `full` or `offload`; see `MemoryConfig`. It
        changes memory and time, never the result.
      rngs: of the initialisation.
    """

    def __init__(
        self,
        make: Callable[[nnx.Rngs], nnx.Module],
        depth: int,
        *,
        scan: bool = False,
        remat: str = "none",
        rngs: nnx.Rngs,
    ) -> None:
        if remat != "none" and remat not in _POLICIES:
            raise ValueError(f"remat {remat!r} is not one of none, {', '.join(_POLICIES)}")
        self.depth = depth
        self.remat = remat
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
                x = self._apply(*nnx.split(layer))(x, *arguments, fold_seed(seed, i))
            return x
        graph, state = nnx.split(self.layers)

        def body(x: jax.Array, layer: tuple[nnx.State, jax.Array]) -> tuple[jax.Array, None]:
            state, i = layer
            return self._apply(graph, state)(x, *arguments, fold_seed(seed, i)), None

        return jax.lax.scan(body, x, (state, jnp.arange(self.depth)))[0]

    def _apply(self, graph: Any, state: nnx.State) -> Callable[..., jax.Array]:
        """One layer as a function of its inputs and its seed, rematerialised as `remat` says."""

        def apply(state: nnx.State, *inputs: Any) -> jax.Array:
            return nnx.merge(graph, state)(*inputs[:-1], seed=inputs[-1])

        policy = _POLICIES[self.remat]() if self.remat != "none" else None
        if policy is None and parameters_are_gathered():
            policy = save_all_but_gathered
        if policy is not None:
            # In a scan nothing could merge the two computations, so the barrier against it is not needed there.
            apply = jax.checkpoint(apply, policy=policy, prevent_cse=not self.scan)
        return lambda *inputs: apply(state, *inputs)
