"""Label-smoothed cross-entropy fused with the output projection, on one device or with operands split over a mesh.

Never more than one chunk of tokens has logits, and the gradient is taken while a chunk's probabilities are at hand, so
that nothing is computed twice. Not for logits that are there already (`cross_entropy`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxformer.ops.cross_entropy import CrossEntropy, Row, at_labels, counted, sums_of
from jaxformer.types import Shards


def linear_cross_entropy(
    hidden: jax.Array,
    kernel: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    *,
    label_smoothing: float = 0.0,
    chunk: int = 512,
    shards: Shards | None = None,
    vocabulary_axes: tuple[str, ...] = (),
) -> CrossEntropy:
    """`cross_entropy(hidden @ kernel.T, ...)` without ever holding all the logits.

    With a vocabulary that is split over devices (Shoeybi et al. 2019, section 3), each makes the logits of its own
    part, and only sums over V and gradients to `hidden` travel, [M] and [M, D] of a chunk; the kernel stays in parts.

    Args:
      hidden: [*, D], the decoder's outputs.
      kernel: [V, D], the output embedding.
      labels: int32 [*].
      weights: float32 [*], 0 where a token does not count.
      label_smoothing: as in `cross_entropy`.
      chunk: tokens whose logits exist at a time, on each device.
      shards: how rows and vocabulary are split; None leaves that to the compiler, which is right on one device.
      vocabulary_axes: inside a `shard_map`, in place of `shards`: the axes that split V, of which `kernel` is a part.

    Returns:
      The weighted sums; gradients flow from `loss` to `hidden` and `kernel`.

    Raises:
      ValueError: for a vocabulary or a batch that does not divide over the devices.
    """
    if shards is not None:
        shards.check("rows of the batch", hidden.shape[0], shards.batch)
        shards.check("pieces of the vocabulary", kernel.shape[0], shards.vocabulary)
    way = shards or vocabulary_axes
    return CrossEntropy(*_fused(hidden, kernel, labels, weights.astype(_sums_in(hidden)), label_smoothing, chunk, way))


def _sums_in(x: jax.Array) -> Any:
    """The type in which sums over `x` are kept: float32, or float64 for float64."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _dot(a: jax.Array, b: jax.Array, axis_of_a: int, axis_of_b: int) -> jax.Array:
    """The product of two matrices over one axis of each."""
    return jax.lax.dot_general(a, b, (((axis_of_a,), (axis_of_b,)), ((), ())), preferred_element_type=_sums_in(a))


def _chunks(
    hidden: jax.Array, labels: jax.Array, weights: jax.Array, chunk: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens without their weights' zeros in [C, M, D], [C, M] and [C, M]: C chunks of M tokens."""
    weights = weights.reshape(-1)
    flat = (counted(hidden.reshape(-1, hidden.shape[-1]), weights), labels.reshape(-1), weights)
    chunk = min(chunk, weights.shape[0])
    if padding := -weights.shape[0] % chunk:
        flat = jax.tree.map(lambda x: jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)), flat)
    return jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), flat)


class _Vocabulary(NamedTuple):
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
        return self.sum(self.kernel.astype(_sums_in(self.kernel)).sum(axis=0)) / self.size


class _Seen(NamedTuple):
    """A chunk's [M, V'] logits z seen once: what the sums need; exp(z - max z), [M, V']; their sum over V, [M]."""

    row: Row
    exponentials: jax.Array
    total: jax.Array


def _see(vocabulary: _Vocabulary, logits: jax.Array, labels: jax.Array, mean: jax.Array) -> _Seen:
    highest = vocabulary.max(logits.max(axis=-1))
    exponentials = jnp.exp(logits - highest[:, None])
    total = vocabulary.sum(exponentials.sum(axis=-1))
    local, own = vocabulary.place(labels)
    label = vocabulary.sum(vocabulary.only_own(own, at_labels(logits, local)[:, None])[:, 0])
    return _Seen(Row(highest + jnp.log(total), label, mean, highest), exponentials, total)


def _values(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float, chunk: int,
    batch_axes: tuple[str, ...], vocabulary_axes: tuple[str, ...],
) -> tuple[jax.Array, ...]:  # fmt: skip
    """The sums alone, of the operands as this device has them."""
    vocabulary, wide = _Vocabulary(vocabulary_axes, kernel), _sums_in(hidden)
    mean_row = vocabulary.mean_row()

    def body(total: tuple, part: tuple[jax.Array, ...]) -> tuple[tuple, None]:
        hidden, labels, weights = part
        mean = hidden.astype(wide) @ mean_row
        row = _see(vocabulary, _dot(hidden, kernel, 1, 1), labels, mean).row
        return tuple(map(jnp.add, total, sums_of(row, weights, smoothing))), None

    sums = jax.lax.scan(body, (jnp.zeros((), wide),) * 3, _chunks(hidden, labels, weights, chunk))[0]
    return jax.lax.psum(sums, batch_axes) if batch_axes else sums


