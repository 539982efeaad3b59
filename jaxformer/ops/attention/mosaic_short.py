"""Kernels for sequences of at most 64 positions: a thread block of one warp group has a whole head of a sentence.

Sentences are short, and a tile of 128 queries would be empty for the most part. Here everything of a head fits into one
tile: nothing is walked along, the forward pass saves nothing, and one backward kernel computes all three gradients from
what it reads once. It is memory that limits these kernels; thread blocks are small, so that several share a processor
and one copies while another computes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxformer.ops.attention import mosaic_tile as tile_ops
from jaxformer.ops.attention.mosaic_blocks import ROWS
from jaxformer.ops.attention.mosaic_tile import Call, Refs

_SHAPE = (ROWS, ROWS)


def takes(call: Call) -> bool:
    """Whether these kernels are for the call; heads that share keys are left to the others, which add them up."""
    return call.num_queries <= ROWS and call.num_keys <= ROWS and call.groups == 1


def forward(call: Call, arrays: dict[str, jax.Array]) -> jax.Array:
    """Runs the forward kernel.

    Args:
      call: the call; see `takes`.
      arrays: "q" [B, T, N, H], "k" and "v" [B, S, N, H], T and S rounded up to multiples of 8; and, as the mask needs
        them, "query_ids" and "key_ids" (padded), "query_lengths", "key_lengths", "seed".

    Returns:
      The output [B, T, N, H] (T rounded up).
    """
    names, dtype = tuple(arrays), arrays["q"].dtype

    def attention_forward_short(*args: Any, **scratch: Any) -> None:
        refs = dict(zip(names, args[: len(names)], strict=True))
        (refs["out"],) = args[len(names) :]
        batch, head = lax.axis_index("batch"), lax.axis_index("head")
        rows = _all_rows()
        for name, barrier in (("q", "full"), ("k", "full"), ("v", "v_full")):
            plgpu.copy_gmem_to_smem(refs[name].at[batch, rows, head], scratch[name], scratch[barrier])
        ids = _ids(refs, batch)
        plgpu.barrier_wait(scratch["full"])

        def multiply(scores_ref: Any) -> jax.Array:
            plgpu.wgmma(scores_ref, scratch["q"], scratch["k"].transpose((1, 0)))
            return scores_ref[...]

        scores = _hidden(call, refs, pl.run_scoped(multiply, plgpu.ACC(_SHAPE, jnp.float32)), batch, ids, query_axis=0)
        weights, _, total = _softmax(call, scores)
        if call.dropout:
            weights = jnp.where(_kept(call, refs, batch, head, query_axis=0), weights, 0.0)
        narrow = weights.astype(dtype)
        plgpu.barrier_wait(scratch["v_full"])

        def accumulate(out_ref: Any) -> jax.Array:
            plgpu.wgmma(out_ref, narrow, scratch["v"])
            return out_ref[...]

        out = pl.run_scoped(accumulate, plgpu.ACC((ROWS, call.head_size), jnp.float32))
        out = out * tile_ops.along_rows(1.0 / (total * call.kept), out.shape)
        scratch["q"][...] = out.astype(dtype)
        plgpu.commit_smem()
        # TMA leaves out the rows past T.
        plgpu.copy_smem_to_gmem(scratch["q"], refs["out"].at[batch, rows, head])
        plgpu.wait_smem_to_gmem(0)

    matrix = tile_ops.shared((ROWS, call.head_size), dtype)
    (out,) = plgpu.kernel(
        attention_forward_short,
        out_type=[jax.ShapeDtypeStruct(arrays["q"].shape, dtype)],
        scratch_types={
            "q": matrix,  # the output, too, in the end
            "k": matrix,
            "v": matrix,
            "full": plgpu.Barrier(num_arrivals=2),
            "v_full": plgpu.Barrier(),
        },
        **_grid(call),
    )(*arrays.values())
    return out


def backward(call: Call, arrays: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Runs the backward kernel.

    Args:
      call: the call; see `takes`.
      arrays: as for `forward`, and "d_out" [B, T, N, H], T rounded up.

    Returns:
      dq [B, T, N, H], dk and dv [B, S, N, H] (T and S rounded up).
    """
    names = tuple(arrays)
    dtype = arrays["q"].dtype

    def attention_backward_short(*args: Any, **scratch: Any) -> None:
        refs = dict(zip(names, args[: len(names)], strict=True))
        refs["dq"], refs["dk"], refs["dv"] = args[len(names) :]
        batch, head = lax.axis_index("batch"), lax.axis_index("head")
        rows = _all_rows()
        for name in ("q", "k", "v", "d_out"):
            plgpu.copy_gmem_to_smem(refs[name].at[batch, rows, head], scratch[name], scratch["full"])
        plgpu.barrier_wait(scratch["full"])
        # Not kept in registers for the end: with these, fewer thread blocks would fit on a processor.
        scratch["dq"][...] = _gradient_of_queries(call, refs, scratch, batch, head).astype(dtype)
        dk, dv = _gradients_of_keys(call, refs, scratch, batch, head)
        # All products are done: what they read can be written over.
        scratch["k"][...] = dk.astype(dtype)
        scratch["v"][...] = dv.astype(dtype)
        plgpu.commit_smem()
        # TMA leaves out the rows past T and S.
        for name, gradient in (("dq", "dq"), ("k", "dk"), ("v", "dv")):
            plgpu.copy_smem_to_gmem(scratch[name], refs[gradient].at[batch, rows, head])
        plgpu.wait_smem_to_gmem(0)

    matrix = tile_ops.shared((ROWS, call.head_size), dtype)
    numbers = plgpu.SMEM((ROWS,), jnp.float32)
    dq, dk, dv = plgpu.kernel(
        attention_backward_short,
        out_type=[jax.ShapeDtypeStruct(arrays[name].shape, dtype) for name in ("q", "k", "v")],
        scratch_types={
            "q": matrix,
            "k": matrix,  # dk and dv, too, in the end
            "v": matrix,
            "d_out": matrix,
            "dq": matrix,
            "lse": numbers,
            "delta": numbers,
            "full": plgpu.Barrier(num_arrivals=4),
        },
        **_grid(call),
    )(*arrays.values())
    return dq, dk, dv


