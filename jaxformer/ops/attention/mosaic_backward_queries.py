"""The backward kernel of the Mosaic GPU attention for dq, along the keys; see `mosaic_backward.py`."""

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

    (dq,) = plgpu.kernel(
        attention_backward_queries,
        out_type=[jax.ShapeDtypeStruct(arrays["q"].shape, arrays["q"].dtype)],
        scratch_types=_scratch_of_queries(call, arrays),
        **tile_ops.grid(call, tiles, call.num_heads),
    )(*arrays.values())
    return dq


def _scratch_of_queries(call: Call, arrays: dict[str, jax.Array]) -> dict[str, Any]:
    """Shared memory and barriers of the kernel for dq, by name."""
    keys, stages = call.blocks.dq_keys, call.blocks.dq_stages
    dtype = arrays["q"].dtype
    matrix = tile_ops.shared((COMPUTE_GROUPS, ROWS, call.head_size), dtype)
    ring = tile_ops.shared((stages, keys, call.head_size), dtype)
    scratch: dict[str, Any] = {
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
    return scratch


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

    lse, delta, query_ids = _load_rows(refs, q_smem, d_out_smem, scratch["q_full"].at[group], (batch, queries, head))

    def step(index: jax.Array, dq: jax.Array) -> jax.Array:
        slot = lax.rem(index, jnp.int32(stages))
        block = start + index
        k_smem, v_smem = scratch["k"].at[slot], scratch["v"].at[slot]
        # Both before the first product: no branch may come between products on their way, or they are serialised.
        plgpu.barrier_wait(scratch["k_full"].at[slot])
        plgpu.barrier_wait(scratch["v_full"].at[slot])

        scores, d_weights = products(shape, (q_smem, k_smem), (d_out_smem, v_smem))
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
        _, d_weights = dropped(call, refs, weights, d_weights, head=head, **place_here)
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


def _load_rows(
    refs: Refs, q_smem: Any, d_out_smem: Any, full: Any, place: tuple[jax.Array, Any, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Copies q and the output's gradient into shared memory; loads the logarithms, deltas, and ids if there are any."""
    batch, queries, head = place
    plgpu.copy_gmem_to_smem(refs["q"].at[batch, queries, head], q_smem, full)
    plgpu.copy_gmem_to_smem(refs["d_out"].at[batch, queries, head], d_out_smem, full)
    lse = tile_ops.load(refs["lse"].at[batch, head, queries], tile_ops.ROW_LAYOUT)
    delta = tile_ops.load(refs["delta"].at[batch, head, queries], tile_ops.ROW_LAYOUT)
    query_ids = None
    if "query_ids" in refs:
        query_ids = tile_ops.load(refs["query_ids"].at[batch, queries], tile_ops.ROW_LAYOUT)
    plgpu.barrier_wait(full)
    return lse, delta, query_ids
