"""The frame around every sub-layer: normalisation, dropout and the residual connection."""

from __future__ import annotations

from collections.abc import Callable

import jax
from flax import nnx

from jaxformer.nn.dropout import dropout


def make_norm(kind: str, d_model: int, rngs: nnx.Rngs) -> nnx.Module:
    """A `layernorm` (Ba et al. 2016) or `rmsnorm` (Zhang and Sennrich 2019) over D; statistics in float32."""
    if kind not in ("layernorm", "rmsnorm"):
        raise ValueError(f"norm {kind!r} is not one of layernorm, rmsnorm")
    dims = {"dims": ("model",)}
    if kind == "rmsnorm":
        return nnx.RMSNorm(d_model, epsilon=1e-6, scale_metadata=dims, rngs=rngs)
    return nnx.LayerNorm(d_model, epsilon=1e-6, scale_metadata=dims, bias_metadata=dims, rngs=rngs)


class Residual(nnx.Module):
    """x + Dropout(f(Norm(x))), or as in the paper Norm(x + Dropout(f(x))) (section 5.4; Xiong et al. 2020 compare).

    Args:
      d_model: D.
      norm: `layernorm` or `rmsnorm`.
      norm_position: `pre` or `post`.
      dropout: rate on the sub-layer's output.
      rngs: of the initialisation.
    """

    def __init__(
        self,
        d_model: int,
        *,
        norm: str = "layernorm",
        norm_position: str = "pre",
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ) -> None:
        if norm_position not in ("pre", "post"):
            raise ValueError(f"norm_position {norm_position!r} is not one of pre, post")
        self.norm_position = norm_position
        self.dropout = dropout
        self.norm = make_norm(norm, d_model, rngs)

    def __call__(
        self, x: jax.Array, sublayer: Callable[[jax.Array], jax.Array], *, seed: jax.Array | None = None
    ) -> jax.Array:
        """[*, D] to [*, D] through `sublayer`, a function of the same shape."""
        if self.norm_position == "pre":
            return x + dropout(sublayer(self.norm(x)), self.dropout, seed)
        return self.norm(x + dropout(sublayer(x), self.dropout, seed))