def _all_rows() -> Any:
    """All 64, also of fewer; from a start that is known when it runs: jax 0.12 refuses what is known to pass an end."""
    return pl.ds(lax.axis_index("group") * ROWS, ROWS)


def _grid(call: Call) -> dict[str, Any]:
    return {
        "grid": (call.batch, call.num_heads),
        "grid_names": ("batch", "head"),
        "num_threads": 1,
        "thread_name": "group",
        "compiler_params": tile_ops.compiler_params(),
    }


def _gradient_of_queries(call: Call, refs: Refs, scratch: Refs, batch: jax.Array, head: jax.Array) -> jax.Array:
    """dq, float32 [64, H]; leaves in `scratch` the logarithms "lse" and "delta" of all rows, see `mosaic._backward`."""
    scores, d_weights = _products(scratch["q"], scratch["k"], scratch["d_out"], scratch["v"])
    scores = _hidden(call, refs, scores, batch, _ids(refs, batch), query_axis=0)
    weights, highest, total = _softmax(call, scores)
    weights = weights * tile_ops.along_rows(1.0 / total, _SHAPE)
    if call.dropout:
        kept = _kept(call, refs, batch, head, query_axis=0)
        d_weights = jnp.where(kept, d_weights * (1.0 / call.kept), 0.0)
    delta = (weights * d_weights).sum(axis=1)
    scratch["lse"][...] = highest + jnp.log(total) * tile_ops.LOG2_E
    scratch["delta"][...] = delta
    plgpu.commit_smem()
    narrow = (weights * (d_weights - tile_ops.along_rows(delta, _SHAPE))).astype(refs["q"].dtype)

    def multiply(dq_ref: Any) -> jax.Array:
        plgpu.wgmma(dq_ref, narrow, scratch["k"])
        return dq_ref[...]

    return pl.run_scoped(multiply, plgpu.ACC((ROWS, call.head_size), jnp.float32)) * call.scale


