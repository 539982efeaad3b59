"""Label-smoothed cross-entropy: over given logits, and fused with the output projection that makes them.

The fused form never holds the logits of more than one chunk of tokens, and takes the gradient while a chunk's
probabilities are at hand, so that nothing is computed twice. Both forms return sums, to be divided once by the total
weight of the global batch (never a mean of means).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp


class CrossEntropy(NamedTuple):
    """Weighted sums over tokens, float32 scalars.

    Attributes:
      loss: label-smoothed cross-entropy in nats; the only part with a gradient.
      nll: negative log-likelihood of the labels in nats, without smoothing.
      correct: tokens whose label has the highest logit.
    """

    loss: jax.Array
    nll: jax.Array
    correct: jax.Array


class _Row(NamedTuple):
    """What the sums need to know of a token's logits z: log-sum-exp, z at the label, mean and maximum; each [M]."""

    normaliser: jax.Array
    label: jax.Array
    mean: jax.Array
    highest: jax.Array


def _at(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def _rows(logits: jax.Array, labels: jax.Array) -> _Row:
    """The same of [M, V] float32 logits, each by its definition."""
    highest = logits.max(axis=-1)
    normaliser = highest + jnp.log(jnp.exp(logits - highest[:, None]).sum(axis=-1))
    return _Row(normaliser, _at(logits, labels), logits.mean(axis=-1), highest)


def _sums(row: _Row, weights: jax.Array, smoothing: float) -> CrossEntropy:
    nll = row.normaliser - row.label
    # Cross-entropy with (1 - e) * one_hot + e / V is (1 - e) * nll + e * mean over V of (normaliser - logits).
    loss = (1.0 - smoothing) * nll + smoothing * (row.normaliser - row.mean) if smoothing else nll
    correct = row.label >= row.highest
    return CrossEntropy(*((weights * value).sum() for value in (loss, nll, correct)))


def _counted(x: jax.Array, weights: jax.Array) -> jax.Array:
    """`x` with zeros at tokens of weight 0, so that nothing there, infinite or not, reaches a sum or a gradient."""
    return jnp.where(weights[:, None] > 0, x, 0.0)


def cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, *, label_smoothing: float = 0.0
) -> CrossEntropy:
    """Label-smoothed cross-entropy of given logits (Szegedy et al. 2016, section 7).

    Args:
      logits: [*, V], any floating dtype; reduced in float32.
      labels: int32 [*].
      weights: float32 [*], 0 where a token does not count.
      label_smoothing: mass moved from the label to all V entries equally, the label among them.

    Returns:
      The weighted sums; divide by `weights.sum()` for means.
    """
    flat = logits.reshape(-1, logits.shape[-1]).astype(jnp.float32)  # sums over V lose digits in 16 bits
    weights = weights.reshape(-1)
    return _sums(_rows(_counted(flat, weights), labels.reshape(-1)), weights, label_smoothing)


def linear_cross_entropy(
    hidden: jax.Array,
    kernel: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    *,
    label_smoothing: float = 0.0,
    chunk: int = 512,
) -> CrossEntropy:
    """`cross_entropy(hidden @ kernel.T, ...)` without ever holding all the logits.

    Args:
      hidden: [*, D], the decoder's outputs.
      kernel: [V, D], the output embedding.
      labels: int32 [*].
      weights: float32 [*], 0 where a token does not count.
      label_smoothing: as in `cross_entropy`.
      chunk: tokens whose logits exist at a time.

    Returns:
      The weighted sums; gradients flow from `loss` to `hidden` and `kernel`.
    """
    width = hidden.shape[-1]
    weights = weights.reshape(-1).astype(jnp.float32)
    flat = (_counted(hidden.reshape(-1, width), weights), labels.reshape(-1), weights)
    tokens = weights.shape[0]
    chunk = min(chunk, tokens)
    padding = -tokens % chunk
    if padding:
        flat = jax.tree.map(lambda x: jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)), flat)
    chunks = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), flat)
    return CrossEntropy(*_fused(chunks[0], kernel, chunks[1], chunks[2], label_smoothing))


