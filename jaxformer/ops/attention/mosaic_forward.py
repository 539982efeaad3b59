"""The forward kernel of the Mosaic GPU attention: online softmax over blocks of keys (Dao 2022; Shah et al. 2024).

A thread block holds 64 queries of one head for each of its compute warp groups; one more warp group copies blocks of
keys and values into a ring of stages in shared memory. A compute group starts the product of queries and keys of a
block together with that of weights and values of the block before, and takes the softmax of the first while the tensor
cores are at the second (Shah et al. 2024, algorithm 2). Not where a mask or dropout is worked out: that takes registers
of the second product, and the compiler then waits for it first. So blocks that need no mask come together, first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxformer.ops.attention import mosaic_tile as tile_ops
from jaxformer.ops.attention.mosaic_blocks import ROWS
from jaxformer.ops.attention.mosaic_tile import Call, Refs

# The running maximum starts here, not at -inf: the difference of two infinities would be nan in rows that see nothing.
# It is far below any score in units of log2, and its exp2 is 0.
_LOWEST = -1e30


def forward(call: Call, arrays: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Runs the kernel.

    Args:
      call: the call.
      arrays: "q" [B, T, N, H], "k" and "v" [B, S, K, H], T and S rounded up to multiples of 8; and, as the mask needs
      them,
        "ranges" of blocks of keys for each tile of queries, "query_ids" and "key_ids" (padded), "query_lengths",
        "key_lengths", "seed".

    Returns:
      The output [B, T, N, H] (T rounded up), and float32 [B, N, `call.padded_queries`]: log2 of each row's sum of
      exponentials, 0 where the row sees nothing.
    """
    names = tuple(arrays)
    keys, stages, groups = call.blocks.forward_keys, call.blocks.forward_stages, call.blocks.forward_groups
    count = pl.cdiv(call.num_keys, keys)
    tiles = pl.cdiv(call.num_queries, groups * ROWS)
    dtype = arrays["q"].dtype

    def attention_forward(*args: Any, **scratch: Any) -> None:
        refs = dict(zip(names, args[: len(names)], strict=True))
        refs["out"], refs["lse"] = args[len(names) :]
        batch, head, tile = lax.axis_index("batch"), lax.axis_index("head"), tile_ops.tile_index(call, tiles)
        blocks = _in_order(refs, batch, tile, count)
        group = lax.axis_index("group")

        @pl.when(group < groups)
        def compute() -> None:
            tile_ops.take_registers(groups)
            _compute(call, refs, scratch, batch, head, (tile * groups + group) * ROWS, blocks)

        @pl.when(group == groups)
        def copy() -> None:
            tile_ops.give_registers(groups)
            tile_ops.copy_keys(
                call, refs, scratch, batch, head, blocks.count, blocks.at, keys=keys, stages=stages
            )

    scratch = {
        "q": tile_ops.shared((groups, ROWS, call.head_size), dtype),  # the output, too, in the end
        "k": tile_ops.shared((stages, keys, call.head_size), dtype),
        "v": tile_ops.shared((stages, keys, call.head_size), dtype),
        "lse": plgpu.SMEM((groups, ROWS), jnp.float32),
        "q_full": plgpu.Barrier(num_barriers=groups),
        # A copy into shared memory arrives once on its barrier, and the ids come with the keys.
        "k_full": plgpu.Barrier(num_arrivals=2 if "key_ids" in arrays else 1, num_barriers=stages),
        "v_full": plgpu.Barrier(num_barriers=stages),
        # A stage is free again when all compute groups are done with it.
        "k_free": plgpu.Barrier(num_arrivals=groups, num_barriers=stages),
        "v_free": plgpu.Barrier(num_arrivals=groups, num_barriers=stages),
    }
    if "key_ids" in arrays:
        scratch["key_ids"] = plgpu.SMEM((stages, keys), jnp.int32)
    out, lse = plgpu.kernel(
        attention_forward,
        out_type=[
            jax.ShapeDtypeStruct(arrays["q"].shape, dtype),
            jax.ShapeDtypeStruct((call.batch, call.num_heads, call.padded_queries), jnp.float32),
        ],
        scratch_types=scratch,
        **tile_ops.grid(call, tiles, call.num_heads, groups),
    )(*arrays.values())
    return out, lse


class _Blocks(NamedTuple):
    """The blocks of keys that a tile walks along, those that need no mask first.

    Attributes:
      count: how many; at least one, so that there is a first, if it be one of which the mask hides all.
      whole: how many of them need no mask.
      at: the block of an index below `count`.
    """

    count: Any
    whole: Any
    at: Callable[[Any], Any]


def _in_order(refs: Refs, batch: jax.Array, tile: jax.Array, count: int) -> _Blocks:
    if "ranges" not in refs:
        return _Blocks(jnp.int32(count), jnp.int32(count), lambda index: index)
    start, end, whole_start, whole_end = tile_ops.walk(refs, batch, tile, count)
    whole, left = whole_end - whole_start, whole_start - start

    def at(index: Any) -> Any:
        other = index - whole
        return jnp.where(
            other < 0, whole_start + index, jnp.where(other < left, start + other, whole_end + other - left)
        )

    return _Blocks(jnp.maximum(end - start, 1), whole, at)


