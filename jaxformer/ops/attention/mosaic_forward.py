"""The forward kernel of the Mosaic GPU attention: online softmax over blocks of keys (Dao 2022; Shah et al. 2024).

A thread block takes tile after tile: 64 queries of one head for each of its compute warp groups. One more warp group
copies the queries, and blocks of keys and values into a ring of stages in shared memory; it is ahead of the others, so
that a tile's first blocks are there when the last one's are done with. Results take the place of the queries they
belong to, which leaves room for a second tile of head size 128. A compute group starts the product of queries
and keys of a block together with that of weights and values of the block before, and takes the softmax of the first
while the tensor cores are at the second (Shah et al. 2024, algorithm 2). Not where a mask or dropout is worked out:
that takes registers of the second product, and the compiler then waits for it first. So blocks that need no mask come
together, first. Three compute groups, not two or four, start their products in turns, as two do in Shah et al. (2024,
section 3.2): one has the tensor cores while the others take exponentials.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxformer.ops.attention import mosaic_tile as tile_ops
from jaxformer.ops.attention.mosaic_blocks import BUFFERS, PROCESSORS, ROWS
from jaxformer.ops.attention.mosaic_order import Share, Tile, Turns, for_each_tile, tiles_of
from jaxformer.ops.attention.mosaic_tile import Call, Refs

# The running maximum starts here, not at -inf: the difference of two infinities would be nan in rows that see nothing.
# It is far below any score in units of log2, and its exp2 is 0.
_LOWEST = -1e30


def forward(call: Call, arrays: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Runs the kernel.

    Args:
      call: the call.
      arrays: "q" [B, T, N, H], "k" and "v" [B, S, K, H], T and S rounded up to multiples of 8; and, as the mask needs
        them, "ranges" of blocks of keys for each tile of queries, "query_ids" and "key_ids" (padded), "query_lengths",
        "key_lengths", "seed".

    Returns:
      The output [B, T, N, H] (T rounded up), and float32 [B, N, `call.padded_queries`]: log2 of each row's sum of
      exponentials, 0 where the row sees nothing; anything past the last tile.
    """
    names = tuple(arrays)
    groups = call.blocks.forward_groups
    total = call.batch * call.num_heads * tiles_of(call)
    workers = min(total, PROCESSORS)
    dtype = arrays["q"].dtype

    def attention_forward(*args: Any, **scratch: Any) -> None:
        refs = dict(zip(names, args[: len(names)], strict=True))
        refs["out"], refs["lse"] = args[len(names) :]
        group, share = lax.axis_index("group"), Share(lax.axis_index("worker"), workers, total)

        @pl.when(group < groups)
        def compute() -> None:
            tile_ops.take_registers(groups)
            Turns(scratch, group, groups).begin()
            for_each_tile(call, refs, share, lambda tile: _compute(call, refs, scratch, tile))
            plgpu.wait_smem_to_gmem(0)

        @pl.when(group == groups)
        def copy() -> None:
            tile_ops.give_registers(groups)
            for_each_tile(call, refs, share, lambda tile: _copy(call, refs, scratch, tile))

    out, lse = plgpu.kernel(
        attention_forward,
        out_type=[
            jax.ShapeDtypeStruct(arrays["q"].shape, dtype),
            jax.ShapeDtypeStruct((call.batch, call.num_heads, call.padded_queries), jnp.float32),
        ],
        scratch_types=_shared_memory(call, dtype, with_ids="key_ids" in arrays),
        grid=(workers,),
        grid_names=("worker",),
        num_threads=groups + 1,
        thread_name="group",
        compiler_params=tile_ops.compiler_params(),
    )(*arrays.values())
    return out, lse


def _shared_memory(call: Call, dtype: Any, *, with_ids: bool) -> dict[str, Any]:
    """What a thread block has: queries, results in their place, the ring of stages, and the barriers of all of them."""
    keys, stages, groups = call.blocks.forward_keys, call.blocks.forward_stages, call.blocks.forward_groups
    scratch = {
        "q": tile_ops.shared((BUFFERS, groups, ROWS, call.head_size), dtype),
        "k": tile_ops.shared((stages, keys, call.head_size), dtype),
        "v": tile_ops.shared((stages, keys, call.head_size), dtype),
        "lse": plgpu.SMEM((groups, ROWS), jnp.float32),
        "q_full": plgpu.Barrier(num_arrivals=groups, num_barriers=BUFFERS),
        # A copy into shared memory arrives once on its barrier, and the ids come with the keys.
        "k_full": plgpu.Barrier(num_arrivals=2 if with_ids else 1, num_barriers=stages),
        "v_full": plgpu.Barrier(num_barriers=stages),
        # What was copied in can be written over when all compute groups are done with it; queries, once the results in
        # their place are on their way out.
        "q_free": plgpu.Barrier(num_arrivals=groups, num_barriers=BUFFERS),
        "k_free": plgpu.Barrier(num_arrivals=groups, num_barriers=stages),
        "v_free": plgpu.Barrier(num_arrivals=groups, num_barriers=stages),
    }
    if with_ids:
        scratch["key_ids"] = plgpu.SMEM((stages, keys), jnp.int32)
    if groups == 3:  # two of head size 64 are slower with turns, and four no faster
        scratch["turn"] = plgpu.Barrier(num_barriers=groups)
    return scratch


