"""A training state as flat, named leaves: names for checkpoints and error messages, and checksums of the values.

Not for reading or writing files (`checkpoint`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.training.state import TrainState

Items = Mapping[str, Mapping[str, Any]]
"""item (`params`, `ema`, `optimizer`) -> name of the leaf -> array."""


def leaf_names(tree: Any) -> dict[str, Any]:
    """The leaves of `tree` under flat, dotted names (`encoder.layers.0.kernel`), in the order of the tree."""
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        parts = [str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", "")))) for entry in path]
        if len(parts) > 1 and parts[-1] == "value":  # the array inside an nnx.Param
            parts.pop()
        name = ".".join(parts) or "value"
        assert name not in named, f"two leaves are called {name}"
        named[name] = leaf
    return named


def like(template: Any, named: Mapping[str, Any], prefix: str = "") -> Any:
    """The inverse of `leaf_names`: a tree of the structure of `template` with the leaves of `named`."""
    return jax.tree.unflatten(jax.tree.structure(template), [named[prefix + name] for name in leaf_names(template)])


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, type and placement of an array."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def state_items(state: TrainState) -> dict[str, dict[str, Any]]:
    """The leaves of `state`, the typed dropout key as its plain data; `ema` and loss scale only where they are kept."""
    rest = {"opt_state": state.opt_state, "step": state.step}
    if state.loss_scale is not None:
        rest["loss_scale"] = state.loss_scale
    items = {"params": leaf_names(state.params), "optimizer": leaf_names(rest)}
    items["optimizer"]["key"] = jax.random.key_data(state.key)
    if state.ema is not None:
        items["ema"] = leaf_names(state.ema)
    return items


def state_from_items(template: TrainState, items: Items) -> TrainState:
    """The inverse of `state_items`, with the structure of `template`."""
    optimizer = items["optimizer"]
    return TrainState(
        step=optimizer["step"],
        params=like(template.params, items["params"]),
        ema=None if template.ema is None else like(template.ema, items["ema"]),
        opt_state=like(template.opt_state, optimizer, "opt_state."),
        key=jax.random.wrap_key_data(optimizer["key"], impl=jax.random.key_impl(template.key)),
        loss_scale=None if template.loss_scale is None else like(template.loss_scale, optimizer, "loss_scale."),
    )


def digest(items: Items, *, copy: bool = False) -> tuple[Any, dict[str, dict[str, int]]]:
    """Checksums of all leaves, computed where they are, and with `copy` also copies that share no memory with them.

    A checksum is the sum of all words, each times an odd number made from its place, modulo 2^32: integer arithmetic,
    so that neither the order of summation nor the number of devices matters. A single changed word always changes it.
    """
    leaves, structure = jax.tree.flatten(items)
    kept, sums = list(leaves), []
    # A program for each shape, of which there are few, compiles far sooner than one for all leaves.
    for index, leaf in enumerate(leaves):
        copied, total = _digest(leaf, copy=copy)
        if jax.default_backend() == "cpu":
            total.block_until_ready()  # simulated devices wait for each other for ever in several programs at once
        sums.append(total)
        if copied is not None:
            kept[index] = copied
    found = [int(total) for total in jax.device_get(sums)]
    return jax.tree.unflatten(structure, kept), jax.tree.unflatten(structure, found)


@functools.partial(jax.jit, static_argnames="copy")
def _digest(leaf: jax.Array, *, copy: bool) -> tuple[jax.Array | None, jax.Array]:
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)  # two words each of 64 bits
    words = jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32).reshape(-1)
    places = jax.lax.iota(jnp.uint32, words.size) * jnp.uint32(2654435762) + jnp.uint32(1)
    return jnp.copy(leaf) if copy else None, jnp.sum(words * places, dtype=jnp.uint32)
