"""The learned weights of several losses. Not for the losses (`ops`) nor for given weights (`ops.weighted_total`)."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.ops import uncertainty_total
from jaxformer.types import Mean


class LearnedWeights(nnx.Module):
    """Weighs losses by the uncertainty of each, which is learned with the rest (Kendall et al. 2018).

    Args:
      factors: by name of the part, what makes its loss a negative log-likelihood of unit scale: 1/2 for squared
        errors, 1 for cross-entropies and others; see `ops.uncertainty_total`.
    """

    def __init__(self, factors: Mapping[str, float]) -> None:
        self.factors = tuple(sorted(factors.items()))
        self.log_variances = nnx.Param(jnp.zeros(len(self.factors)), dims=("parts",))  # variances of 1

    def _by_name(self) -> dict[str, jax.Array]:
        wide = self.log_variances[...]
        wide = wide.astype(jnp.promote_types(wide.dtype, jnp.float32))
        return {name: wide[i] for i, (name, _) in enumerate(self.factors)}

    def __call__(self, parts: Mapping[str, Mean]) -> Mean:
        """The losses of all parts as one, undivided."""
        return uncertainty_total(parts, self._by_name(), dict(self.factors))

    def weights(self) -> dict[str, jax.Array]:
        """What each part's loss counts for now."""
        return {name: factor * jnp.exp(-self._by_name()[name]) for name, factor in self.factors}