def _copy(call: Call, refs: Refs, scratch: Refs, tile: Tile) -> None:
    """The copying warp group: a tile's queries, then blocks of keys and values, each once its place is free."""
    groups, keys, stages = call.blocks.forward_groups, call.blocks.forward_keys, call.blocks.forward_stages
    kv_head = lax.div(tile.head, jnp.int32(call.groups))

    # The first round finds everything free; the barriers' first completion is waited for in the second.
    @pl.when(tile.reuses)
    def wait_for_q() -> None:
        plgpu.barrier_wait(scratch["q_free"].at[tile.buffer])

    for group in range(groups):
        queries = pl.ds((tile.number * groups + group) * ROWS, ROWS)
        plgpu.copy_gmem_to_smem(
            refs["q"].at[tile.batch, queries, tile.head], scratch["q"].at[tile.buffer, group],
            scratch["q_full"].at[tile.buffer],
        )  # fmt: skip

    def step(index: jax.Array, _: None) -> None:
        slot, rows = tile.slot(index, stages), pl.ds(tile.blocks.at(index) * keys, keys)
        again = tile.begun + index >= stages

        @pl.when(again)
        def wait_for_k() -> None:
            plgpu.barrier_wait(scratch["k_free"].at[slot])

        def copy(name: str, source: Any, barrier: str) -> None:
            plgpu.copy_gmem_to_smem(source, scratch[name].at[slot], scratch[barrier].at[slot])

        copy("k", refs["k"].at[tile.batch, rows, kv_head], "k_full")
        if "key_ids" in refs:
            copy("key_ids", refs["key_ids"].at[tile.batch, rows], "k_full")

        @pl.when(again)
        def wait_for_v() -> None:
            plgpu.barrier_wait(scratch["v_free"].at[slot])

        copy("v", refs["v"].at[tile.batch, rows, kv_head], "v_full")

    lax.fori_loop(0, tile.blocks.count, step, None)


