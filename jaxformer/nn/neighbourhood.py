"""What stands around a token, as a vector to be added to its embedding: for small vocabularies such as amino acids.

A layer of attention has to learn where the neighbours are before it can look at them; here a network begins with them.
Not a layer: it is linear, and looks at tokens alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.parallel.sharding import gathered, place, whole_length

_DIMS = ("neighbours", "model")


class Neighbourhood(nnx.Module):
    """The sum of an embedding of every neighbour, each distance with a table of its own.

    Computed as one product of one-hot vectors with all tables, 2 * (2 * reach * V) * D FLOPs a token, since sums into
    tables of rows would cost more than that on every device.

    Args:
      vocabulary_size: V.
      d_model: D.
      reach: how far away a neighbour may be, on either side.
      rngs: of the initialisation: rows from N(0, 1 / (2 * reach)), so that the sum has unit variance.
    """

    def __init__(self, vocabulary_size: int, d_model: int, reach: int, *, rngs: nnx.Rngs) -> None:
        self.vocabulary_size = vocabulary_size
        self.distances = tuple(distance for distance in range(-reach, reach + 1) if distance)
        normal = nnx.initializers.normal((2 * reach) ** -0.5)
        rows = normal(rngs.params(), (len(self.distances) * vocabulary_size, d_model), jnp.float32)
        self.table = nnx.Param(rows, dims=_DIMS)

    def __call__(self, tokens: jax.Array, segment_ids: jax.Array) -> jax.Array:
        """[B, S, D] of token ids and segments, int32 [B, S]: neighbours in other sequences, or in none, add nothing."""
        table = gathered(self.table[...], _DIMS)
        neighbours = jax.nn.one_hot(self._neighbours(tokens, segment_ids), self.vocabulary_size, dtype=table.dtype)
        return (neighbours.reshape(-1, len(table)) @ table).reshape(*tokens.shape, -1)

    def _neighbours(self, tokens: jax.Array, segment_ids: jax.Array) -> jax.Array:
        """int32 [B, S, 2 * reach]: the token at every distance, -1 where there is none of the same sequence."""
        here = tokens.shape[1]
        tokens, segments = whole_length(jnp.asarray(tokens)), whole_length(jnp.asarray(segment_ids))
        reach, length = self.distances[-1], tokens.shape[1]
        padded_tokens, padded_segments = (jnp.pad(x, ((0, 0), (reach, reach))) for x in (tokens, segments))
        found = []
        for distance in self.distances:
            part = slice(reach + distance, reach + distance + length)
            same = (padded_segments[:, part] == segments) & (segments != 0)
            found.append(jnp.where(same, padded_tokens[:, part], -1))
        index, _ = place("length")
        return jax.lax.dynamic_slice_in_dim(jnp.stack(found, axis=-1), index * here, here, axis=1)
