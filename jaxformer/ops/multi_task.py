"""Several losses as one, still undivided: with given weights, or with weights that are learned.

The parts may count different places (every residue has a label of one kind, few of another). Their sum is divided once,
by the mean of the parts' weights, since a step divides once whatever its devices and micro-batches: a part with half as
many labels as the others counts half as much.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxformer.types import Mean


def weighted_total(parts: Mapping[str, Mean], weights: Mapping[str, float]) -> Mean:
    """The sum of the parts' sums, each times its weight, over the mean of the parts' own weights.

    Args:
      parts: the loss of each part.
      weights: factors, of the same names.
    """
    total = sum(weights[name] * part.sum for name, part in parts.items())
    return Mean(total, sum(part.weight for part in parts.values()) / len(parts))


def uncertainty_total(
    parts: Mapping[str, Mean], log_variances: Mapping[str, jax.Array], factors: Mapping[str, float]
) -> Mean:
    """The sum over parts of f * exp(-s) * loss + s / 2, with s the logarithm of a variance that is learned.

    It is the negative log-likelihood of independent parts whose noise is the same everywhere (Kendall et al. 2018,
    equations 7 and 10): what is predicted badly weighs little, and s / 2 keeps the variance from growing for ever.
    Where s is at its best, a part counts for 1 / (2 loss), whatever its f is.

    Of absolute errors, and of quantiles, it is half of that: a Laplace distribution has |e| / b + log(2 b), whose half
    is exp(-s) |e| + s / 2 with b = exp(s) / 2. The half lets them count by the same rule as other parts.

    Args:
      parts: the loss of each part.
      log_variances: s, scalars of the same names.
      factors: f: 1/2 for squared errors, 1 for cross-entropies, absolute errors and quantiles.
    """

    def likelihood(name: str) -> jax.Array:
        s, part = log_variances[name], parts[name]
        return factors[name] * jnp.exp(-s) * part.sum + 0.5 * s * part.weight

    total = sum(likelihood(name) for name in parts)
    return Mean(total, sum(part.weight for part in parts.values()) / len(parts))
