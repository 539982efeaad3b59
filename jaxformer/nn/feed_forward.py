"""The position-wise feed-forward layer (Vaswani et al. 2017, section 3.3) and its gated form."""

from __future__ import annotations

import jax
from flax import nnx

from jaxformer.nn.dropout import dropout, kept
from jaxformer.nn.linear import Linear
from jaxformer.ops import relu, relu_dropout


class FeedForward(nnx.Module):
    """Two linear maps with a non-linearity between: D to F to D.

    Args:
      d_model: D.
      d_ff: F.
      activation: `relu`, `gelu` (exact, Hendrycks and Gimpel 2016) or `swiglu` (Shazeer 2020, equation 6: the SiLU of
        one number gates another, so the first kernel is [D, 2F], each gate beside its value).
      dropout: rate after the non-linearity.
      rngs: of the initialisation: Glorot-uniform kernels, zero biases.
    """

    def __init__(
        self, d_model: int, d_ff: int, *, activation: str = "relu", dropout: float = 0.0, rngs: nnx.Rngs
    ) -> None:
        if activation not in ("relu", "gelu", "swiglu"):
            raise ValueError(f"activation {activation!r} is not one of relu, gelu, swiglu")
        self.activation = activation
        self.dropout = dropout
        gate = 2 if activation == "swiglu" else 1
        glorot = nnx.initializers.glorot_uniform()
        self.expand = Linear(d_model, gate * d_ff, dims=("model", "feed_forward"), kernel_init=glorot, rngs=rngs)
        self.contract = Linear(d_ff, d_model, dims=("feed_forward", "model"), kernel_init=glorot, rngs=rngs)

    def __call__(self, x: jax.Array, *, seed: jax.Array | None = None) -> jax.Array:
        """[*, D] to [*, D]."""
        # A matrix throughout, so that what relu keeps and what the second product keeps are one array.
        rows, places = x.reshape(-1, x.shape[-1]), x.shape[:-1]
        if self.activation == "relu":
            hidden = self.expand(rows, then=lambda h: self._rectified(h, places, seed))
        else:
            hidden = dropout(
                self._activated(self.expand(rows)).reshape(*places, -1), self.dropout, seed, width="feed_forward"
            )
        return self.contract(hidden).reshape(*places, -1)

    def _rectified(self, hidden: jax.Array, places: tuple[int, ...], seed: jax.Array | None) -> jax.Array:
        """`relu` of [M, F], and dropout as of [*places, F]."""
        if not self.dropout or seed is None:
            return relu(hidden)
        shape = (*places, hidden.shape[-1])
        mask = kept(shape, self.dropout, seed, width="feed_forward").reshape(hidden.shape)
        return relu_dropout(hidden, mask, self.dropout)

    def _activated(self, hidden: jax.Array) -> jax.Array:
        if self.activation == "gelu":
            return jax.nn.gelu(hidden, approximate=False)
        pairs = hidden.reshape(hidden.shape[0], -1, 2)
        return jax.nn.silu(pairs[..., 0]) * pairs[..., 1]
