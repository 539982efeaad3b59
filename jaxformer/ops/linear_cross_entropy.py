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

from jaxformer.ops.cross_entropy import CrossEntropy, Row, sums_of
from jaxformer.ops.vocabulary import Seen, Vocabulary, chunks_of, dot, kept_in, see, sums_in
from jaxformer.types import Shards

LARGEST_LOGITS = 2**28
"""Bytes of logits, counted in float32, that an accelerator makes at a time."""


def linear_cross_entropy(
    hidden: jax.Array,
    kernel: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    *,
    label_smoothing: float = 0.0,
    chunk: int | None = None,
    shards: Shards | None = None,
    vocabulary_axes: tuple[str, ...] = (),
) -> CrossEntropy:
    """`cross_entropy(hidden @ kernel.T, ...)` without ever holding all the logits.

    With a vocabulary that is split over devices (Shoeybi et al. 2019, section 3), each makes the logits of its own
    part, and only sums over V and gradients to `hidden` travel, [M] and [M, D] of a chunk; the kernel stays in parts.

    Args:
      hidden: [*, D], the decoder's outputs.
      kernel: [V, D], the output embedding.
      labels: int32 [*]; anything, such as -100, where `weights` is 0.
      weights: float32 [*], 0 where a token does not count.
      label_smoothing: as in `cross_entropy`.
      chunk: tokens whose logits exist at a time, on each device; None for `suitable_chunk`.
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
    if shards is not None and shards.mesh.size == 1:
        shards = None  # the compiler would fuse the same operations otherwise, and round otherwise
    ways = _Ways(label_smoothing, chunk or _suitable_chunk(kernel), shards or vocabulary_axes)
    return CrossEntropy(*_fused(hidden, kernel, labels, weights.astype(sums_in(hidden)), ways)[:3])


def suitable_chunk(pieces: int, *, cpu: bool) -> int:
    """Tokens whose logits of so many pieces, of those that a device has of the vocabulary, are made at a time.

    A CPU holds 512 tokens' in its caches. On an accelerator each chunk takes the whole sum of the kernel's gradient
    through memory once: the more tokens, the rarer.
    """
    return 512 if cpu else max(512, LARGEST_LOGITS // (4 * pieces) // 128 * 128)


def _suitable_chunk(kernel: jax.Array) -> int:
    """The same for `kernel` [V, D] on the default device."""
    return suitable_chunk(kernel.shape[0], cpu=jax.default_backend() == "cpu")


class RDrop(NamedTuple):
    """Weighted sums over tokens, float32 scalars; see `CrossEntropy`.

    Attributes:
      loss: the mean of both passes' label-smoothed cross-entropies, plus what their difference costs.
      nll, correct: means over both passes.
      divergence: the mean of KL(p || q) and KL(q || p) in nats, p and q being what the two passes predict.
    """

    loss: jax.Array
    nll: jax.Array
    correct: jax.Array
    divergence: jax.Array


def r_drop_cross_entropy(
    first: jax.Array,
    second: jax.Array,
    kernel: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    *,
    alpha: float,
    label_smoothing: float = 0.0,
    chunk: int | None = None,
    vocabulary_axes: tuple[str, ...] = (),
) -> RDrop:
    """R-Drop (Liang et al. 2021, equation 4), fused with the output projection as in `linear_cross_entropy`.

    Two passes of the same tokens with different dropout are to predict the same. The paper's loss, the sum of the
    passes' cross-entropies plus alpha times the divergence, is halved here, so that it compares with that of one pass.

    Args:
      first, second: [*, D], the decoder's outputs of the two passes.
      kernel: [V, D], the output embedding.
      labels: int32 [*]; anything, such as -100, where `weights` is 0.
      weights: float32 [*], 0 where a token does not count.
      alpha: weight of the divergence, greater than 0; the paper's is 5 for translation.
      label_smoothing: as in `cross_entropy`.
      chunk: tokens whose logits of both passes exist at a time; None for half of what suits the device for one pass.
      vocabulary_axes: inside a `shard_map`: the axes that split V, of which `kernel` is a part.

    Returns:
      The weighted sums; gradients flow from `loss` to `first`, `second` and `kernel`.
    """
    tokens = weights.size
    chunk = max(1, min(chunk or _suitable_chunk(kernel) // 2, tokens))

    def side_by_side(first: jax.Array, second: jax.Array, *rest: int) -> jax.Array:
        """Both passes of a chunk, then those of the next."""
        both = jnp.stack([first.reshape(tokens, *rest), second.reshape(tokens, *rest)])
        both = jnp.pad(both, [(0, 0), (0, -tokens % chunk)] + [(0, 0)] * len(rest))
        return jnp.swapaxes(both.reshape(2, -1, chunk, *rest), 0, 1).reshape(-1, *rest)

    halves = weights.astype(sums_in(first)) / 2
    ways = _Ways(label_smoothing, 2 * chunk, vocabulary_axes, alpha / 2)
    hidden = side_by_side(first, second, first.shape[-1])
    return RDrop(*_fused(hidden, kernel, side_by_side(labels, labels), side_by_side(halves, halves), ways))


class _Ways(NamedTuple):
    """How the sums are taken.

    Attributes:
      smoothing: of labels.
      chunk: tokens at a time.
      shards: how operands are split: from outside by `Shards`, or inside a `shard_map` the axes of V.
      agreement: weight of the divergence; if not 0, the second half of every chunk repeats the tokens of the first.
    """

    smoothing: float
    chunk: int
    shards: Shards | tuple[str, ...]
    agreement: float = 0.0


def _twin(x: jax.Array) -> jax.Array:
    """[M, ...] with its halves exchanged: at each token, what its other pass has."""
    return jnp.roll(x, x.shape[0] // 2, axis=0)


def _difference(vocabulary: Vocabulary, logits: jax.Array, seen: Seen) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of p, the softmax of logits z, and the logits y of its twin: p, z - y, and the sum over V of p (z - y), [M].

    The third, summed over a token and its twin, is KL(p || q) + KL(q || p): the normalisers of both cancel.
    """
    p, apart = seen.exponentials / seen.total[:, None], logits - _twin(logits)
    return p, apart, vocabulary.sum((p * apart).sum(axis=-1))


