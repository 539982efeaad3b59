"""Label-smoothed cross-entropy over given logits, as sums, to be divided once by the weight of the global batch.

Not for logits that need not exist: `linear_cross_entropy` makes them a chunk at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class Row(NamedTuple):
    """What the sums need to know of a token's logits z: log-sum-exp, z at the label, mean and maximum; each [M]."""

    normaliser: jax.Array
    label: jax.Array
    mean: jax.Array
    highest: jax.Array


def at_labels(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """[M], the entry of each row of [M, V] that its label names."""
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def _rows(logits: jax.Array, labels: jax.Array) -> Row:
    """`Row` of [M, V] float32 logits, each by its definition."""
    highest = logits.max(axis=-1)
    normaliser = highest + jnp.log(jnp.exp(logits - highest[:, None]).sum(axis=-1))
    return Row(normaliser, at_labels(logits, labels), logits.mean(axis=-1), highest)


def sums_of(row: Row, weights: jax.Array, smoothing: float) -> CrossEntropy:
    """The weighted sums over the M tokens of `row`."""
    nll = row.normaliser - row.label
    # Cross-entropy with (1 - e) * one_hot + e / V is (1 - e) * nll + e * mean over V of (normaliser - logits).
    loss = (1.0 - smoothing) * nll + smoothing * (row.normaliser - row.mean) if smoothing else nll
    correct = row.label >= row.highest
    return CrossEntropy(*((weights * value).sum() for value in (loss, nll, correct)))


def counted(x: jax.Array, weights: jax.Array) -> jax.Array:
    """`x` with zeros at tokens of weight 0, so that nothing there, infinite or not, reaches a sum or a gradient."""
    return jnp.where(weights[:, None] > 0, x, 0.0)


def weigh_classes(weights: jax.Array, labels: jax.Array, class_weights: Sequence[float] | jax.Array) -> jax.Array:
    """`weights` times the weight of each label's class, so that rare classes count for more.

    A loss with these is to be divided by their sum, as torch's `CrossEntropyLoss(weight=...)` does.

    Args:
      weights: float32 [*].
      labels: int32 [*]; anything where `weights` is 0.
      class_weights: [V].
    """
    known = jnp.where(weights > 0, labels, 0)
    return weights * jnp.asarray(class_weights, weights.dtype)[known]


def cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, *, label_smoothing: float = 0.0
) -> CrossEntropy:
    """Label-smoothed cross-entropy of given logits (Szegedy et al. 2016, section 7).

    Args:
      logits: [*, V], any floating dtype; reduced in float32.
      labels: int32 [*]; anything, such as -100, where `weights` is 0.
      weights: float32 [*], 0 where a token does not count; see `weigh_classes` for unequal classes.
      label_smoothing: mass moved from the label to all V entries equally, the label among them.

    Returns:
      The weighted sums; divide by `weights.sum()` for means.
    """
    wide = jnp.promote_types(logits.dtype, jnp.float32)  # sums over V lose digits in 16 bits
    flat = logits.reshape(-1, logits.shape[-1]).astype(wide)
    weights = weights.reshape(-1)
    known = jnp.where(weights > 0, labels.reshape(-1), 0)
    return sums_of(_rows(counted(flat, weights), known), weights, label_smoothing)
