"""Dynamic loss scaling for float16 (Micikevicius et al. 2018, section 3.2): the scale, and how it finds its size.

float16 holds nothing between 0 and 6e-8: small gradients vanish. They are computed of the loss times a scale and
divided by it in float32. A scale too large gives infinities: that step changes nothing but the scale, which is halved.

The scale is that of the mean loss, as in the paper. The step differentiates a sum: see `LossScale.of_sum`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

_START = 2.0**15
_LARGEST = 2.0**24
_PATIENCE = 2000  # steps without an infinity after which the scale is doubled


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
    """The scale of the next step; part of the training state.

    Attributes:
      scale: float32 scalar, a power of two, so that multiplying by it rounds nothing; of the mean loss.
      good_steps: int32 scalar, steps taken since the scale last changed.
    """

    scale: jax.Array
    good_steps: jax.Array

    @classmethod
    def create(cls) -> LossScale:
        """The scale of the first step."""
        return cls(jnp.float32(_START), jnp.zeros((), jnp.int32))

    def of_sum(self, slots: int) -> jax.Array:
        """The scale of the loss summed over `slots` positions: smaller by their number, rounded up to a power of two.

        Micikevicius et al. 2018 scale a mean. Gradients of weights are sums over positions, in float16: times the scale
        of a mean they would overflow with the first steps. A power of two changes exponents alone.

        Args:
          slots: at least 1, of one micro-batch on one device, since further sums are in float32.
        """
        return self.scale / 2.0 ** (slots - 1).bit_length()

    def adjusted(self, finite: jax.Array) -> LossScale:
        """The scale after a step whose gradient was `finite` (bool scalar) or not."""
        grow = finite & (self.good_steps + 1 >= _PATIENCE)
        larger = jnp.minimum(2.0 * self.scale, _LARGEST)
        smaller = jnp.maximum(0.5 * self.scale, 1.0)
        scale = jnp.where(finite, jnp.where(grow, larger, self.scale), smaller)
        return LossScale(scale, jnp.where(finite & ~grow, self.good_steps + 1, 0))
