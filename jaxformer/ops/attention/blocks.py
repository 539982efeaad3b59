"""Masks for implementations that visit the scores block by block, and never hold a T x S array of anything.

Lengths, segments and padding are all said with one pair of ids (`as_ids`); what is left of a mask is the `Band` that
follows from the indices alone. `Band.allowed` decides inside a block, and `block_ranges` which blocks to visit at all.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxformer.ops.attention.mask import Mask

Ids = tuple[jax.Array, jax.Array]
"""int32 ids of the queries [B, T'] and of the keys [B, S']: a query sees keys of its own id; 0 sees nothing."""


@dataclasses.dataclass(frozen=True)
class Band:
    """The part of a mask that depends on indices alone; the attributes of `Mask`, and the end of the keys.

    Attributes:
      causal: a query sees keys at its own index or before.
      window: a query sees keys at most this far away from it.
      num_keys: keys from this index on are padding; None where there are none, or ids say it.
    """

    causal: bool = False
    window: int | None = None
    num_keys: int | None = None

    def allowed(self, queries: jax.Array, keys: jax.Array, ids: Ids | None) -> jax.Array | None:
        """bool, True where a query may see a key; None if everything in sight is seen.

        Args:
          queries: int32, the indices of the queries; broadcasts with `keys` and so do the ids.
          keys: int32, the indices of the keys.
          ids: of those queries and keys.
        """
        parts = []
        if self.causal:
            parts.append(keys <= queries)
        if self.window is not None:
            # Not abs(keys - queries): one comparison more is cheaper than a sign in every kernel language.
            parts += [keys - queries <= self.window, queries - keys <= self.window]
        if self.num_keys is not None:
            parts.append(keys < self.num_keys)
        if ids is not None:
            parts += [ids[0] == ids[1], ids[1] != 0]
        allowed = None
        for part in parts:
            allowed = part if allowed is None else allowed & part
        return allowed


def as_ids(mask: Mask | None, batch: int, queries: tuple[int, int], keys: tuple[int, int]) -> Ids | None:
    """The lengths and segments of a mask as ids.

    Args:
      mask: any mask, or None.
      batch: B.
      queries: how many there are, T, and how many with padding, T'.
      keys: S and S'.

    Returns:
      int32 [B, T'] and [B, S'], 0 at padding; None if the mask has neither lengths nor segments.
    """
    if mask is None:
        return None
    segments = mask.query_segment_ids is not None and mask.key_segment_ids is not None
    if not segments and mask.query_lengths is None and mask.key_lengths is None:
        return None

    def side(
        segment_ids: jax.Array | None,
        lengths: jax.Array | None,
        size: tuple[int, int],
        first: jax.Array | None = None,
    ) -> jax.Array:
        ids = jnp.ones((batch, size[0]), jnp.int32)
        if segments and segment_ids is not None:
            ids = jnp.broadcast_to(segment_ids, ids.shape).astype(jnp.int32)
        if lengths is not None:
            indices = jnp.arange(size[0]) + (0 if first is None else first)
            ids = jnp.where(indices < lengths[:, None], ids, 0)
        return jnp.pad(ids, [(0, 0), (0, size[1] - size[0])])

    return (
        side(mask.query_segment_ids, mask.query_lengths, queries, mask.query_offset),
        side(mask.key_segment_ids, mask.key_lengths, keys),
    )


def visible_blocks(
    band: Band, ids: Ids | None, batch: int, queries: tuple[int, int], keys: tuple[int, int]
) -> jax.Array:
    """Which blocks of keys a block of queries may have to visit.

    Blocks of ids are compared by their smallest and largest id, so that nothing visible is left out, whatever the order
    of the ids; where they ascend, as in packed rows, little that is hidden is left in.

    Args:
      band: the part of the mask that depends on indices.
      ids: the other part.
      batch: B.
      queries: their number with padding, T', and the size of a block, which divides it.
      keys: S' and the size of a block of keys.

    Returns:
      bool [B, T' / block, S' / block].
    """
    first_query, first_key = (jnp.arange(0, length, block) for length, block in (queries, keys))
    last_query, last_key = (first_query + queries[1] - 1)[:, None], first_key + keys[1] - 1
    first_query = first_query[:, None]
    visible = jnp.ones((batch, queries[0] // queries[1], keys[0] // keys[1]), bool)
    if band.causal:
        visible &= first_key <= last_query
    if band.window is not None:
        visible &= (first_key - last_query <= band.window) & (first_query - last_key <= band.window)
    if band.num_keys is not None:
        visible &= first_key < band.num_keys
    if ids is not None:
        (query_low, query_high), (key_low, key_high) = (
            _extremes(x, block) for x, (_, block) in zip(ids, (queries, keys), strict=True)
        )
        visible &= (query_low[:, :, None] <= key_high[:, None]) & (key_low[:, None] <= query_high[:, :, None])
    return visible


def _extremes(ids: jax.Array, block: int) -> tuple[jax.Array, jax.Array]:
    """The smallest and the largest id but 0 in each block of [B, L]: [B, L / block] each; empty blocks overlap none."""
    limits = jnp.iinfo(jnp.int32)
    blocks = ids.reshape(ids.shape[0], -1, block)
    lowest = jnp.where(blocks == 0, limits.max, blocks).min(axis=-1)
    return lowest, jnp.where(blocks == 0, limits.min, blocks).max(axis=-1)


def block_ranges(visible: jax.Array) -> jax.Array:
    """int32 [B, I, 2] of bool [B, I, J]: the first visible j of every i and the one after the last; 0, 0 if none is."""
    count = visible.shape[-1]
    any_visible = visible.any(axis=-1)
    start = jnp.argmax(visible, axis=-1)
    stop = count - jnp.argmax(visible[..., ::-1], axis=-1)
    return jnp.where(any_visible[..., None], jnp.stack([start, stop], axis=-1), 0).astype(jnp.int32)
