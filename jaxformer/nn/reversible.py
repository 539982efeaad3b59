"""Each row of a series in units of its own: subtract its mean, divide by its deviation, and undo that in the forecast.

Levels and spreads that drift then mean nothing to the network (Kim et al. 2022, equations 1 and 2, without the learned
scale). Not for standardising a data set, whose statistics are of its training period (the data's part).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.parallel.sharding import summed
from jaxformer.types import Series

_LEAST_VARIANCE = 1e-5
"""Added to the variance, so that a row of equal numbers is one of zeros; Kim et al. take the same."""


class Units(NamedTuple):
    """Of each row, float32 at least: `mean` [B, 1, 1] and `deviation` [B, 1, 1] of its numbers."""

    mean: jax.Array
    deviation: jax.Array

    def restored(self, outputs: jax.Array) -> jax.Array:
        """Outputs [B, T, E] in units of the row as numbers of the series."""
        return outputs * self.deviation + self.mean


def in_own_units(inputs: Series) -> tuple[Series, Units]:
    """Rows [B, S, C] of one sequence each, such as patches of a channel, in units of their own; and the units.

    A step that is in two patches, where these overlap, counts twice. Padding becomes zeros.
    """
    values = jnp.asarray(inputs.values)
    real = jnp.asarray(inputs.segment_ids)[..., None] != 0
    wide = jnp.where(real, values.astype(jnp.promote_types(values.dtype, jnp.float32)), 0)

    def total(x: jax.Array) -> jax.Array:
        return summed(x.sum(axis=(1, 2), keepdims=True), "length")

    count = jnp.maximum(total(jnp.broadcast_to(real, wide.shape).astype(wide.dtype)), 1)
    mean = total(wide) / count
    centred = jnp.where(real, wide - mean, 0)
    deviation = jnp.sqrt(total(centred**2) / count + _LEAST_VARIANCE)
    return dataclasses.replace(inputs, values=centred / deviation), Units(mean, deviation)