def _sums(row: Row, weights: jax.Array, ways: _Ways, apart: jax.Array | float) -> tuple[jax.Array, ...]:
    """Of a chunk: those of `CrossEntropy`, the divergence in `loss`, and the divergence alone."""
    loss, *rest = sums_of(row, weights, ways.smoothing)
    divergence = (weights * apart).sum()
    return loss + ways.agreement * divergence, *rest, divergence


def _values(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, *, ways: _Ways,
    batch_axes: tuple[str, ...], vocabulary_axes: tuple[str, ...],
) -> tuple[jax.Array, ...]:  # fmt: skip
    """The sums alone, of the operands as this device has them."""
    vocabulary, wide = Vocabulary(vocabulary_axes, kernel), sums_in(hidden)
    mean_row = vocabulary.mean_row()

    def body(total: tuple, part: tuple[jax.Array, ...]) -> tuple[tuple, None]:
        hidden, labels, weights = part
        logits = dot(hidden, kernel, 1, 1)
        seen = see(vocabulary, logits, labels, hidden.astype(wide) @ mean_row)
        apart = _difference(vocabulary, logits, seen)[2] if ways.agreement else 0.0
        return tuple(map(jnp.add, total, _sums(seen.row, weights, ways, apart))), None

    sums = jax.lax.scan(body, (jnp.zeros((), wide),) * 4, chunks_of(hidden, labels, weights, ways.chunk))[0]
    return jax.lax.psum(sums, batch_axes) if batch_axes else sums


