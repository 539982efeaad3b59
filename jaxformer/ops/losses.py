"""Losses of numbers and of yes-or-no labels, as weighted sums, to be divided once by the weight of the global batch.

Where `weights` is 0 nothing counts: neither predictions nor targets there, infinite or not a number, reach a sum or a
gradient. 16-bit inputs are summed in float32. Not for classes of which one is right: `cross_entropy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class BinaryCrossEntropy(NamedTuple):
    """Weighted sums, float32 scalars.

    Attributes:
      loss: cross-entropy in nats; the only part with a gradient.
      correct: predictions on the right side of a half.
    """

    loss: jax.Array
    correct: jax.Array


def binary_cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, *, positive_weight: float | jax.Array = 1.0
) -> BinaryCrossEntropy:
    """Cross-entropy of yes-or-no labels (Bishop 2006, equation 4.90), of each by itself.

    Args:
      logits: [*], any floating dtype; above 0 means yes.
      labels: [*], 1 for yes and 0 for no, or a probability.
      weights: float32 [*].
      positive_weight: what a yes counts for, where it is rarer than a no: scalar, or one for each of the last
        dimension.

    Returns:
      The weighted sums; divide by `weights.sum()` for means.
    """
    logits, labels = _counted(weights, logits, labels)
    loss = positive_weight * labels * jax.nn.softplus(-logits) + (1.0 - labels) * jax.nn.softplus(logits)
    correct = (logits > 0) == (labels > 0.5)
    return BinaryCrossEntropy((weights * loss).sum(), (weights * correct).sum())


def multi_label_cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, *, positive_weights: float | jax.Array = 1.0
) -> BinaryCrossEntropy:
    """Cross-entropy of labels of which any number may be right, a mean over the E that there are.

    Args:
      logits: [*, E], any floating dtype.
      labels: [*, E], of 1 and 0.
      weights: float32 [*]. (Where some of the E are unknown, `binary_cross_entropy` takes a weight for each.)
      positive_weights: what a yes counts for: scalar, or [E].

    Returns:
      The weighted sums; `correct` counts those of which all E are right. Divide by `weights.sum()` for means.
    """
    each = jnp.broadcast_to(weights[..., None], logits.shape)
    logits, labels = _counted(each, logits, labels)
    loss = positive_weights * labels * jax.nn.softplus(-logits) + (1.0 - labels) * jax.nn.softplus(logits)
    correct = ((logits > 0) == (labels > 0.5)).all(axis=-1)
    return BinaryCrossEntropy((weights * loss.mean(axis=-1)).sum(), (weights * correct).sum())


def squared_error(predictions: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum of squared errors: of MSE, once divided by `weights.sum()`.

    Args:
      predictions, targets: [*], any floating dtype.
      weights: float32 [*].

    Returns:
      A float32 scalar.
    """
    predictions, targets = _counted(weights, predictions, targets)
    return (weights * (predictions - targets) ** 2).sum()


def absolute_error(predictions: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum of absolute errors: of MAE, once divided; arguments as of `squared_error`."""
    predictions, targets = _counted(weights, predictions, targets)
    return (weights * jnp.abs(predictions - targets)).sum()


def huber_loss(predictions: jax.Array, targets: jax.Array, weights: jax.Array, *, delta: float = 1.0) -> jax.Array:
    """Weighted sum of e**2 / 2 for errors e up to `delta`, and of delta * (e - delta / 2) beyond (Huber 1964).

    Args:
      predictions, targets: [*], any floating dtype.
      weights: float32 [*].
      delta: from which error on the loss grows linearly, in the unit of the targets.

    Raises:
      ValueError: for a `delta` that is not positive.
    """
    if not delta > 0:
        raise ValueError(f"delta of the Huber loss must be greater than 0, got {delta}")
    predictions, targets = _counted(weights, predictions, targets)
    error = jnp.abs(predictions - targets)
    small = jnp.minimum(error, delta)
    return (weights * (0.5 * small**2 + delta * (error - small))).sum()


def quantile_loss(
    predictions: jax.Array, targets: jax.Array, weights: jax.Array, *, quantiles: Sequence[float]
) -> jax.Array:
    """Weighted sum of the pinball loss (Koenker and Bassett 1978), a mean over the Q quantiles.

    Its minimum is where a share q of the targets lies below the prediction of quantile q.

    Args:
      predictions: [*, Q], any floating dtype.
      targets: [*].
      weights: float32 [*].
      quantiles: the Q shares, each between 0 and 1.

    Raises:
      ValueError: for shares that are none, or not as many as predictions.
    """
    if not quantiles or not all(0.0 < q < 1.0 for q in quantiles):
        raise ValueError(f"quantiles must be numbers between 0 and 1, got {tuple(quantiles)}")
    if predictions.shape[-1] != len(quantiles):
        raise ValueError(f"{predictions.shape[-1]} predictions a target do not fit {len(quantiles)} quantiles")
    each = jnp.broadcast_to(weights[..., None], predictions.shape)
    predictions, targets = _counted(each, predictions, jnp.broadcast_to(targets[..., None], predictions.shape))
    share, error = jnp.asarray(quantiles, predictions.dtype), targets - predictions
    return (weights * jnp.maximum(share * error, (share - 1.0) * error).mean(axis=-1)).sum()


def _counted(weights: jax.Array, predictions: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both in float32 at least, with zeros where `weights` is 0.

    Raises:
      ValueError: for shapes that differ: broadcast, [B, 1] against [B] would compare every row with every other.
    """
    if not jnp.shape(predictions) == jnp.shape(targets) == jnp.shape(weights):
        raise ValueError(
            f"predictions {jnp.shape(predictions)}, targets {jnp.shape(targets)} and weights {jnp.shape(weights)} "
            "must have one shape: reshape them so that each prediction stands at its target"
        )

    def counted(x: jax.Array) -> jax.Array:
        return jnp.where(weights > 0, x.astype(jnp.promote_types(x.dtype, jnp.float32)), 0.0)

    return counted(jnp.asarray(predictions)), counted(jnp.asarray(targets))
