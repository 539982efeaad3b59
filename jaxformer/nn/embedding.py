"""Token embeddings with position signals, and the output projection tied to them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.ops import sinusoidal_positions


def _look_up(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows of `table` [V, D] by ids [*], exactly, with a gradient that is summed in float32.

    The gradient of a frequent token is a sum over thousands of places: in bfloat16 it would stop growing at 256 ones.
    """
    return table.astype(jnp.promote_types(table.dtype, jnp.float32))[ids].astype(table.dtype)


class Embedding(nnx.Module):
    """Tokens and positions to vectors: sqrt(D) times the token's row plus a position signal (section 3.4, 3.5).

    Args:
      vocabulary_size: V.
      d_model: D.
      position: `sinusoidal`, `learned`, or `rotary` (nothing is added here: attention rotates).
      max_length: positions that `learned` knows.
      rngs: of the initialisation: rows from N(0, 1/D), so that scaled inputs have unit variance and tied logits start
        near N(0, 1).
    """

    def __init__(
        self, vocabulary_size: int, d_model: int, *, position: str = "sinusoidal", max_length: int = 256, rngs: nnx.Rngs
    ) -> None:
        if position not in ("sinusoidal", "learned", "rotary"):
            raise ValueError(f"position {position!r} is not one of sinusoidal, learned, rotary")
        self.d_model = d_model
        self.position = position
        normal = nnx.initializers.normal(d_model**-0.5)
        self.table = nnx.Param(normal(rngs.params(), (vocabulary_size, d_model), jnp.float32))
        if position == "learned":
            learned = nnx.initializers.normal(0.02)
            self.position_table = nnx.Param(learned(rngs.params(), (max_length, d_model), jnp.float32))

    def __call__(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """Token ids and positions, int32 [*], to [*, D]."""
        table = self.table[...]
        x = _look_up(table, tokens) * jnp.asarray(self.d_model**0.5, table.dtype)
        if self.position == "sinusoidal":
            x += sinusoidal_positions(positions, self.d_model).astype(x.dtype)
        elif self.position == "learned":
            x += _look_up(self.position_table[...], positions)
        return x
