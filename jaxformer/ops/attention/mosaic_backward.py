"""The backward kernels of the Mosaic GPU attention: one for dq, along the keys, one for dk and dv, along the queries.

Both recompute the weights from the scores and the forward pass's logarithms (Dao et al. 2022, algorithm 4). Two
kernels do seven matrix products where one would do five, but nothing is added up in global memory: the result is the
same every time.
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

# On rows that see nothing, and rows past T. Such a row has the logarithm 0 or that of a number of keys. Where hidden,
# its weights are exp2(-inf - 0) = 0. Past T, q and its gradient are zeros (TMA fills them in), so its scores are 0,
# its weights are at most 1, and all that it adds to dk and dv is a multiple of these zeros. Nothing is ever infinite,
# so nothing is nan.


def backward_queries(call: Call, arrays: dict[str, jax.Array]) -> jax.Array:
    """Runs the kernel for dq.

    Args:
      call: the call.
      arrays: as for `forward`, "ranges" of blocks of `dq_keys`; and "d_out" [B, T, N, H], and float32
        [B, N, `call.padded_queries`]: "lse" of the forward pass and "delta", each row's product of output and gradient.

    Returns:
      dq [B, T, N, H] (T rounded up as in `q`).
    """
    names = tuple(arrays)
    keys, stages = call.blocks.dq_keys, call.blocks.dq_stages
    count = pl.cdiv(call.num_keys, keys)
    tiles = pl.cdiv(call.num_queries, TILE)
    dtype = arrays["q"].dtype

    def attention_backward_queries(*args: Any, **scratch: Any) -> None:
        refs = dict(zip(names, args[: len(names)], strict=True))
        (refs["dq"],) = args[len(names) :]
        batch, head, tile = lax.axis_index("batch"), lax.axis_index("head"), tile_ops.tile_index(call, tiles)
        ranges = tile_ops.walk(refs, batch, tile, count)
        group = lax.axis_index("group")

        @pl.when(group < COMPUTE_GROUPS)
        def compute() -> None:
            tile_ops.take_registers(COMPUTE_GROUPS)
            _compute_queries(call, refs, scratch, batch, head, tile * TILE + group * ROWS, ranges)

        @pl.when(group == COMPUTE_GROUPS)
        def copy() -> None:
            tile_ops.give_registers(COMPUTE_GROUPS)
            start, end = ranges[:2]
            tile_ops.copy_keys(
                call, refs, scratch, batch, head, end - start, lambda index: start + index, keys=keys, stages=stages
            )

    matrix = tile_ops.shared((COMPUTE_GROUPS, ROWS, call.head_size), dtype)
    ring = tile_ops.shared((stages, keys, call.head_size), dtype)
    scratch = {
        "q": matrix,  # dq, too, in the end
        "d_out": matrix,
        "k": ring,
        "v": ring,
        # A copy into shared memory arrives once on its barrier: q and its gradient share one, as do the keys and their
        # ids.
        "q_full": plgpu.Barrier(num_arrivals=2, num_barriers=COMPUTE_GROUPS),
        "k_full": plgpu.Barrier(num_arrivals=2 if "key_ids" in arrays else 1, num_barriers=stages),
        "v_full": plgpu.Barrier(num_barriers=stages),
        "k_free": plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=stages),
        "v_free": plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=stages),
    }
    if "key_ids" in arrays:
        scratch["key_ids"] = plgpu.SMEM((stages, keys), jnp.int32)
    (dq,) = plgpu.kernel(
        attention_backward_queries,
        out_type=[jax.ShapeDtypeStruct(arrays["q"].shape, dtype)],
        scratch_types=scratch,
        **tile_ops.grid(call, tiles, call.num_heads),
    )(*arrays.values())
    return dq


def _compute_queries(
    call: Call,
    refs: Refs,
    scratch: Refs,
    batch: jax.Array,
    head: jax.Array,
    first_query: jax.Array,
    ranges: tuple[Any, Any, Any, Any],
) -> None:
    """A compute warp group: dq of 64 queries."""
    group = lax.axis_index("group")
    keys, stages = call.blocks.dq_keys, call.blocks.dq_stages
    start, end, whole_start, whole_end = ranges
    shape = (ROWS, keys)
    scale = call.scale * tile_ops.LOG2_E
    q_smem, d_out_smem = scratch["q"].at[group], scratch["d_out"].at[group]
    dtype = refs["q"].dtype
    queries = pl.ds(first_query, ROWS)
    place: dict[str, Any] = {"batch": batch, "first_query": first_query, "query_axis": 0}

    full = scratch["q_full"].at[group]
    plgpu.copy_gmem_to_smem(refs["q"].at[batch, queries, head], q_smem, full)
    plgpu.copy_gmem_to_smem(refs["d_out"].at[batch, queries, head], d_out_smem, full)
    lse = tile_ops.load(refs["lse"].at[batch, head, queries], tile_ops.ROW_LAYOUT)
    delta = tile_ops.load(refs["delta"].at[batch, head, queries], tile_ops.ROW_LAYOUT)
    query_ids = None
    if "query_ids" in refs:
        query_ids = tile_ops.load(refs["query_ids"].at[batch, queries], tile_ops.ROW_LAYOUT)
    plgpu.barrier_wait(full)

    def step(index: jax.Array, dq: jax.Array) -> jax.Array:
        slot = lax.rem(index, jnp.int32(stages))
        block = start + index
        k_smem, v_smem = scratch["k"].at[slot], scratch["v"].at[slot]
        # Both before the first product: no branch may come between products on their way, or they are serialised.
        plgpu.barrier_wait(scratch["k_full"].at[slot])
        plgpu.barrier_wait(scratch["v_full"].at[slot])

        def multiply(scores_ref: Any, d_weights_ref: Any) -> tuple[jax.Array, jax.Array]:
            plgpu.wgmma(scores_ref, q_smem, k_smem.transpose((1, 0)))
            plgpu.wgmma(d_weights_ref, d_out_smem, v_smem.transpose((1, 0)))
            return scores_ref[...], d_weights_ref[...]  # waits for both

        accumulator = plgpu.ACC(shape, jnp.float32)
        scores, d_weights = pl.run_scoped(multiply, accumulator, accumulator)
        plgpu.barrier_arrive(scratch["v_free"].at[slot])
        place_here = place | {"first_key": block * keys}

        def hidden() -> jax.Array:
            ids = None
            if query_ids is not None:
                ids = tile_ops.load(scratch["key_ids"].at[slot], tile_ops.COLUMN_LAYOUT)
            return tile_ops.hide(call, refs, scores, query_ids=query_ids, key_ids=ids, **place_here)

        if "ranges" in refs:
            scores = lax.cond((block < whole_start) | (block >= whole_end), hidden, lambda: scores)
        weights = jnp.exp2(scores * scale - tile_ops.along_rows(lse, shape))
        if call.dropout:
            kept = tile_ops.keep(call, refs, shape, head=head, **place_here)
            d_weights = jnp.where(kept, d_weights * (1.0 / call.kept), 0.0)
        d_scores = weights * (d_weights - tile_ops.along_rows(delta, shape))
        narrow = d_scores.astype(dtype)

        def accumulate(dq_ref: Any) -> None:
            plgpu.wgmma(dq_ref, narrow, k_smem)

        dq = pl.run_state(accumulate)(plgpu.ACC.init(dq))
        plgpu.barrier_arrive(scratch["k_free"].at[slot])
        return dq

    dq = lax.fori_loop(0, end - start, step, tile_ops.zeros(ROWS, call.head_size))
    q_smem[...] = (dq * call.scale).astype(dtype)
    plgpu.commit_smem()
    # TMA leaves out the rows past T.
    plgpu.copy_smem_to_gmem(q_smem, refs["dq"].at[batch, queries, head])
    plgpu.wait_smem_to_gmem(0)


def backward_keys(call: Call, arrays: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Runs the kernel for dk and dv.

    Args:
      call: the call.
      arrays: as for `backward_queries`, but "ranges" of blocks of `dkv_queries` for each tile of keys.

    Returns:
      dk and dv [B, S, K, H] (S rounded up as in `k`).
    """
    names = tuple(arrays)
    queries, stages = call.blocks.dkv_queries, call.blocks.dkv_stages
    count = pl.cdiv(call.num_queries, queries)
    tiles = pl.cdiv(call.num_keys, TILE)
    dtype = arrays["q"].dtype

    def attention_backward_keys(*args: Any, **scratch: Any) -> None:
        refs = dict(zip(names, args[: len(names)], strict=True))
        refs["dk"], refs["dv"] = args[len(names) :]
        batch, kv_head, tile = lax.axis_index("batch"), lax.axis_index("head"), lax.axis_index("tile")
        ranges = tile_ops.walk(refs, batch, tile, count)
        group = lax.axis_index("group")

        @pl.when(group < COMPUTE_GROUPS)
        def compute() -> None:
            tile_ops.take_registers(COMPUTE_GROUPS)
            _compute_keys(call, refs, scratch, batch, kv_head, tile * TILE + group * ROWS, ranges)

        @pl.when(group == COMPUTE_GROUPS)
        def copy() -> None:
            tile_ops.give_registers(COMPUTE_GROUPS)
            _copy_queries(call, refs, scratch, batch, kv_head, ranges[0], ranges[1])

    matrix = tile_ops.shared((COMPUTE_GROUPS, ROWS, call.head_size), dtype)
    ring = tile_ops.shared((stages, queries, call.head_size), dtype)
    numbers = plgpu.SMEM((stages, queries), jnp.float32)
    scratch = {
        "k": matrix,  # dk and dv, too, in the end
        "v": matrix,
        "q": ring,
        "d_out": ring,
        "lse": numbers,
        "delta": numbers,
        # A copy into shared memory arrives once on its barrier: k and v; q, its logarithms and ids; the gradient and
        # delta.
        "k_full": plgpu.Barrier(num_arrivals=2, num_barriers=COMPUTE_GROUPS),
        "q_full": plgpu.Barrier(num_arrivals=3 if "query_ids" in arrays else 2, num_barriers=stages),
        "d_out_full": plgpu.Barrier(num_arrivals=2, num_barriers=stages),
        # Products of both end together, so that one barrier frees q and the gradient.
        "free": plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=stages),
    }
    if "query_ids" in arrays:
        scratch["query_ids"] = plgpu.SMEM((stages, queries), jnp.int32)
    dk, dv = plgpu.kernel(
        attention_backward_keys,
        out_type=[jax.ShapeDtypeStruct(arrays["k"].shape, dtype)] * 2,
        scratch_types=scratch,
        **tile_ops.grid(call, tiles, call.num_kv_heads),
    )(*arrays.values())
    return dk, dv


