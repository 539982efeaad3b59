"""The frame around every sub-layer: normalisation, dropout and the residual connection."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.nn.dropout import dropout
from jaxformer.ops import layer_norm, rms_norm


class Norm(nnx.Module):
    """A `layernorm` (Ba et al. 2016) or `rmsnorm` (Zhang and Sennrich 2019) over D; statistics in float32.

    Args:
      kind: which; a layernorm has a bias besides its scale. They start at zero and one.
      d_model: D.
    """

    def __init__(self, kind: str, d_model: int) -> None:
        if kind not in ("layernorm", "rmsnorm"):
            raise ValueError(f"norm {kind!r} is not one of layernorm, rmsnorm")
        self.scale = nnx.Param(jnp.ones(d_model), dims=("model",))
        self.bias = nnx.Param(jnp.zeros(d_model), dims=("model",)) if kind == "layernorm" else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[*, D] to the same."""
        if self.bias is None:
            return rms_norm(x, self.scale[...])
        return layer_norm(x, self.scale[...], self.bias[...])


class Residual(nnx.Module):
    """x + Dropout(f(Norm(x))), or as in the paper Norm(x + Dropout(f(x))) (section 5.4; Xiong et al. 2020 compare).

    Args:
      d_model: D.
      norm: `layernorm` or `rmsnorm`.
      norm_position: `pre` or `post`.
      dropout: rate on the sub-layer's output.
    """

    def __init__(
        self,
        d_model: int,
        *,
        norm: str = "layernorm",
        norm_position: str = "pre",
        dropout: float = 0.0,
    ) -> None:
        if norm_position not in ("pre", "post"):
            raise ValueError(f"norm_position {norm_position!r} is not one of pre, post")
        self.norm_position = norm_position
        self.dropout = dropout
        self.norm = Norm(norm, d_model)

    def __call__(
        self, x: jax.Array, sublayer: Callable[[jax.Array], jax.Array], *, seed: jax.Array | None = None
    ) -> jax.Array:
        """[*, D] to [*, D] through `sublayer`, a function of the same shape."""
        if self.norm_position == "pre":
            return x + dropout(sublayer(self.norm(x)), self.dropout, seed)
        return self.norm(x + dropout(sublayer(x), self.dropout, seed))
