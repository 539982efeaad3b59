"""The backward kernel of the Mosaic GPU attention for dk and dv, along the queries; see `mosaic_backward.py`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxformer.ops.attention import mosaic_tile as tile_ops
from jaxformer.ops.attention.mosaic_backward import dropped, products
from jaxformer.ops.attention.mosaic_blocks import COMPUTE_GROUPS, ROWS, TILE
from jaxformer.ops.attention.mosaic_tile import Call, Refs


def backward_keys(call: Call, arrays: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Runs the kernel for dk and dv.

    Args:
      call: the call.
      arrays: as for `backward_queries`, but "ranges" of blocks of `dkv_queries` for each tile of keys.

    Returns:
      dk and dv [B, S, K, H] (S rounded up as in `k`).
    """
    names = tuple(arrays)
    count = pl.cdiv(call.num_queries, call.blocks.dkv_queries)
    tiles = pl.cdiv(call.num_keys, TILE)

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

    dk, dv = plgpu.kernel(
        attention_backward_keys,
        out_type=[jax.ShapeDtypeStruct(arrays["k"].shape, arrays["k"].dtype)] * 2,
        scratch_types=_scratch_of_keys(call, arrays),
        **tile_ops.grid(call, tiles, call.num_kv_heads),
    )(*arrays.values())
    return dk, dv


def _scratch_of_keys(call: Call, arrays: dict[str, jax.Array]) -> dict[str, Any]:
    """Shared memory and barriers of the kernel for dk and dv, by name."""
    queries, stages = call.blocks.dkv_queries, call.blocks.dkv_stages
    dtype = arrays["k"].dtype
    matrix = tile_ops.shared((COMPUTE_GROUPS, ROWS, call.head_size), dtype)
    ring = tile_ops.shared((stages, queries, call.head_size), dtype)
    numbers = plgpu.SMEM((stages, queries), jnp.float32)
    scratch: dict[str, Any] = {
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
    return scratch


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
    shape, scale = (ROWS, queries), call.scale * tile_ops.LOG2_E
    k_smem, v_smem = scratch["k"].at[group], scratch["v"].at[group]
    dtype, keys = refs["k"].dtype, pl.ds(first_key, ROWS)
    place: dict[str, Any] = {"batch": batch, "first_key": first_key, "query_axis": 1}

    key_ids = _load_keys(refs, k_smem, v_smem, scratch["k_full"].at[group], (batch, keys, kv_head))

    def step(index: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        slot = lax.rem(index, jnp.int32(stages))
        head, block = _head_and_block(call, kv_head, index, start, length)
        q_smem, d_out_smem = scratch["q"].at[slot], scratch["d_out"].at[slot]
        plgpu.barrier_wait(scratch["q_full"].at[slot])
        plgpu.barrier_wait(scratch["d_out_full"].at[slot])

        scores, d_weights = products(shape, (k_smem, q_smem), (v_smem, d_out_smem))
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
        kept_weights, d_weights = dropped(call, refs, weights, d_weights, head=head, **place_here)
        narrow_weights = kept_weights.astype(dtype)
        narrow = (weights * (d_weights - tile_ops.along_columns(delta, shape))).astype(dtype)

        def accumulate(accumulators: tuple[Any, Any]) -> None:
            dk_ref, dv_ref = accumulators
            plgpu.wgmma(dv_ref, narrow_weights, d_out_smem)
            plgpu.wgmma(dk_ref, narrow, q_smem)

        dk, dv = pl.run_state(accumulate)(tuple(plgpu.ACC.init(sums) for sums in carry))
        plgpu.barrier_arrive(scratch["free"].at[slot])
        return dk, dv

    carry = (tile_ops.zeros(ROWS, call.head_size), tile_ops.zeros(ROWS, call.head_size))
    dk, dv = lax.fori_loop(0, length * call.groups, step, carry)
    k_smem[...] = (dk * call.scale).astype(dtype)
    v_smem[...] = (dv * (1.0 / call.kept)).astype(dtype)
    _store_keys(refs, k_smem, v_smem, (batch, keys, kv_head))


def _load_keys(
    refs: Refs, k_smem: Any, v_smem: Any, full: Any, place: tuple[jax.Array, Any, jax.Array]
) -> jax.Array | None:
    """Copies k and v into shared memory; loads the ids if there are any."""
    batch, keys, kv_head = place
    plgpu.copy_gmem_to_smem(refs["k"].at[batch, keys, kv_head], k_smem, full)
    plgpu.copy_gmem_to_smem(refs["v"].at[batch, keys, kv_head], v_smem, full)
    key_ids = None
    if "key_ids" in refs:
        key_ids = tile_ops.load(refs["key_ids"].at[batch, keys], tile_ops.ROW_LAYOUT)
    plgpu.barrier_wait(full)
    return key_ids


def _store_keys(refs: Refs, dk_smem: Any, dv_smem: Any, place: tuple[jax.Array, Any, jax.Array]) -> None:
    """Copies dk and dv into global memory; TMA leaves out the rows past S."""
    batch, keys, kv_head = place
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(dk_smem, refs["dk"].at[batch, keys, kv_head])
    plgpu.copy_smem_to_gmem(dv_smem, refs["dv"].at[batch, keys, kv_head])
    plgpu.wait_smem_to_gmem(0)