def _head_and_block(
    call: Call, kv_head: jax.Array, index: Any, start: Any, length: Any
) -> tuple[jax.Array, jax.Array]:
    """The query head and the block of a step: the heads that share the keys follow one another."""
    if call.groups == 1:
        return kv_head, start + index
    return kv_head * call.groups + lax.div(index, length), start + lax.rem(index, length)


def _copy_queries(
    call: Call, refs: Refs, scratch: Refs, batch: jax.Array, kv_head: jax.Array, start: Any, end: Any
) -> None:
    """The copying warp group of the kernel for dk and dv."""
    queries, stages = call.blocks.dkv_queries, call.blocks.dkv_stages
    length = jnp.int32(end - start)

    def step(index: jax.Array, _: None) -> None:
        slot = lax.rem(index, jnp.int32(stages))
        head, block = _head_and_block(call, kv_head, index, start, length)
        rows = pl.ds(block * queries, queries)

        @pl.when(index >= stages)
        def wait_for_stage() -> None:
            plgpu.barrier_wait(scratch["free"].at[slot])

        def copy(name: str, source: Any, barrier: str) -> None:
            plgpu.copy_gmem_to_smem(source, scratch[name].at[slot], scratch[barrier].at[slot])

        copy("q", refs["q"].at[batch, rows, head], "q_full")
        copy("lse", refs["lse"].at[batch, head, rows], "q_full")
        if "query_ids" in refs:
            copy("query_ids", refs["query_ids"].at[batch, rows], "q_full")
        copy("d_out", refs["d_out"].at[batch, rows, head], "d_out_full")
        copy("delta", refs["delta"].at[batch, head, rows], "d_out_full")

    lax.fori_loop(0, length * call.groups, step, None)


