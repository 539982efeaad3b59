"""What enters a network: tokens or numbers as vectors, with positions; and the output projection tied to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxformer.nn.linear import Linear
from jaxformer.ops import sinusoidal_positions
from jaxformer.parallel.sharding import gathered, leave, place
from jaxformer.types import PAD_ID

_DIMS = ("vocabulary", "model")


def _look_up(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows of `table` [V, D] by ids [*], exactly, with a gradient that is summed in float32.

    The gradient of a frequent token is a sum over thousands of places: in bfloat16 it would stop growing at 256 ones.
    """
    return table.astype(jnp.promote_types(table.dtype, jnp.float32))[ids].astype(table.dtype)


def _look_up_in_parts(tables: Sequence[jax.Array], ids: jax.Array) -> jax.Array:
    """The same of tables one after another, whose rows may be split over devices: each gives those that it has."""
    index, count = place("vocabulary")
    if count == 1:
        return _look_up(jnp.concatenate(tables) if len(tables) > 1 else tables[0], ids)
    rows: Any = 0
    for table in tables:
        own_ids = ids - index * len(table)
        own = (own_ids >= 0) & (own_ids < len(table))
        rows += jnp.where(own[..., None], _look_up(table, jnp.where(own, own_ids, 0)), 0)
        ids = ids - len(table) * count
    return leave(rows, "vocabulary")


class _Positioned(nnx.Module):
    """What both kinds share: the position signal, which is added (`rotary`: nothing is; attention rotates)."""

    def __init__(self, d_model: int, position: str, max_length: int, rngs: nnx.Rngs) -> None:
        if position not in ("sinusoidal", "learned", "rotary"):
            raise ValueError(f"position {position!r} is not one of sinusoidal, learned, rotary")
        self.d_model = d_model
        self.position = position
        self.max_length = max_length
        if position == "learned":
            learned = nnx.initializers.normal(0.02)
            positions = learned(rngs.params(), (max_length, d_model), jnp.float32)
            self.position_table = nnx.Param(positions, dims=("position", "model"))

    def check_length(self, length: int) -> None:
        """Refuses rows of `length` positions, of which `learned` does not know all.

        Raises:
          ValueError: with what to do.
        """
        if self.position == "learned" and length > self.max_length:
            raise ValueError(
                f"learned positions end at model.max_length={self.max_length}, got rows of {length}, padding included: "
                "shorten them, or train with a larger model.max_length, or with model.position=sinusoidal or rotary"
            )

    def _with_position(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        """[*, D] and positions [*] to their sum."""
        if self.position == "sinusoidal":
            x += sinusoidal_positions(positions, self.d_model).astype(x.dtype)
        elif self.position == "learned":
            # While compiling, nobody knows whether a long row is one sequence, or several that are packed.
            if not isinstance(positions, jax.core.Tracer):
                self.check_length(1 + int(np.max(jax.device_get(positions), initial=-1)))
            x += _look_up(gathered(self.position_table[...], ("position", "model")), positions)
        return x


def _with_spelling(tokens: jax.Array, vectors: jax.Array) -> jax.Array:
    """`vectors` [*, P, D] of `tokens` [*, P] to [*, D]: the token's own, and the sum of its spelling's.

    That is divided by the root of their number: it has the variance of one vector, however long the word.
    """
    real = (tokens[..., 1:] != PAD_ID)[..., None]
    root = jnp.sqrt(jnp.maximum(real.sum(axis=-2), 1)).astype(vectors.dtype)
    return vectors[..., 0, :] + jnp.where(real, vectors[..., 1:, :], 0).sum(axis=-2) / root


class Embedding(_Positioned):
    """Tokens and positions to vectors: sqrt(D) times the token's row plus a position signal (section 3.4, 3.5).

    Args:
      vocabulary_size: V; buckets of spellings are among them.
      d_model: D.
      position: `sinusoidal`, `learned`, or `rotary` (nothing is added here: attention rotates).
      max_length: positions that `learned` knows. Later ones are refused, but not within `jax.jit`, where they are taken
        for the last one.
      source_pieces: further pieces, which the source alone uses, where both sides share the embedding.
      scale: multiply by sqrt(D).
      rngs: of the initialisation: rows from N(0, 1/D), so that scaled inputs have unit variance and tied logits start
        near N(0, 1).
    """

    def __init__(
        self,
        vocabulary_size: int,
        d_model: int,
        *,
        position: str = "sinusoidal",
        max_length: int = 256,
        source_pieces: int = 0,
        scale: bool = True,
        rngs: nnx.Rngs,
    ) -> None:
        self.scale = scale
        normal = nnx.initializers.normal(d_model**-0.5)
        rows = normal(rngs.params(), (vocabulary_size + source_pieces, d_model), jnp.float32)
        self.table = nnx.Param(rows[:vocabulary_size], dims=_DIMS)
        if source_pieces:
            self.source_table = nnx.Param(rows[vocabulary_size:], dims=_DIMS)
        super().__init__(d_model, position, max_length, rngs)  # draws after the tables above

    @property
    def whole_table(self) -> jax.Array:
        """[V, D], or this device's rows of it."""
        return gathered(self.table[...], _DIMS)

    def __call__(self, tokens: jax.Array, positions: jax.Array, *, source: bool = False) -> jax.Array:
        """Token ids and positions, int32 [*], to [*, D]; `source`: ids may be of pieces that only the source uses.

        Ids may be [*, P] as well: a token with its spelling, see `types.Sequences`.
        """
        tables = [self.whole_table]
        if source and hasattr(self, "source_table"):
            tables.append(gathered(self.source_table[...], _DIMS))
        table = tables[0]
        x = _look_up_in_parts(tables, tokens)
        if tokens.ndim > positions.ndim:
            x = _with_spelling(tokens, x)
        if self.scale:
            x *= jnp.asarray(self.d_model**0.5, table.dtype)
        return self._with_position(x, positions)


class ValueEmbedding(_Positioned):
    """Vectors of numbers and their positions to vectors of the model: a linear map plus a position signal.

    A patch of a series is such a vector (Nie et al. 2023, section 3.1).

    Args:
      num_channels: C.
      d_model: D.
      position, max_length: as of `Embedding`.
      rngs: of the initialisation: a kernel from N(0, 1/C), so that standardised inputs give unit variance.
    """

    def __init__(
        self, num_channels: int, d_model: int, *, position: str = "sinusoidal", max_length: int = 256, rngs: nnx.Rngs
    ) -> None:
        super().__init__(d_model, position, max_length, rngs)
        normal = nnx.initializers.normal(num_channels**-0.5)
        self.project = Linear(num_channels, d_model, dims=("channels", "model"), kernel_init=normal, rngs=rngs)

    def __call__(self, values: jax.Array, positions: jax.Array) -> jax.Array:
        """[*, C] and positions, int32 [*], to [*, D]."""
        return self._with_position(self.project(values.astype(self.project.kernel[...].dtype)), positions)