def _values_and_gradients(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float, chunk: int,
    batch_axes: tuple[str, ...], vocabulary_axes: tuple[str, ...],
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, jax.Array]]:  # fmt: skip
    """Sums, and the gradients of `loss` to `hidden` and `kernel`, in one pass over the chunks.

    The gradient to a token's logits is w * (softmax(z) - (1 - e) * one_hot - e / V). Only softmax needs the whole row:
    exp(z - max z), computed once, serves the normaliser and both products, and it is these that are scaled by w and the
    normaliser, [M, D] instead of [M, V]. The label's part is one row of the kernel, the smoothing's the mean of them.
    """
    vocabulary, wide = _Vocabulary(vocabulary_axes, kernel), _sums_in(hidden)
    mean_row = vocabulary.mean_row()
    chunks = _chunks(hidden, labels, weights, chunk)

    def body(carry: tuple, part: tuple[jax.Array, ...]) -> tuple[tuple, jax.Array]:
        total, kernel_gradient = carry
        hidden, labels, weights = part
        mean = hidden.astype(wide) @ mean_row
        row, exponentials, normaliser = _see(vocabulary, _dot(hidden, kernel, 1, 1), labels, mean)
        exponentials = exponentials.astype(kernel.dtype)
        scale = (weights / normaliser)[:, None]
        kernel_gradient += _dot(exponentials, (scale * hidden).astype(hidden.dtype), 0, 0)
        local, own = vocabulary.place(labels)
        label_row = vocabulary.only_own(own, kernel[local].astype(wide))
        to_hidden = vocabulary.sum(
            scale * _dot(exponentials, kernel, 1, 0) - (1.0 - smoothing) * weights[:, None] * label_row
        )
        to_hidden -= smoothing * weights[:, None] * mean_row
        total = tuple(map(jnp.add, total, sums_of(row, weights, smoothing)))
        return (total, kernel_gradient), to_hidden.astype(_wide(hidden.dtype))

    start = ((jnp.zeros((), wide),) * 3, jnp.zeros(kernel.shape, wide))
    (sums, kernel_gradient), to_hidden = jax.lax.scan(body, start, chunks)
    weighted = (chunks[2][..., None] * chunks[0].astype(wide)).reshape(-1, hidden.shape[-1])
    kernel_gradient -= smoothing / vocabulary.size * weighted.sum(axis=0)
    local, own = vocabulary.place(chunks[1].reshape(-1))
    kernel_gradient = kernel_gradient.at[local].add(vocabulary.only_own(own, (smoothing - 1.0) * weighted))
    if batch_axes:
        sums, kernel_gradient = jax.lax.psum((sums, kernel_gradient), batch_axes)
    to_hidden = to_hidden.reshape(-1, hidden.shape[-1])[: weights.size].reshape(hidden.shape)
    return sums, (to_hidden, kernel_gradient.astype(_wide(kernel.dtype)))


def _wide(dtype: jax.typing.DTypeLike) -> Any:
    """What a gradient is kept in until the loss scale has multiplied it: float16 would round the small ones to zero."""
    return jnp.float32 if dtype == jnp.float16 else dtype


_Way = Shards | tuple[str, ...]
"""How operands are split: from outside by `Shards`, or inside a `shard_map` the axes of V."""


def _placed(function: Callable[..., Any], smoothing: float, chunk: int, shards: _Way) -> Callable[..., Any]:
    """`function` of (hidden, kernel, labels, weights), on each device with its own part of them."""
    if not isinstance(shards, Shards):
        return functools.partial(function, smoothing=smoothing, chunk=chunk, batch_axes=(), vocabulary_axes=shards)
    batch, rows, whole = P(shards.batch or None), P(shards.vocabulary or None), P()
    local = functools.partial(
        function, smoothing=smoothing, chunk=chunk, batch_axes=shards.batch, vocabulary_axes=shards.vocabulary
    )
    sums = (whole,) * 3
    out = sums if function is _values else (sums, (batch, rows))
    return jax.shard_map(
        local, mesh=shards.mesh, in_specs=(batch, rows, batch, batch), out_specs=out, check_vma=False
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _fused(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float, chunk: int,
    shards: _Way,
) -> tuple[jax.Array, ...]:  # fmt: skip
    return _placed(_values, smoothing, chunk, shards)(hidden, kernel, labels, weights)


def _fused_forward(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float, chunk: int,
    shards: _Way,
) -> tuple[tuple[jax.Array, ...], Any]:  # fmt: skip
    sums, gradients = _placed(_values_and_gradients, smoothing, chunk, shards)(hidden, kernel, labels, weights)
    return sums, (gradients, jnp.zeros(0, hidden.dtype), jnp.zeros(0, kernel.dtype))


def _fused_backward(
    smoothing: float,
    chunk: int,
    shards: _Way,
    kept: tuple[tuple[jax.Array, jax.Array], jax.Array, jax.Array],
    cotangents: tuple[jax.Array, ...],
) -> tuple[jax.Array | None, ...]:
    gradients, *like = kept
    scale = cotangents[0]  # of `loss`; the other sums are for reading only
    return *((scale * x).astype(kind.dtype) for x, kind in zip(gradients, like, strict=True)), None, None


_fused.defvjp(_fused_forward, _fused_backward)