def _compute_keys(
    call: Call,
    refs: Refs,
    scratch: Refs,
    batch: jax.Array,
    kv_head: jax.Array,
    first_key: jax.Array,
    ranges: tuple[Any, Any, Any, Any],
) -> None:
    """A compute warp group: dk and dv of 64 keys, over the queries of all heads that share them."""
    group = lax.axis_index("group")
    queries, stages = call.blocks.dkv_queries, call.blocks.dkv_stages
    start, end, whole_start, whole_end = ranges
    length = jnp.int32(end - start)
    shape = (ROWS, queries)
    scale = call.scale * tile_ops.LOG2_E
    k_smem, v_smem = scratch["k"].at[group], scratch["v"].at[group]
    dtype = refs["k"].dtype
    keys = pl.ds(first_key, ROWS)
    place: dict[str, Any] = {"batch": batch, "first_key": first_key, "query_axis": 1}

    full = scratch["k_full"].at[group]
    plgpu.copy_gmem_to_smem(refs["k"].at[batch, keys, kv_head], k_smem, full)
    plgpu.copy_gmem_to_smem(refs["v"].at[batch, keys, kv_head], v_smem, full)
    key_ids = None
    if "key_ids" in refs:
        key_ids = tile_ops.load(refs["key_ids"].at[batch, keys], tile_ops.ROW_LAYOUT)
    plgpu.barrier_wait(full)

    def step(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        slot = lax.rem(index, jnp.int32(stages))
        head, block = _head_and_block(call, kv_head, index, start, length)
        q_smem, d_out_smem = scratch["q"].at[slot], scratch["d_out"].at[slot]
        plgpu.barrier_wait(scratch["q_full"].at[slot])
        plgpu.barrier_wait(scratch["d_out_full"].at[slot])

        def multiply(scores_ref: Any, d_weights_ref: Any) -> tuple[jax.Array, jax.Array]:
            plgpu.wgmma(scores_ref, k_smem, q_smem.transpose((1, 0)))
            plgpu.wgmma(d_weights_ref, v_smem, d_out_smem.transpose((1, 0)))
            return scores_ref[...], d_weights_ref[...]  # waits for both

        accumulator = plgpu.ACC(shape, jnp.float32)
        scores, d_weights = pl.run_scoped(multiply, accumulator, accumulator)
        lse = tile_ops.load(scratch["lse"].at[slot], tile_ops.COLUMN_LAYOUT)
        delta = tile_ops.load(scratch["delta"].at[slot], tile_ops.COLUMN_LAYOUT)
        place_here = place | {"first_query": block * queries}

        def hidden() -> jax.Array:
            ids = None
            if key_ids is not None:
                ids = tile_ops.load(scratch["query_ids"].at[slot], tile_ops.COLUMN_LAYOUT)
            return tile_ops.hide(call, refs, scores, query_ids=ids, key_ids=key_ids, **place_here)

        if "ranges" in refs:
            scores = lax.cond((block < whole_start) | (block >= whole_end), hidden, lambda: scores)
        weights = jnp.exp2(scores * scale - tile_ops.along_columns(lse, shape))
        kept_weights = weights
        if call.dropout:
            kept = tile_ops.keep(call, refs, shape, head=head, **place_here)
            kept_weights = jnp.where(kept, weights, 0.0)
            d_weights = jnp.where(kept, d_weights * (1.0 / call.kept), 0.0)
        narrow_weights = kept_weights.astype(dtype)
        narrow = (weights * (d_weights - tile_ops.along_columns(delta, shape))).astype(dtype)

        def accumulate(accumulators: tuple[Any, Any]) -> None:
            dk_ref, dv_ref = accumulators
            plgpu.wgmma(dv_ref, narrow_weights, d_out_smem)
            plgpu.wgmma(dk_ref, narrow, q_smem)

        dk, dv = carry
        dk, dv = pl.run_state(accumulate)((plgpu.ACC.init(dk), plgpu.ACC.init(dv)))
        plgpu.barrier_arrive(scratch["free"].at[slot])
        return dk, dv

    carry = (tile_ops.zeros(ROWS, call.head_size), tile_ops.zeros(ROWS, call.head_size))
    dk, dv = lax.fori_loop(0, length * call.groups, step, carry)
    k_smem[...] = (dk * call.scale).astype(dtype)
    v_smem[...] = (dv * (1.0 / call.kept)).astype(dtype)
    plgpu.commit_smem()
    # TMA leaves out the rows past S.
    plgpu.copy_smem_to_gmem(k_smem, refs["dk"].at[batch, keys, kv_head])
    plgpu.copy_smem_to_gmem(v_smem, refs["dv"].at[batch, keys, kv_head])
    plgpu.wait_smem_to_gmem(0)
