"""Dropout whose mask is a hash of (seed, element index): cheap, never stored, the same on any sharding.

A counter-based generator of cryptographic descent (threefry) costs ten times as much on a CPU as the hash here, and
dropout needs no more than a well-mixed bit a place. Not for anything that needs strong randomness.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Parts = tuple[tuple[jax.Array | int, int], ...]
"""For each of some dimensions, which part of it this is and how many there are: (number, count)."""


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 with full avalanche ("lowbias32", C. Wellons, 2018; bias 0.17)."""
    # A seed that is a constant inside jit is an array of numpy's. `x ^= ...` would change that in place, so that the
    # backward pass drops something else; and numpy warns of overflow. Hence no `^=`, and a function of lax's first.
    x = jax.lax.bitwise_xor(x, x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> 15)
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def fold_seed(seed: jax.Array | None, data: int | jax.Array) -> jax.Array | None:
    """A seed for the place numbered `data`, independent of the others'; `None` (no dropout) stays `None`.

    Args:
      seed: uint32, one or one for each row; or None.
      data: number of the layer, site or step; an integer or several, which broadcast with the seeds.

    Returns:
      uint32, or None.
    """
    if seed is None:
        return None
    return _mix(_mix(jnp.asarray(seed, jnp.uint32)) + jnp.asarray(data).astype(jnp.uint32) * np.uint32(0x9E3779B9))


def row_seeds(seed: jax.Array, batch: int) -> jax.Array:
    """uint32 [B], a seed for every row of a batch.

    What a row drops then depends on its number alone: not on the device or the micro-batch that it is in.

    Args:
      seed: uint32 scalar, or what this function returned.
      batch: B.
    """
    seed = jnp.asarray(seed, jnp.uint32)
    if seed.ndim:
        return seed
    folded = fold_seed(seed, jnp.arange(batch))
    assert folded is not None
    return folded


def head_seeds(seed: jax.Array, batch: int, heads: int) -> jax.Array:
    """uint32 [B, N], a seed for the attention weights of every row and head.

    Each of these has a mask of its own, whatever device it is on: splitting rows and heads splits the seeds with them.

    Args:
      seed: uint32 scalar, [B] as of `row_seeds`, or what this function returned.
      batch: B.
      heads: N.
    """
    seed = jnp.asarray(seed, jnp.uint32)
    if seed.ndim == 2:
        return seed
    folded = fold_seed(row_seeds(seed, batch)[:, None], jnp.arange(heads))
    assert folded is not None
    return folded


def _random_bits(seed: jax.Array, indices: Sequence[jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """uint32: the hash of the row-major index in `shape`; arrays over 2**32 elements mix rows as well."""
    counter = jnp.zeros((), jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        # Strides beyond 32 bits wrap; an odd multiplier keeps such rows apart all the same.
        step = np.uint32(stride % 2**32) if stride < 2**32 else np.uint32(0x9E3779B1 + 2 * axis)
        counter += indices[axis].astype(jnp.uint32) * step
        stride *= shape[axis]
    return _mix(counter ^ seed)


def keep_at(seed: jax.Array, indices: Sequence[jax.Array], shape: tuple[int, ...], rate: float) -> jax.Array:
    """What `keep_mask(seed, shape, rate)` holds at some places, without making the rest of it.

    Args:
      seed: uint32, one or several that broadcast with the indices.
      indices: an integer array for each axis of `shape`, which broadcast together; beyond `shape` they mean nothing.
      shape: of the whole mask of one seed.
      rate: in (0, 1).

    Returns:
      bool, in the shape to which the indices broadcast.
    """
    return _random_bits(_mix(seed), indices, shape) >= np.uint32(min(round(rate * 2**32), 2**32 - 1))


def keep_mask(
    seed: jax.Array, shape: tuple[int, ...], rate: float, parts: Parts = (), first: jax.Array | None = None
) -> jax.Array:
    """bool `shape`: True, with probability `1 - rate`, where an element survives; a pure function of its arguments.

    A seed with dimensions, the leading ones of `shape`, gives each of its elements a mask over the rest of `shape`.

    Args:
      seed: uint32, one or several.
      shape: that the mask has.
      rate: in (0, 1).
      parts: see `dropout`.
      first: see `dropout`.
    """
    own = shape[seed.ndim :]
    indices = [jax.lax.broadcasted_iota(jnp.uint32, own, axis) for axis in range(len(own))]
    whole = list(own)
    for axis, (index, count) in enumerate(parts, start=len(own) - len(parts)):
        if count > 1:
            indices[axis] += jnp.asarray(index).astype(jnp.uint32) * np.uint32(own[axis])
            whole[axis] *= count
    if first is not None:  # of how many rows does not matter: the index of an element is row-major
        indices[0] += first.astype(jnp.uint32)
    return keep_at(seed.reshape(*seed.shape, *(1,) * len(own)), indices, tuple(whole), rate)


_Places = tuple[tuple[jax.Array | int, ...], jax.Array | None]  # numbers of the parts, and of the first row


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _dropout(x: jax.Array, rate: float, counts: tuple[int, ...], seed: jax.Array, places: _Places) -> jax.Array:
    kept = keep_mask(seed, x.shape, rate, tuple(zip(places[0], counts, strict=True)), places[1])
    return jnp.where(kept, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), 0)


def _forward(
    x: jax.Array, rate: float, counts: tuple[int, ...], seed: jax.Array, places: _Places
) -> tuple[jax.Array, Any]:
    return _dropout(x, rate, counts, seed, places), (seed, places)


def _backward(rate: float, counts: tuple[int, ...], kept: Any, gradient: jax.Array) -> tuple[Any, ...]:
    return _dropout(gradient, rate, counts, *kept), None, None  # the mask is made again, not kept


_dropout.defvjp(_forward, _backward)


def dropout(
    x: jax.Array, rate: float, seed: jax.Array | None, parts: Parts = (), *, first: jax.Array | None = None
) -> jax.Array:
    """Zeroes elements with probability `rate` and scales the rest by `1 / (1 - rate)` (Srivastava et al. 2014).

    Args:
      x: any shape, floating.
      rate: in [0, 1); 0 returns `x`.
      seed: uint32 that decides the mask, see `keep_mask`; None returns `x` (evaluation).
      parts: where the last dimensions of `x` are parts of longer ones: (number, how many equal parts) of each. The
        parts together then lose what the whole would.
      first: int32 [1] where `x` is some of the rows of longer arrays, the rows being the first dimension that a mask of
        a seed has: the number of the first of them. They then lose what they would there.

    Returns:
      The shape and dtype of `x`.
    """
    if rate == 0.0 or seed is None:
        return x
    if not 0.0 < rate < 1.0:
        raise ValueError(f"dropout rate must be at least 0 and less than 1, got {rate}")
    places, counts = tuple(index for index, _ in parts), tuple(count for _, count in parts)
    return _dropout(x, rate, counts, jnp.asarray(seed, jnp.uint32), (places, first))