class _Rows(NamedTuple):
    """The 64 rows of a tile that a compute warp group has.

    Attributes:
      call: the call.
      refs: in global memory.
      scratch: in shared memory.
      tile: of which they are a part.
      group: which part: the number of the warp group.
      query_ids: their segment ids, or None.
    """

    call: Call
    refs: Refs
    scratch: Refs
    tile: Tile
    group: Any
    query_ids: jax.Array | None

    @property
    def first_query(self) -> Any:
        """Their place among the queries."""
        return (self.tile.number * self.call.blocks.forward_groups + self.group) * ROWS

    @property
    def queries(self) -> Any:
        """They themselves, and in the end the results, in shared memory."""
        return self.scratch["q"].at[self.tile.buffer, self.group]

    def free_queries(self) -> None:
        """Frees those of the tile before, if there was one, once its results have been read."""

        @pl.when(self.tile.follows)
        def free() -> None:
            plgpu.wait_smem_to_gmem(0)
            plgpu.barrier_arrive(self.scratch["q_free"].at[BUFFERS - 1 - self.tile.buffer])

    def softmax(
        self, scores: jax.Array, index: Any, highest: jax.Array, total: jax.Array, *, masked: bool
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """A block's weights in 16 bits, the new maximum and sum, and by what the sum so far was corrected."""
        call, tile, shape = self.call, self.tile, scores.shape
        slot, first_key = tile.slot(index, call.blocks.forward_stages), tile.blocks.at(index) * call.blocks.forward_keys
        place: dict[str, Any] = {"first_query": self.first_query, "first_key": first_key, "query_axis": 0}
        if masked:
            ids = None
            if self.query_ids is not None:
                ids = tile_ops.load(self.scratch["key_ids"].at[slot], tile_ops.COLUMN_LAYOUT)
            scores = tile_ops.hide(
                call, self.refs, scores, batch=tile.batch, query_ids=self.query_ids, key_ids=ids, **place
            )
        plgpu.barrier_arrive(self.scratch["k_free"].at[slot])
        # Everything in units of log2, where scaling and subtracting the maximum are one instruction.
        scale = call.scale * tile_ops.LOG2_E
        higher = jnp.maximum(highest, scores.max(axis=1) * scale)
        correction = jnp.exp2(highest - higher)
        weights = jnp.exp2(scores * scale - tile_ops.along_rows(higher, shape))
        total = total * correction + weights.sum(axis=1)
        if call.dropout:
            # The sum is of all weights: dropout comes after the softmax.
            kept = tile_ops.keep(call, self.refs, shape, batch=tile.batch, head=tile.head, **place)
            weights = jnp.where(kept, weights, 0.0)
        return weights.astype(self.refs["q"].dtype), higher, total, correction

    def store(self, out: jax.Array, highest: jax.Array, total: jax.Array) -> None:
        """Divides by the sums, and starts the copies to global memory; `free_queries` waits for them."""
        out_smem, lse_smem = self.queries, self.scratch["lse"].at[self.group]
        # A row that sees nothing has total 0 and output 0; its logarithm is set to 0, any finite number does (see
        # backward).
        safe = jnp.where(total > 0.0, total, 1.0)
        out = out * tile_ops.along_rows(1.0 / (safe * self.call.kept), out.shape)
        lse = jnp.where(total > 0.0, highest + jnp.log(safe) * tile_ops.LOG2_E, 0.0)
        out_smem[...] = out.astype(self.refs["q"].dtype)
        lse_smem[...] = lse
        plgpu.commit_smem()
        # TMA leaves out the rows past T.
        tile, queries = self.tile, pl.ds(self.first_query, ROWS)
        plgpu.copy_smem_to_gmem(out_smem, self.refs["out"].at[tile.batch, queries, tile.head])
        plgpu.copy_smem_to_gmem(lse_smem, self.refs["lse"].at[tile.batch, tile.head, queries])


def _compute(call: Call, refs: Refs, scratch: Refs, tile: Tile) -> None:
    """A compute warp group: 64 queries against all their blocks of keys."""
    stages, blocks = call.blocks.forward_stages, tile.blocks
    rows = _Rows(call, refs, scratch, tile, lax.axis_index("group"), None)
    q_smem, turns = rows.queries, Turns(scratch, rows.group, call.blocks.forward_groups)
    accumulator = plgpu.ACC((ROWS, call.blocks.forward_keys), jnp.float32)
    if "query_ids" in refs:
        ids = refs["query_ids"].at[tile.batch, pl.ds(rows.first_query, ROWS)]
        rows = rows._replace(query_ids=tile_ops.load(ids, tile_ops.ROW_LAYOUT))
    highest = plgpu.layout_cast(jnp.full((ROWS,), _LOWEST, jnp.float32), tile_ops.ROW_LAYOUT)
    total = plgpu.layout_cast(jnp.zeros((ROWS,), jnp.float32), tile_ops.ROW_LAYOUT)
    plgpu.barrier_wait(scratch["q_full"].at[tile.buffer])
    first = tile.slot(0, stages)
    plgpu.barrier_wait(scratch["k_full"].at[first])

    def multiply_first(scores_ref: Any) -> jax.Array:
        plgpu.wgmma(scores_ref, q_smem, scratch["k"].at[first].transpose((1, 0)))
        return scores_ref[...]

    scores = pl.run_scoped(multiply_first, accumulator)
    rows.free_queries()
    narrow, highest, total, _ = rows.softmax(scores, jnp.int32(0), highest, total, masked="ranges" in refs)

    def walk(out_ref: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        def step(index: jax.Array, carry: tuple[jax.Array, ...], masked: bool) -> tuple[jax.Array, ...]:
            narrow, highest, total = carry
            slot, before = tile.slot(index, stages), tile.slot(index - 1, stages)
            # All before the first product: no branch may come between products on their way, or they are serialised.
            plgpu.barrier_wait(scratch["k_full"].at[slot])
            plgpu.barrier_wait(scratch["v_full"].at[before])
            turns.take()

            def multiply(scores_ref: Any) -> jax.Array:
                plgpu.wgmma(scores_ref, q_smem, scratch["k"].at[slot].transpose((1, 0)))
                plgpu.wgmma(out_ref, narrow, scratch["v"].at[before])
                turns.pass_on()
                # Leaves the second on its way.
                return plgpu.wgmma_accumulator_load(scores_ref, wait_n=0 if masked or call.dropout else 1)

            scores = pl.run_scoped(multiply, accumulator)
            narrow, highest, total, correction = rows.softmax(scores, index, highest, total, masked=masked)
            out = plgpu.wgmma_accumulator_load(out_ref, wait_n=0)
            plgpu.barrier_arrive(scratch["v_free"].at[before])
            out_ref[...] = out * tile_ops.along_rows(correction, out.shape)
            return narrow, highest, total

        carry, one = (narrow, highest, total), jnp.int32(1)
        carry = lax.fori_loop(one, blocks.whole, functools.partial(step, masked=False), carry)
        if "ranges" in refs:
            others = jnp.maximum(blocks.whole, one)
            carry = lax.fori_loop(others, blocks.count, functools.partial(step, masked=True), carry)
        last = tile.slot(blocks.count - 1, stages)
        plgpu.barrier_wait(scratch["v_full"].at[last])
        plgpu.wgmma(out_ref, carry[0], scratch["v"].at[last])
        out = out_ref[...]
        plgpu.barrier_arrive(scratch["v_free"].at[last])
        return out, carry[1], carry[2]

    rows.store(*pl.run_scoped(walk, plgpu.ACC((ROWS, call.head_size), jnp.float32)))
