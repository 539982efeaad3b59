"""Pieces of the cross-entropies that are fused with the output projection: chunks of tokens, a vocabulary in parts.

Not for losses: `linear_cross_entropy` and `r_drop` put these together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.ops.cross_entropy import Row, at_labels, counted


def sums_in(x: jax.Array) -> Any:
    """The type in which sums over `x` are kept: float32, or float64 for float64."""
    return jnp.promote_types(x.dtype, jnp.float32)


def dot(a: jax.Array, b: jax.Array, axis_of_a: int, axis_of_b: int) -> jax.Array:
    """The product of two matrices over one axis of each."""
    return jax.lax.dot_general(a, b, (((axis_of_a,), (axis_of_b,)), ((), ())), preferred_element_type=sums_in(a))


def chunks_of(
    hidden: jax.Array, labels: jax.Array, weights: jax.Array, chunk: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens without their weights' zeros in [C, M, D], [C, M] and [C, M]: C chunks of M tokens, at most `chunk`."""
    weights = weights.reshape(-1)
    known = jnp.where(weights > 0, labels.reshape(-1), 0)  # others may be outside of V, where nothing can be looked up
    flat = (counted(hidden.reshape(-1, hidden.shape[-1]), weights), known, weights)
    # As few chunks, and as few tokens that only fill them up, as multiples of 64 allow.
    even = -(-weights.shape[0] // max(1, -(-weights.shape[0] // chunk)))
    chunk = max(1, min(chunk, weights.shape[0], -(-even // 64) * 64))  # of no tokens, no chunks
    if padding := -weights.shape[0] % chunk:
        flat = jax.tree.map(lambda x: jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)), flat)
    return jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), flat)


class Vocabulary(NamedTuple):
    """The part of the vocabulary that this device has: reductions over V, and where labels are in it.

    Attributes:
      axes: of the mesh, that split V; none where V is whole.
      kernel: [V', D], the own part.
    """

    axes: tuple[str, ...]
    kernel: jax.Array

    def sum(self, x: jax.Array) -> jax.Array:
        """Over the parts."""
        return jax.lax.psum(x, self.axes) if self.axes else x

    def max(self, x: jax.Array) -> jax.Array:
        """Over the parts."""
        return jax.lax.pmax(x, self.axes) if self.axes else x

    @property
    def size(self) -> int:
        """V."""
        return self.kernel.shape[0] * (jax.lax.axis_size(self.axes) if self.axes else 1)

    def place(self, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The rows of `labels` in the own part, 0 for others; and whether they are in it."""
        if not self.axes:
            return labels, jnp.ones(labels.shape, bool)
        local = labels - jax.lax.axis_index(self.axes) * self.kernel.shape[0]
        own = (local >= 0) & (local < self.kernel.shape[0])
        return jnp.where(own, local, 0), own

    def only_own(self, own: jax.Array, x: jax.Array) -> jax.Array:
        """`x` [M, D] with zeros where a label belongs to another part."""
        return jnp.where(own[:, None], x, 0.0) if self.axes else x

    def mean_row(self) -> jax.Array:
        """[D], the mean of all V rows."""
        return self.sum(self.kernel.astype(sums_in(self.kernel)).sum(axis=0)) / self.size


class Seen(NamedTuple):
    """A chunk's [M, V'] logits z seen once: what the sums need; exp(z - max z), [M, V']; their sum over V, [M]."""

    row: Row
    exponentials: jax.Array
    total: jax.Array


def see(vocabulary: Vocabulary, logits: jax.Array, labels: jax.Array, mean: jax.Array) -> Seen:
    """A chunk's logits [M, V'], their labels [M] and means over V [M], seen once."""
    highest = vocabulary.max(logits.max(axis=-1))
    exponentials = jnp.exp(logits - highest[:, None])
    total = vocabulary.sum(exponentials.sum(axis=-1))
    local, own = vocabulary.place(labels)
    label = vocabulary.sum(vocabulary.only_own(own, at_labels(logits, local)[:, None])[:, 0])
    return Seen(Row(highest + jnp.log(total), label, mean, highest), exponentials, total)


def kept_in(dtype: jax.typing.DTypeLike) -> Any:
    """What a gradient is kept in until the loss scale has multiplied it: float16 would round the small ones to zero."""
    return jnp.float32 if dtype == jnp.float16 else dtype