def _gradients_of_keys(
    call: Call, refs: Refs, scratch: Refs, batch: jax.Array, head: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """dk and dv, float32 [64, H]: the tile again, transposed, as products take it."""
    scores, d_weights = _products(scratch["k"], scratch["q"], scratch["v"], scratch["d_out"])
    scores = _hidden(call, refs, scores, batch, _ids(refs, batch, query_axis=1), query_axis=1)
    lse = tile_ops.load(scratch["lse"], tile_ops.COLUMN_LAYOUT)
    delta = tile_ops.load(scratch["delta"], tile_ops.COLUMN_LAYOUT)
    weights = jnp.exp2(scores * (call.scale * tile_ops.LOG2_E) - tile_ops.along_columns(lse, _SHAPE))
    kept_weights = weights
    if call.dropout:
        kept = _kept(call, refs, batch, head, query_axis=1)
        kept_weights = jnp.where(kept, weights, 0.0)
        d_weights = jnp.where(kept, d_weights * (1.0 / call.kept), 0.0)
    dtype = refs["q"].dtype
    narrow_weights = kept_weights.astype(dtype)
    narrow = (weights * (d_weights - tile_ops.along_columns(delta, _SHAPE))).astype(dtype)

    def multiply(dk_ref: Any, dv_ref: Any) -> tuple[jax.Array, jax.Array]:
        plgpu.wgmma(dv_ref, narrow_weights, scratch["d_out"])
        plgpu.wgmma(dk_ref, narrow, scratch["q"])
        return dk_ref[...], dv_ref[...]

    accumulator = plgpu.ACC((ROWS, call.head_size), jnp.float32)
    dk, dv = pl.run_scoped(multiply, accumulator, accumulator)
    return dk * call.scale, dv * (1.0 / call.kept)


def _products(a: Any, b: Any, c: Any, d: Any) -> tuple[jax.Array, jax.Array]:
    """a @ b.T and c @ d.T."""

    def multiply(first_ref: Any, second_ref: Any) -> tuple[jax.Array, jax.Array]:
        plgpu.wgmma(first_ref, a, b.transpose((1, 0)))
        plgpu.wgmma(second_ref, c, d.transpose((1, 0)))
        return first_ref[...], second_ref[...]

    accumulator = plgpu.ACC(_SHAPE, jnp.float32)
    return pl.run_scoped(multiply, accumulator, accumulator)


def _softmax(call: Call, scores: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """exp2 of the scores less each row's maximum, this maximum, and the sums: rows that see nothing have 0, 0 and 1."""
    # In units of log2, where scaling and subtracting the maximum are one instruction.
    scale = call.scale * tile_ops.LOG2_E
    highest = scores.max(axis=1)
    # Not -inf: the difference of two infinities would be nan.
    highest = jnp.where(highest > -jnp.inf, highest * scale, 0.0)
    weights = jnp.exp2(scores * scale - tile_ops.along_rows(highest, scores.shape))
    total = weights.sum(axis=1)
    return weights, highest, jnp.where(total > 0.0, total, 1.0)


def _ids(refs: Refs, batch: jax.Array, query_axis: int = 0) -> tuple[jax.Array | None, jax.Array | None]:
    """Segment ids of queries and of keys, laid out for a tile whose axis `query_axis` is that of the queries."""
    if "query_ids" not in refs:
        return None, None
    layouts = (tile_ops.ROW_LAYOUT, tile_ops.COLUMN_LAYOUT)
    names = ("query_ids", layouts[query_axis]), ("key_ids", layouts[1 - query_axis])
    queries, keys = (tile_ops.load(refs[name].at[batch, pl.ds(0, ROWS)], layout) for name, layout in names)
    return queries, keys


def _hidden(
    call: Call,
    refs: Refs,
    scores: jax.Array,
    batch: jax.Array,
    ids: tuple[jax.Array | None, jax.Array | None],
    *,
    query_axis: int,
) -> jax.Array:
    """Scores with -inf wherever a query may not see a key."""
    masked = call.causal or call.window is not None or refs.keys() & {"query_ids", "query_lengths", "key_lengths"}
    if not masked and call.num_keys == ROWS:
        return scores
    zero = jnp.int32(0)
    return tile_ops.hide(
        call, refs, scores, batch=batch, first_query=zero, first_key=zero, query_axis=query_axis,
        query_ids=ids[0], key_ids=ids[1],
    )  # fmt: skip


def _kept(call: Call, refs: Refs, batch: jax.Array, head: jax.Array, *, query_axis: int) -> jax.Array:
    """bool: which weights dropout keeps."""
    zero = jnp.int32(0)
    return tile_ops.keep(
        call, refs, _SHAPE, batch=batch, head=head, first_query=zero, first_key=zero, query_axis=query_axis
    )