def _compute(
    call: Call,
    refs: Refs,
    scratch: Refs,
    batch: jax.Array,
    head: jax.Array,
    first_query: jax.Array,
    blocks: _Blocks,
) -> None:
    """A compute warp group: 64 queries against all their blocks of keys."""
    group = lax.axis_index("group")
    keys, stages = call.blocks.forward_keys, call.blocks.forward_stages
    shape = (ROWS, keys)
    scale = call.scale * tile_ops.LOG2_E
    q_smem = scratch["q"].at[group]
    dtype = refs["q"].dtype
    queries = pl.ds(first_query, ROWS)
    place: dict[str, Any] = {"batch": batch, "first_query": first_query, "query_axis": 0}
    accumulator = plgpu.ACC(shape, jnp.float32)

    plgpu.copy_gmem_to_smem(refs["q"].at[batch, queries, head], q_smem, scratch["q_full"].at[group])
    query_ids = None
    if "query_ids" in refs:
        query_ids = tile_ops.load(refs["query_ids"].at[batch, queries], tile_ops.ROW_LAYOUT)
    highest = plgpu.layout_cast(jnp.full((ROWS,), _LOWEST, jnp.float32), tile_ops.ROW_LAYOUT)
    total = plgpu.layout_cast(jnp.zeros((ROWS,), jnp.float32), tile_ops.ROW_LAYOUT)
    plgpu.barrier_wait(scratch["q_full"].at[group])

    def softmax(
        scores: jax.Array, index: Any, highest: jax.Array, total: jax.Array, *, masked: bool
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """A block's weights in 16 bits, the new maximum and sum, and by what the sum so far was corrected."""
        slot, place_here = lax.rem(index, jnp.int32(stages)), place | {"first_key": blocks.at(index) * keys}
        if masked:
            ids = None
            if query_ids is not None:
                ids = tile_ops.load(scratch["key_ids"].at[slot], tile_ops.COLUMN_LAYOUT)
            scores = tile_ops.hide(call, refs, scores, query_ids=query_ids, key_ids=ids, **place_here)
        plgpu.barrier_arrive(scratch["k_free"].at[slot])
        # Everything in units of log2, where scaling and subtracting the maximum are one instruction.
        higher = jnp.maximum(highest, scores.max(axis=1) * scale)
        correction = jnp.exp2(highest - higher)
        weights = jnp.exp2(scores * scale - tile_ops.along_rows(higher, shape))
        total = total * correction + weights.sum(axis=1)
        if call.dropout:
            # The sum is of all weights: dropout comes after the softmax.
            kept = tile_ops.keep(call, refs, shape, head=head, **place_here)
            weights = jnp.where(kept, weights, 0.0)
        return weights.astype(dtype), higher, total, correction

    plgpu.barrier_wait(scratch["k_full"].at[0])

    def multiply_first(scores_ref: Any) -> jax.Array:
        plgpu.wgmma(scores_ref, q_smem, scratch["k"].at[0].transpose((1, 0)))
        return scores_ref[...]

    scores = pl.run_scoped(multiply_first, accumulator)
    narrow, highest, total, _ = softmax(scores, jnp.int32(0), highest, total, masked="ranges" in refs)

    def walk(out_ref: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        def step(index: jax.Array, carry: tuple[jax.Array, ...], masked: bool) -> tuple[jax.Array, ...]:
            narrow, highest, total = carry
            slot, before = lax.rem(index, jnp.int32(stages)), lax.rem(index - 1, jnp.int32(stages))
            # Both before the first product: no branch may come between products on their way, or they are serialised.
            plgpu.barrier_wait(scratch["k_full"].at[slot])
            plgpu.barrier_wait(scratch["v_full"].at[before])

            def multiply(scores_ref: Any) -> jax.Array:
                plgpu.wgmma(scores_ref, q_smem, scratch["k"].at[slot].transpose((1, 0)))
                plgpu.wgmma(out_ref, narrow, scratch["v"].at[before])
                # Leaves the second on its way.
                return plgpu.wgmma_accumulator_load(scores_ref, wait_n=0 if masked or call.dropout else 1)

            scores = pl.run_scoped(multiply, accumulator)
            narrow, highest, total, correction = softmax(scores, index, highest, total, masked=masked)
            out = plgpu.wgmma_accumulator_load(out_ref, wait_n=0)
            plgpu.barrier_arrive(scratch["v_free"].at[before])
            out_ref[...] = out * tile_ops.along_rows(correction, out.shape)
            return narrow, highest, total

        carry = (narrow, highest, total)
        one = jnp.int32(1)
        carry = lax.fori_loop(one, blocks.whole, functools.partial(step, masked=False), carry)
        if "ranges" in refs:
            others = jnp.maximum(blocks.whole, one)
            carry = lax.fori_loop(others, blocks.count, functools.partial(step, masked=True), carry)
        last = lax.rem(blocks.count - 1, jnp.int32(stages))
        plgpu.barrier_wait(scratch["v_full"].at[last])
        plgpu.wgmma(out_ref, carry[0], scratch["v"].at[last])
        return out_ref[...], carry[1], carry[2]

    out, highest, total = pl.run_scoped(walk, plgpu.ACC((ROWS, call.head_size), jnp.float32))

    # A row that sees nothing has total 0 and output 0; its logarithm is set to 0, any finite number does (see
    # backward).
    safe = jnp.where(total > 0.0, total, 1.0)
    out = out * tile_ops.along_rows(1.0 / (safe * call.kept), out.shape)
    lse = jnp.where(total > 0.0, highest + jnp.log(safe) * tile_ops.LOG2_E, 0.0)
    q_smem[...] = out.astype(dtype)
    scratch["lse"].at[group][...] = lse
    plgpu.commit_smem()
    # TMA leaves out the rows past T.
    plgpu.copy_smem_to_gmem(q_smem, refs["out"].at[batch, queries, head])
    plgpu.copy_smem_to_gmem(scratch["lse"].at[group], refs["lse"].at[batch, head, queries])
    plgpu.wait_smem_to_gmem(0)
