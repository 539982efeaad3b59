"""Keys and values that decoding reads at every step, laid out for the products that read them.

Not for the attention to them (`ops.decode_attention`), nor for which of them a beam may see (`models.encoder_decoder`).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodingMemory:
    """Keys and values at P places: of the encoded source, or of what the beams have written so far.

    Several queries that share a key make a product of matrices, which reads keys transposed. A lone query reads a row
    for each key; and one more place is written as one piece, which is faster than a number in every column.

    Attributes:
      keys: [B, K, H, P], or [B, K, P, H] where not `transposed`.
      values: [B, K, P, H].
      transposed: whether keys are [B, K, H, P], which several queries of a key read faster.
    """

    keys: jax.Array
    values: jax.Array
    transposed: bool = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, keys: jax.Array, values: jax.Array, *, transposed: bool) -> DecodingMemory:
        """Of keys and values as projections make them, [B, P, K, H]."""
        return cls(_laid_out(keys, transposed), _laid_out(values), transposed)

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: jax.typing.DTypeLike, *, transposed: bool) -> DecodingMemory:
        """Of zeros; `shape`: of keys and values as projections make them, (B, P, K, H)."""
        zeros = jnp.zeros(shape, dtype)
        return cls.of(zeros, zeros, transposed=transposed)

    @property
    def places(self) -> int:
        """P."""
        return self.values.shape[2]

    def written(self, keys: jax.Array, values: jax.Array, place: jax.Array) -> DecodingMemory:
        """With keys and values [B, n, K, H] at the n places from `place` (int32 scalar) on."""
        # One slice of each, and read as they are stored: otherwise XLA would copy the memory at every step.
        update = jax.lax.dynamic_update_slice_in_dim
        keys = _laid_out(keys.astype(self.keys.dtype), self.transposed)
        values = _laid_out(values.astype(self.values.dtype))
        return dataclasses.replace(
            self,
            keys=update(self.keys, keys, place, axis=3 if self.transposed else 2),
            values=update(self.values, values, place, axis=2),
        )

    def grown(self, places: int) -> DecodingMemory:
        """With room for `places`, at least as many as there are."""
        room = (0, places - self.places)
        keys = [(0, 0), (0, 0), (0, 0), room] if self.transposed else [(0, 0), (0, 0), room, (0, 0)]
        values = [(0, 0), (0, 0), room, (0, 0)]
        return dataclasses.replace(self, keys=jnp.pad(self.keys, keys), values=jnp.pad(self.values, values))


def _laid_out(heads: jax.Array, transposed: bool = False) -> jax.Array:
    """[B, P, K, H] as [B, K, P, H], or as [B, K, H, P]."""
    return heads.transpose((0, 2, 3, 1) if transposed else (0, 2, 1, 3))