def _values_and_gradients(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, *, ways: _Ways,
    batch_axes: tuple[str, ...], vocabulary_axes: tuple[str, ...],
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, jax.Array]]:  # fmt: skip
    """Sums, and the gradients of `loss` to `hidden` and `kernel`, in one pass over the chunks.

    The gradient to a token's logits is w * (softmax(z) - (1 - e) * one_hot - e / V). Only softmax needs the whole row:
    exp(z - max z), computed once, serves the normaliser and both products, and it is these that are scaled by w and the
    normaliser, [M, D] instead of [M, V]. The label's part is one row of the kernel, the smoothing's the mean of them.

    The kernel's gradient is summed as [D, V]: a CPU takes that product in half the time of [V, D].

    With twins, softmax's p becomes p + a * (p - q + p * (z - y - sum of p (z - y))), q and y being the twin's.
    """
    vocabulary, wide, smoothing = Vocabulary(vocabulary_axes, kernel), sums_in(hidden), ways.smoothing
    mean_row = vocabulary.mean_row()
    chunks = chunks_of(hidden, labels, weights, ways.chunk)

    def body(carry: tuple, part: tuple[jax.Array, ...]) -> tuple[tuple, jax.Array]:
        total, kernel_gradient = carry
        hidden, labels, weights = part
        logits = dot(hidden, kernel, 1, 1)
        seen = see(vocabulary, logits, labels, hidden.astype(wide) @ mean_row)
        apart: jax.Array | float = 0.0
        if ways.agreement:
            p, difference, apart = _difference(vocabulary, logits, seen)
            slope = p * (1.0 + ways.agreement * (1.0 + difference - apart[:, None])) - ways.agreement * _twin(p)
            scale = weights[:, None]
        else:
            slope, scale = seen.exponentials, (weights / seen.total)[:, None]
        slope = slope.astype(kernel.dtype)
        kernel_gradient += dot((scale * hidden).astype(hidden.dtype), slope, 0, 0)
        local, own = vocabulary.place(labels)
        label_row = vocabulary.only_own(own, kernel[local].astype(wide))
        to_hidden = vocabulary.sum(
            scale * dot(slope, kernel, 1, 0) - (1.0 - smoothing) * weights[:, None] * label_row
        )
        to_hidden -= smoothing * weights[:, None] * mean_row
        total = tuple(map(jnp.add, total, _sums(seen.row, weights, ways, apart)))
        return (total, kernel_gradient), to_hidden.astype(kept_in(hidden.dtype))

    start = ((jnp.zeros((), wide),) * 4, jnp.zeros(kernel.shape[::-1], wide))
    (sums, kernel_gradient), to_hidden = jax.lax.scan(body, start, chunks)
    weighted = (chunks[2][..., None] * chunks[0].astype(wide)).reshape(-1, hidden.shape[-1])
    kernel_gradient = kernel_gradient.T - smoothing / vocabulary.size * weighted.sum(axis=0)
    local, own = vocabulary.place(chunks[1].reshape(-1))
    kernel_gradient = kernel_gradient.at[local].add(vocabulary.only_own(own, (smoothing - 1.0) * weighted))
    if batch_axes:
        sums, kernel_gradient = jax.lax.psum((sums, kernel_gradient), batch_axes)
    to_hidden = to_hidden.reshape(-1, hidden.shape[-1])[: weights.size].reshape(hidden.shape)
    return sums, (to_hidden, kernel_gradient.astype(kept_in(kernel.dtype)))


def _placed(function: Callable[..., Any], ways: _Ways) -> Callable[..., Any]:
    """`function` of (hidden, kernel, labels, weights), on each device with its own part of them."""
    shards = ways.shards
    if not isinstance(shards, Shards):
        return functools.partial(function, ways=ways, batch_axes=(), vocabulary_axes=shards)
    batch, rows, whole = P(shards.batch or None), P(shards.vocabulary or None), P()
    local = functools.partial(function, ways=ways, batch_axes=shards.batch, vocabulary_axes=shards.vocabulary)
    sums = (whole,) * 4
    out = sums if function is _values else (sums, (batch, rows))
    return jax.shard_map(
        local, mesh=shards.mesh, in_specs=(batch, rows, batch, batch), out_specs=out, check_vma=False
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _fused(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, ways: _Ways
) -> tuple[jax.Array, ...]:
    return _placed(_values, ways)(hidden, kernel, labels, weights)


def _fused_forward(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, ways: _Ways
) -> tuple[tuple[jax.Array, ...], Any]:
    sums, gradients = _placed(_values_and_gradients, ways)(hidden, kernel, labels, weights)
    return sums, (gradients, jnp.zeros(0, hidden.dtype), jnp.zeros(0, kernel.dtype))


def _fused_backward(
    ways: _Ways, kept: tuple[tuple[jax.Array, jax.Array], jax.Array, jax.Array], cotangents: tuple[jax.Array, ...]
) -> tuple[jax.Array | None, ...]:
    gradients, *like = kept
    scale = cotangents[0]  # of `loss`; the other sums are for reading only
    return *((scale * x).astype(kind.dtype) for x, kind in zip(gradients, like, strict=True)), None, None


_fused.defvjp(_fused_forward, _fused_backward)
