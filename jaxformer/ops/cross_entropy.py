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


def _sums(logits: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float) -> tuple[CrossEntropy, jax.Array]:
    """The sums over [M, V] float32 logits, and the log-normaliser [M] that a gradient needs."""
    highest = logits.max(axis=-1)
    normaliser = highest + jnp.log(jnp.exp(logits - highest[:, None]).sum(axis=-1))
    label_logits = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    nll = normaliser - label_logits
    loss = nll
    if smoothing:
        # Cross-entropy with (1 - e) * one_hot + e / V is (1 - e) * nll + e * mean over V of (normaliser - logits).
        loss = (1.0 - smoothing) * nll + smoothing * (normaliser - logits.mean(axis=-1))
    loss, nll = ((weights * value).sum() for value in (loss, nll))
    correct = (weights * (label_logits >= highest)).sum()
    return CrossEntropy(loss, nll, correct), normaliser


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
    return _sums(_counted(flat, weights), labels.reshape(-1), weights, label_smoothing)[0]


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


def _logits(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.dot_general(hidden, kernel, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _fused(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float
) -> tuple[jax.Array, ...]:
    """The sums over hidden [C, M, D], labels and weights [C, M] (C chunks of M tokens), kernel [V, D]."""

    def body(total: tuple, part: tuple[jax.Array, ...]) -> tuple[tuple, None]:
        sums, _ = _sums(_logits(part[0], kernel), part[1], part[2], smoothing)
        return tuple(map(jnp.add, total, sums)), None

    return jax.lax.scan(body, (jnp.zeros(()),) * 3, (hidden, labels, weights))[0]


def _fused_forward(
    hidden: jax.Array, kernel: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, jax.Array]]:
    """Sums, and the gradients of `loss` to `hidden` and `kernel`, in one pass over the chunks."""
    vocabulary = kernel.shape[0]

    def body(carry: tuple, part: tuple[jax.Array, ...]) -> tuple[tuple, jax.Array]:
        total, kernel_gradient = carry
        hidden, labels, weights = part
        logits = _logits(hidden, kernel)
        sums, normaliser = _sums(logits, labels, weights, smoothing)
        probabilities = jnp.exp(logits - normaliser[:, None])
        is_label = jnp.arange(vocabulary, dtype=labels.dtype) == labels[:, None]
        wanted = jnp.where(is_label, 1.0 - smoothing + smoothing / vocabulary, smoothing / vocabulary)
        gradient = (weights[:, None] * (probabilities - wanted)).astype(kernel.dtype)
        hidden_gradient = jax.lax.dot(gradient, kernel, preferred_element_type=jnp.float32)
        kernel_gradient += jax.lax.dot_general(
            gradient, hidden, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32
        )
        return (tuple(map(jnp.add, total, sums)), kernel_gradient), hidden_gradient.astype(hidden.dtype)

    start = ((jnp.zeros(()),) * 3, jnp.zeros(kernel.shape, jnp.float32))
    (sums, kernel_gradient), hidden_gradient = jax.lax.scan(body, start, (hidden, labels, weights))
    return sums, (hidden_gradient, kernel_gradient.astype(kernel.dtype))


def _fused_backward(
    smoothing: float, gradients: tuple[jax.Array, jax.Array], cotangents: tuple[jax.Array, ...]
) -> tuple[jax.Array | None, ...]:
    hidden_gradient, kernel_gradient = gradients
    scale = cotangents[0]  # of `loss`; the other sums are for reading only
    return *((scale * x).astype(x.dtype) for x in (hidden_gradient, kernel_gradient)), None, None


_fused.defvjp(_fused_forward, _fused_backward)
