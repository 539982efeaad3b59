"""In which order a thread block of the forward kernel takes tiles of queries, and a tile its blocks of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxformer.ops.attention import mosaic_tile as tile_ops
from jaxformer.ops.attention.mosaic_tile import Call, Refs


class BlockOrder(NamedTuple):
    """The blocks of keys that a tile walks along, those that need no mask first.

    Attributes:
      count: how many; at least one, so that there is a first, if it be one of which the mask hides all.
      whole: how many of them need no mask.
      at: the block of an index below `count`.
    """

    count: Any
    whole: Any
    at: Callable[[Any], Any]


class Tile(NamedTuple):
    """Queries of one head against all their blocks of keys.

    Attributes:
      batch: which sentence.
      head: which query head.
      number: which tile of its queries.
      blocks: what it walks along.
      begun: how many blocks this thread block has walked along before: they took the stages in turn.
      buffer: where its queries are.
      reuses: whether an earlier tile's were there.
    """

    batch: Any
    head: Any
    number: Any
    blocks: BlockOrder
    begun: Any
    buffer: Any
    reuses: Any

    def slot(self, index: Any, stages: int) -> Any:
        """The stage of a block."""
        return lax.rem(self.begun + index, jnp.int32(stages))


def place_of(call: Call, refs: Refs, number: Any, tiles: int, count: int) -> tuple[Any, Any, Any, BlockOrder]:
    """Sentence, head, tile and blocks of a tile: those at work at a time share a head's keys in the L2 cache."""
    head, tile = lax.div(number, jnp.int32(tiles)), lax.rem(number, jnp.int32(tiles))
    batch, head = lax.div(head, jnp.int32(call.num_heads)), lax.rem(head, jnp.int32(call.num_heads))
    tile = tiles - 1 - tile if call.causal else tile  # the longest loops start first
    return batch, head, tile, _in_order(refs, batch, tile, count)


def _in_order(refs: Refs, batch: jax.Array, tile: jax.Array, count: int) -> BlockOrder:
    """Those of a tile: whole ones, then what is left and right of them."""
    if "ranges" not in refs:
        return BlockOrder(jnp.int32(count), jnp.int32(count), lambda index: index)
    start, end, whole_start, whole_end = tile_ops.walk(refs, batch, tile, count)
    whole, left = whole_end - whole_start, whole_start - start

    def at(index: Any) -> Any:
        other = index - whole
        return jnp.where(
            other < 0, whole_start + index, jnp.where(other < left, start + other, whole_end + other - left)
        )

    return BlockOrder(jnp.maximum(end - start, 1), whole, at)
