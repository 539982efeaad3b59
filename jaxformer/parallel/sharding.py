"""What travels between devices inside a model: sums and exchanges along the axes that split a logical dimension.

`rows` runs a model on every device with its own part of rows, sequences and parameters, and puts the layout in force
that these functions read. Models call them with the names of dimensions and never with those of mesh axes; outside of
`rows`, and for dimensions that no axis splits, each of them does nothing. This is the scheme of Megatron-LM (Shoeybi et
al. 2019, section 3: `enter` and `leave` are f and g of its figure 3), of fully sharded parameters (Rajbhandari et al.
2020, ZeRO stage 3) and, for split sequences, of DeepSpeed Ulysses (Jacobs et al. 2023) or, where heads do not divide
for it, of Llama 3, which gathers keys and values (Grattafiori et al. 2024, section 3.3.2).

Not for placing arrays (`mesh`, `layout`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.parallel.layout import Layout


class _Use(NamedTuple):
    """A layout in force, and the parameters gathered under it: each is gathered once, and its gradients summed once."""

    layout: Layout
    gathered: dict[int, tuple[jax.Array, jax.Array]]  # by the identity of the part: the part, and the whole


_CURRENT: ContextVar[_Use | None] = ContextVar("layout", default=None)


@contextlib.contextmanager
def use_layout(layout: Layout | None) -> Iterator[None]:
    """What is traced inside the block, in this thread, works on parts as `layout` says."""
    token = _CURRENT.set(_Use(layout, {}) if layout is not None else None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def split_axes(dim: str) -> tuple[str, ...]:
    """The mesh axes that split `dim` of activations, and of parameters in use, where this is traced."""
    use = _CURRENT.get()
    return use.layout.axes_in_use(dim) if use is not None else ()


def place(*dims: str) -> tuple[jax.Array | int, int]:
    """Which part of a dimension that is split as `dims` are, the first one coarsest, is here: (number, count)."""
    axes = tuple(axis for dim in dims for axis in split_axes(dim))
    return (jax.lax.axis_index(axes), jax.lax.axis_size(axes)) if axes else (0, 1)


def enter(x: jax.Array, dim: str) -> jax.Array:
    """`x`, which every device has whole, before a product that makes each device's part of `dim`.

    The gradients of the parts are summed.
    """
    axes = split_axes(dim)
    return _enter(x, axes) if axes else x


def leave(x: jax.Array, dim: str) -> jax.Array:
    """The sum over the devices, after a product over each device's part of `dim`. The gradient is that of the sum."""
    axes = split_axes(dim)
    return _leave(x, axes) if axes else x


def summed(x: jax.Array, dim: str) -> jax.Array:
    """The sum over the devices that split `dim` of what each has summed over its part, whole on every one.

    What is made of it is the same on all of them: `counted_once` lets it count once. Gradients are summed as well.
    """
    return enter(leave(x, dim), dim)


def largest(x: jax.Array, dim: str) -> jax.Array:
    """The same of the largest instead of the sum, and without a gradient."""
    x, axes = jax.lax.stop_gradient(x), split_axes(dim)
    return jax.lax.pmax(x, axes) if axes else x


def counted_once(weights: jax.Array, dim: str) -> jax.Array:
    """The weights of what all devices that split `dim` have whole: kept on the first, 0 on the others."""
    index, count = place(dim)
    return weights if count == 1 else jnp.where(index == 0, weights, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _enter(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return x


_enter.defvjp(lambda x, axes: (x, None), lambda axes, _, gradient: (jax.lax.psum(gradient, axes),))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _leave(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return jax.lax.psum(x, axes)


_leave.defvjp(lambda x, axes: (jax.lax.psum(x, axes), None), lambda axes, _, gradient: (gradient,))


def gathered(parameter: jax.Array, dims: tuple[str, ...]) -> jax.Array:
    """A parameter put together along the dimensions that it is split over only to be stored.

    The gradient is summed over the devices in float32 at least, and each keeps its part.

    Args:
      parameter: the own part; of scanned layers that of one layer, which the scan has cut out.
      dims: the names of its dimensions.
    """
    if (use := _CURRENT.get()) is None:
        return parameter
    part, known = use.gathered.get(id(parameter), (None, None))
    if part is parameter and known is not None:
        return known
    assert parameter.ndim == len(dims), (parameter.shape, dims)
    whole = parameter
    for axis, dim in enumerate(dims):
        if axes := use.layout.stored_axes(dim, dims):
            whole = _gather(whole, axes, axis)
    use.gathered[id(parameter)] = (parameter, whole)
    return whole


def parameters_are_gathered() -> bool:
    """Whether `gathered` does anything to matrices where this is traced."""
    use = _CURRENT.get()
    return use is not None and any(use.layout.stored_axes(dim, ("", "")) for dim in use.layout.table if dim != "rows")


def save_all_but_gathered(primitive: Any, *_: Any, **params: Any) -> bool:
    """A policy for `jax.checkpoint`: the backward pass gathers parameters again, and computes nothing else again."""
    return primitive is not jax.lax.all_gather_p or params["axis_name"] == split_axes("length")


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x: jax.Array, axes: tuple[str, ...], axis: int) -> jax.Array:
    return jax.lax.all_gather(x, axes, axis=axis, tiled=True)


def _scatter(axes: tuple[str, ...], axis: int, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    wide = gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32))
    part = jax.lax.psum_scatter(wide, axes, scatter_dimension=axis, tiled=True)
    return (part.astype(gradient.dtype),)


def _gather_forward(x: jax.Array, axes: tuple[str, ...], axis: int) -> tuple[jax.Array, None]:
    return jax.lax.all_gather(x, axes, axis=axis, tiled=True), None


_gather.defvjp(_gather_forward, _scatter)


# A sequence that is split over devices.


def whole_length(x: jax.Array) -> jax.Array:
    """[B, T'] of every device put together to [B, T]; for what has no gradient."""
    axes = split_axes("length")
    return jax.lax.all_gather(x, axes, axis=1, tiled=True) if axes else x


def exchanges_heads(num_kv_heads: int) -> bool:
    """Whether attention is to use `heads_for_length`, rather than `gathered_length`; see `Layout.exchanges_heads`."""
    use = _CURRENT.get()
    return use is None or use.layout.exchanges_heads(num_kv_heads)


def gathered_length(x: jax.Array) -> jax.Array:
    """[B, T', K, H] of every device put together to [B, T, K, H].

    The gradient is summed over the devices in float32 at least, and each keeps that of its part.
    """
    axes = split_axes("length")
    return _gather(x, axes, 1) if axes else x


def heads_for_length(x: jax.Array) -> jax.Array:
    """[B, T', N, H] to [B, T, N', H]: each device gives a part of the heads away and gets the rest of the sequence."""
    axes = split_axes("length")
    return jax.lax.all_to_all(x, axes, split_axis=2, concat_axis=1, tiled=True) if axes else x


def length_for_heads(x: jax.Array) -> jax.Array:
    """[B, T, N', H] back to [B, T', N, H]."""
    axes = split_axes("length")
    return jax.lax.all_to_all(x, axes, split_axis=1, concat_axis=2, tiled=True) if axes else x


def before(x: jax.Array) -> jax.Array | None:
    """[B, 1], the column before the own part of [B, T'], which another device has; None where sequences are whole."""
    axes = split_axes("length")
    if not axes:
        return None
    count = jax.lax.axis_size(axes)
    return jax.lax.ppermute(x[:, -1:], axes, [(i, (i + 1) % count) for i in range(count)])