def _dot(a: jax.Array, b: jax.Array, axis_of_a: int, axis_of_b: int) -> jax.Array:
    """The product of two matrices over one axis of each, summed in float32."""
    return jax.lax.dot_general(a, b, (((axis_of_a,), (axis_of_b,)), ((), ())), preferred_element_type=jnp.float32)


def _logits(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
    return _dot(hidden, kernel, 1, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _fused(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float
) -> tuple[jax.Array, ...]:
    """The sums over hidden [C, M, D], labels and weights [C, M] (C chunks of M tokens), kernel [V, D]."""

    def body(total: tuple, part: tuple[jax.Array, ...]) -> tuple[tuple, None]:
        hidden, labels, weights = part
        sums = _sums(_rows(_logits(hidden, kernel), labels), weights, smoothing)
        return tuple(map(jnp.add, total, sums)), None

    return jax.lax.scan(body, (jnp.zeros(()),) * 3, (hidden, labels, weights))[0]


def _fused_forward(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, jax.Array]]:
    """Sums, and the gradients of `loss` to `hidden` and `kernel`, in one pass over the chunks.

    The gradient to a token's logits is w * (softmax(z) - (1 - e) * one_hot - e / V). Only softmax needs the whole row:
    exp(z - max z), computed once, serves the normaliser and both products, and it is these that are scaled by w and the
    normaliser, [M, D] instead of [M, V]. The label's part is one row of the kernel, the smoothing's the mean of them.
    """
    mean_row = kernel.astype(jnp.float32).mean(axis=0)

    def body(carry: tuple, part: tuple[jax.Array, ...]) -> tuple[tuple, jax.Array]:
        total, kernel_gradient = carry
        hidden, labels, weights = part
        logits = _logits(hidden, kernel)
        highest = logits.max(axis=-1)
        exponentials = jnp.exp(logits - highest[:, None])
        normaliser = exponentials.sum(axis=-1)
        mean = hidden.astype(jnp.float32) @ mean_row
        row = _Row(highest + jnp.log(normaliser), _at(logits, labels), mean, highest)
        exponentials, scale = exponentials.astype(kernel.dtype), (weights / normaliser)[:, None]
        kernel_gradient += _dot(exponentials, (scale * hidden).astype(hidden.dtype), 0, 0)
        wanted = (1.0 - smoothing) * kernel[labels].astype(jnp.float32) + smoothing * mean_row
        hidden_gradient = scale * _dot(exponentials, kernel, 1, 0) - weights[:, None] * wanted
        total = tuple(map(jnp.add, total, _sums(row, weights, smoothing)))
        return (total, kernel_gradient), hidden_gradient.astype(hidden.dtype)

    start = ((jnp.zeros(()),) * 3, jnp.zeros(kernel.shape, jnp.float32))
    (sums, kernel_gradient), hidden_gradient = jax.lax.scan(body, start, (hidden, labels, weights))
    weighted = (weights[..., None] * hidden.astype(jnp.float32)).reshape(-1, hidden.shape[-1])
    kernel_gradient -= smoothing / kernel.shape[0] * weighted.sum(axis=0)
    kernel_gradient = kernel_gradient.at[labels.reshape(-1)].add((smoothing - 1.0) * weighted)
    return sums, (hidden_gradient, kernel_gradient.astype(kernel.dtype))


def _fused_backward(
    smoothing: float, gradients: tuple[jax.Array, jax.Array], cotangents: tuple[jax.Array, ...]
) -> tuple[jax.Array | None, ...]:
    hidden_gradient, kernel_gradient = gradients
    scale = cotangents[0]  # of `loss`; the other sums are for reading only
    return *((scale * x).astype(x.dtype) for x in (hidden_gradient, kernel_gradient)), None, None


_fused.defvjp(_fused_forward, _fused_backward)
