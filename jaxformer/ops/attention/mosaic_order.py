"""The order of things in the forward kernel.

Which tiles of queries a thread block takes, in which order, a tile its blocks of keys, and the warp groups the tensor
cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxformer.ops.attention import mosaic_tile as tile_ops
from jaxformer.ops.attention.mosaic_blocks import BUFFERS
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
      reuses: whether an earlier tile's were there, and have to be free.
      follows: whether this thread block had a tile before.
    """

    batch: Any
    head: Any
    number: Any
    blocks: BlockOrder
    begun: Any
    buffer: Any
    reuses: Any
    follows: Any

    def slot(self, index: Any, stages: int) -> Any:
        """The stage of a block."""
        return lax.rem(self.begun + index, jnp.int32(stages))


class Share(NamedTuple):
    """The tiles that one thread block takes: one of each round of `workers`.

    Under a causal mask tiles differ in length, and their lengths come again and again along the heads. If rounds all
    went the same way, a thread block could get the longest of every round: every other one goes the other way.

    Attributes:
      worker: which thread block.
      workers: how many there are.
      total: how many tiles there are.
    """

    worker: Any
    workers: int
    total: int

    def _position(self, index: Any) -> Any:
        return jnp.where(lax.rem(index, jnp.int32(2)) == 0, self.worker, self.workers - 1 - self.worker)

    @property
    def count(self) -> Any:
        """How many tiles the thread block takes: the last round is not for all."""
        rounds, rest = divmod(self.total, self.workers)
        return rounds + jnp.where(self._position(jnp.int32(rounds)) < rest, 1, 0) if rest else rounds

    def number(self, index: Any) -> Any:
        """The number of the tile of a round; past the last one, that of some tile."""
        return jnp.minimum(index * self.workers + self._position(index), self.total - 1)


class Turns(NamedTuple):
    """Lets the compute warp groups start their products one after the other; does nothing where there is no barrier.

    Attributes:
      scratch: with a barrier "turn" for each group, or without.
      group: whose turn it is to take.
      groups: how many there are.
    """

    scratch: Refs
    group: Any
    groups: int

    def begin(self) -> None:
        """Called by each group, once: the last one gives the first its first turn."""
        if "turn" in self.scratch:

            @pl.when(self.group == self.groups - 1)
            def to_the_first() -> None:
                self.pass_on()

    def take(self) -> None:
        """Waits for the turn."""
        if "turn" in self.scratch:
            plgpu.barrier_wait(self.scratch["turn"].at[self.group])

    def pass_on(self) -> None:
        """Gives the next group its turn."""
        if "turn" in self.scratch:
            plgpu.barrier_arrive(self.scratch["turn"].at[lax.rem(self.group + 1, jnp.int32(self.groups))])


def tiles_of(call: Call) -> int:
    """How many tiles there are of a head's queries."""
    return pl.cdiv(call.num_queries, call.blocks.forward_tile)


def for_each_tile(call: Call, refs: Refs, share: Share, body: Callable[[Tile], None]) -> None:
    """Calls `body` with one tile of a share after the other."""
    tiles, count = tiles_of(call), pl.cdiv(call.num_keys, call.blocks.forward_keys)

    def ranges_of(index: Any) -> tuple[Any, ...] | None:
        batch, _, tile = _place_of(call, share.number(index), tiles)
        return tile_ops.walk(refs, batch, tile, count) if "ranges" in refs else None

    def step(index: Any, carry: Any) -> Any:
        begun, ranges = carry
        # On their way while this tile is worked on.
        following = ranges_of(index + 1)
        place, buffer = _place_of(call, share.number(index), tiles), lax.rem(index, jnp.int32(BUFFERS))
        tile = Tile(*place, _in_order(ranges, count), begun, buffer, reuses=index >= BUFFERS, follows=index > 0)
        body(tile)
        return begun + tile.blocks.count, following

    lax.fori_loop(0, share.count, step, (jnp.int32(0), ranges_of(jnp.int32(0))))


def _place_of(call: Call, number: Any, tiles: int) -> tuple[Any, Any, Any]:
    """Sentence, head and tile of a number: those at work at a time share a head's keys in the L2 cache."""
    head, tile = lax.div(number, jnp.int32(tiles)), lax.rem(number, jnp.int32(tiles))
    batch, head = lax.div(head, jnp.int32(call.num_heads)), lax.rem(head, jnp.int32(call.num_heads))
    tile = tiles - 1 - tile if call.causal else tile  # the longest loops start first
    return batch, head, tile


def _in_order(ranges: tuple[Any, ...] | None, count: int) -> BlockOrder:
    """The blocks of a tile, of `count`: whole ones, then what is left and right of them; see `mosaic_tile.walk`."""
    if ranges is None:
        return BlockOrder(jnp.int32(count), jnp.int32(count), lambda index: index)
    start, end, whole_start, whole_end = ranges
    whole, left = whole_end - whole_start, whole_start - start

    def at(index: Any) -> Any:
        other = index - whole
        return jnp.where(
            other < 0, whole_start + index, jnp.where(other < left, start + other, whole_end + other - left)
        )

    return BlockOrder(jnp.maximum(end - start, 1), whole, at)
