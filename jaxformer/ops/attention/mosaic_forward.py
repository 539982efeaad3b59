"""The forward kernel of the Mosaic GPU attention: online softmax over blocks of keys (Dao 2022; Shah et al. 2024).

A thread block holds 128 queries of one head, 64 for each of its two compute warp groups; a third warp group copies
blocks of keys and values into a ring of stages in shared memory. The two compute groups take turns: while the tensor
cores multiply for the one, the other computes its softmax.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxformer.ops.attention import mosaic_tile as tile_ops
from jaxformer.ops.attention.mosaic_blocks import COMPUTE_GROUPS, ROWS, TILE
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
    keys, stages = call.blocks.forward_keys, call.blocks.forward_stages
    count = pl.cdiv(call.num_keys, keys)
    tiles = pl.cdiv(call.num_queries, TILE)
    dtype = arrays["q"].dtype

    def attention_forward(*args: Any, **scratch: Any) -> None:
        refs = dict(zip(names, args[: len(names)], strict=True))
        refs["out"], refs["lse"] = args[len(names) :]
        batch, head, tile = lax.axis_index("batch"), lax.axis_index("head"), tile_ops.tile_index(call, tiles)
        ranges = tile_ops.walk(refs, batch, tile, count)
        group = lax.axis_index("group")

        @pl.when(group < COMPUTE_GROUPS)
        def compute() -> None:
            plgpu.set_max_registers(tile_ops.COMPUTE_REGISTERS, action="increase")
            _compute(call, refs, scratch, batch, head, tile * TILE + group * ROWS, ranges)

        @pl.when(group == COMPUTE_GROUPS)
        def copy() -> None:
            plgpu.set_max_registers(tile_ops.COPY_REGISTERS, action="decrease")
            tile_ops.copy_keys(
                call, refs, scratch, batch, head, ranges[0], ranges[1], keys=keys, stages=stages
            )

    scratch = {
        "q": tile_ops.shared((COMPUTE_GROUPS, ROWS, call.head_size), dtype),  # the output, too, in the end
        "k": tile_ops.shared((stages, keys, call.head_size), dtype),
        "v": tile_ops.shared((stages, keys, call.head_size), dtype),
        "lse": plgpu.SMEM((COMPUTE_GROUPS, ROWS), jnp.float32),
        "q_full": plgpu.Barrier(num_barriers=COMPUTE_GROUPS),
        # A copy into shared memory arrives once on its barrier, and the ids come with the keys.
        "k_full": plgpu.Barrier(num_arrivals=2 if "key_ids" in arrays else 1, num_barriers=stages),
        "v_full": plgpu.Barrier(num_barriers=stages),
        # A stage is free again when both compute groups are done with it.
        "k_free": plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=stages),
        "v_free": plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=stages),
        "turn": plgpu.Barrier(num_arrivals=COMPUTE_GROUPS),
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
        **tile_ops.grid(call, tiles, call.num_heads),
    )(*arrays.values())
    return out, lse


def _compute(
    call: Call,
    refs: Refs,
    scratch: Refs,
    batch: jax.Array,
    head: jax.Array,
    first_query: jax.Array,
    ranges: tuple[Any, Any, Any, Any],
) -> None:
    """A compute warp group: 64 queries against all their blocks of keys."""
    group = lax.axis_index("group")
    keys, stages = call.blocks.forward_keys, call.blocks.forward_stages
    start, end, whole_start, whole_end = ranges
    shape = (ROWS, keys)
    scale = call.scale * tile_ops.LOG2_E
    q_smem, turn = scratch["q"].at[group], scratch["turn"]
    dtype = refs["q"].dtype
    queries = pl.ds(first_query, ROWS)
    place: dict[str, Any] = {"batch": batch, "first_query": first_query, "query_axis": 0}

    def take_turns() -> None:
        plgpu.barrier_arrive(turn)
        plgpu.barrier_wait(turn)

    plgpu.copy_gmem_to_smem(refs["q"].at[batch, queries, head], q_smem, scratch["q_full"].at[group])
    query_ids = None
    if "query_ids" in refs:
        query_ids = tile_ops.load(refs["query_ids"].at[batch, queries], tile_ops.ROW_LAYOUT)
    highest = plgpu.layout_cast(jnp.full((ROWS,), _LOWEST, jnp.float32), tile_ops.ROW_LAYOUT)
    total = plgpu.layout_cast(jnp.zeros((ROWS,), jnp.float32), tile_ops.ROW_LAYOUT)
    plgpu.barrier_wait(scratch["q_full"].at[group])

    # Each group passes the turn twice a block. This one more, by the second group before its first block and by the
    # first after its last, puts the two half a block apart; both walk along the same blocks, so their counts agree.
    pl.when(group == 1)(take_turns)

    def step(index: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        out, highest, total = carry
        slot = lax.rem(index, jnp.int32(stages))
        block = start + index
        plgpu.barrier_wait(scratch["k_full"].at[slot])

        def multiply(scores_ref: Any) -> jax.Array:
            plgpu.wgmma(scores_ref, q_smem, scratch["k"].at[slot].transpose((1, 0)))
            take_turns()  # the product is on its way: now the other group may start one
            return scores_ref[...]  # waits for the product

        scores = pl.run_scoped(multiply, plgpu.ACC(shape, jnp.float32))
        place_here = place | {"first_key": block * keys}

        def hidden() -> jax.Array:
            ids = None
            if query_ids is not None:
                ids = tile_ops.load(scratch["key_ids"].at[slot], tile_ops.COLUMN_LAYOUT)
            return tile_ops.hide(call, refs, scores, query_ids=query_ids, key_ids=ids, **place_here)

        if "ranges" in refs:
            scores = lax.cond((block < whole_start) | (block >= whole_end), hidden, lambda: scores)
        plgpu.barrier_arrive(scratch["k_free"].at[slot])

        # Everything in units of log2, where scaling and subtracting the maximum are one instruction.
        higher = jnp.maximum(highest, scores.max(axis=1) * scale)
        correction = jnp.exp2(highest - higher)
        weights = jnp.exp2(scores * scale - tile_ops.along_rows(higher, shape))
        total = total * correction + weights.sum(axis=1)
        out = out * tile_ops.along_rows(correction, out.shape)
        if call.dropout:
            # The sum is of all weights: dropout comes after the softmax.
            kept = tile_ops.keep(call, refs, shape, head=head, **place_here)
            weights = jnp.where(kept, weights, 0.0)
        # Keeps the compiler from moving the softmax to behind the turn, where the tensor cores would wait for it.
        out, higher, total, narrow = lax.optimization_barrier((out, higher, total, weights.astype(dtype)))
        plgpu.barrier_arrive(turn)  # softmax done: the other group may start its own
        plgpu.barrier_wait(scratch["v_full"].at[slot])
        plgpu.barrier_wait(turn)  # the other group's product of queries and keys is on its way

        def accumulate(out_ref: Any) -> None:
            plgpu.wgmma(out_ref, narrow, scratch["v"].at[slot])

        out = pl.run_state(accumulate)(plgpu.ACC.init(out))
        plgpu.barrier_arrive(scratch["v_free"].at[slot])
        return out, higher, total

    carry = (tile_ops.zeros(ROWS, call.head_size), highest, total)
    out, highest, total = lax.fori_loop(0, end - start, step, carry)
    pl.when(group == 0)(take_turns)

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
