"""What the Mosaic GPU attention kernels share: the description of a call, layouts, copies, masks and dropout of a tile.

Everything here that takes refs runs inside a kernel. Letters as in `api.py`; a tile is a block of scores [queries,
keys], or [keys, queries] in the kernel for dk and dv, spread over the registers of one warp group as `wgmma` leaves it.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxformer.ops.attention.mosaic_blocks import COMPUTE_GROUPS, TILE, Blocks, registers
from jaxformer.ops.dropout import keep_at

TILE_LAYOUT = plgpu.Layout.WGMMA
ROW_LAYOUT = TILE_LAYOUT.reduce(1)  # one number a row, in the threads that hold the row
COLUMN_LAYOUT = TILE_LAYOUT.reduce(0)  # one number a column

LOG2_E = math.log2(math.e)

# Older versions insist on an index beside the ref, newer ones refuse it, and some between take it and warn.
_load_parameters = inspect.signature(plgpu.load).parameters
_LOAD_INDEX = ((),) if "idx" in _load_parameters and _load_parameters["idx"].default is inspect.Parameter.empty else ()

Refs = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """What is fixed about a call when it is compiled.

    Attributes:
      batch: B.
      num_queries: T, before any padding.
      num_keys: S, before any padding.
      num_heads: N.
      num_kv_heads: K.
      head_size: H.
      scale: of the scores; positive.
      dropout: rate on the weights; 0 for none.
      causal: a query sees keys at its own index or before.
      window: a query sees keys at most this far away; None for any distance.
      blocks: block sizes.
    """

    batch: int
    num_queries: int
    num_keys: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    scale: float
    dropout: float
    causal: bool
    window: int | None
    blocks: Blocks

    @property
    def groups(self) -> int:
        """Query heads that share a key/value head."""
        return self.num_heads // self.num_kv_heads

    @property
    def padded_queries(self) -> int:
        """T rounded up to whole tiles: the length of vectors over queries, so that nobody reads past their end."""
        step = math.lcm(TILE, self.blocks.forward_tile)
        return -(-self.num_queries // step) * step

    @property
    def padded_keys(self) -> int:
        """S rounded up to whole tiles and blocks, likewise."""
        step = math.lcm(TILE, self.blocks.forward_keys, self.blocks.dq_keys)
        return -(-self.num_keys // step) * step

    @property
    def kept(self) -> float:
        """The share of the weights that dropout keeps."""
        return 1.0 - self.dropout


def compiler_params() -> plgpu.CompilerParams:
    """The semantics every version has; newer ones would default to another, in which layouts are inferred."""
    # Approximate exp2 and log2 are the instructions of the hardware, within 2 units in the last place of float32.
    return plgpu.CompilerParams(approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Lane)


def shared(shape: tuple[int, ...], dtype: Any) -> Any:
    """Shared memory for matrices [..., rows, H] that TMA writes and `wgmma` reads."""
    # The swizzle is the longest that divides a row, and the tiling follows from it: wgmma takes no other.
    swizzle = 128 if shape[-1] % 64 == 0 else 64
    tiling = plgpu.TilingTransform((8, swizzle // 2))
    return plgpu.SMEM(shape, dtype, transforms=(tiling, plgpu.SwizzleTransform(swizzle)))


def load(ref: Any, layout: Any) -> jax.Array:
    """A vector from shared or global memory, in the registers that `layout` says."""
    return plgpu.load(ref, *_LOAD_INDEX, layout=layout, optimized=False)


def zeros(rows: int, columns: int) -> jax.Array:
    """A float32 accumulator of a warp group."""
    return plgpu.layout_cast(jnp.zeros((rows, columns), jnp.float32), TILE_LAYOUT)


def along_rows(vector: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[rows] repeated for each column."""
    return lax.broadcast_in_dim(vector, shape, [0])


def along_columns(vector: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[columns] repeated for each row."""
    return lax.broadcast_in_dim(vector, shape, [1])


def walk(refs: Refs, batch: jax.Array, tile: jax.Array, count: int) -> tuple[Any, Any, Any, Any]:
    """Start, end, and start and end of the whole blocks, of the loop of a tile; see `block_ranges`."""
    if "ranges" not in refs:
        return 0, count, 0, count
    ranges = refs["ranges"]
    row = batch if ranges.shape[0] > 1 else 0
    start, end, whole_start, whole_end = (ranges[row, tile, i] for i in range(4))
    return start, end, whole_start, whole_end


def _indices(first: jax.Array, shape: tuple[int, ...], axis: int) -> jax.Array:
    return plgpu.broadcasted_iota(jnp.int32, shape, axis, layout=TILE_LAYOUT) + first


def hide(
    call: Call,
    refs: Refs,
    scores: jax.Array,
    *,
    batch: jax.Array,
    first_query: jax.Array,
    first_key: jax.Array,
    query_axis: int,
    query_ids: jax.Array | None,
    key_ids: jax.Array | None,
) -> jax.Array:
    """A tile of scores with -inf wherever the query may not see the key.

    Args:
      call: the call.
      refs: of the masks' numbers in global memory.
      scores: the tile, of raw scores.
      batch: which sentence.
      first_query: index of the tile's first query.
      first_key: index of the tile's first key.
      query_axis: 0, or 1 if the tile is transposed.
      query_ids: segment ids along that axis, or None.
      key_ids: segment ids along the other, or None.

    Returns:
      The tile.
    """
    shape = scores.shape
    queries = _indices(first_query, shape, query_axis)
    keys = _indices(first_key, shape, 1 - query_axis)
    visible = keys < (refs["key_lengths"][batch] if "key_lengths" in refs else call.num_keys)
    if call.causal:
        visible &= keys <= queries
    if call.window is not None:
        visible &= keys <= queries + call.window
        visible &= queries <= keys + call.window
    if "query_lengths" in refs:
        visible &= queries < refs["query_lengths"][batch]
    if query_ids is not None and key_ids is not None:
        rows, columns = (query_ids, key_ids) if query_axis == 0 else (key_ids, query_ids)
        visible &= along_rows(rows, shape) == along_columns(columns, shape)
    return jnp.where(visible, scores, -jnp.inf)


def keep(
    call: Call,
    refs: Refs,
    shape: tuple[int, ...],
    *,
    batch: jax.Array,
    head: jax.Array,
    first_query: jax.Array,
    first_key: jax.Array,
    query_axis: int,
) -> jax.Array:
    """bool tile: which weights dropout keeps, exactly those of `jaxformer.ops.dropout` over [B, N, T, S].

    Args:
      call: the call.
      refs: with "seed", uint32 [B, N].
      shape: of the tile.
      batch: which sentence.
      head: which query head.
      first_query: index of the tile's first query.
      first_key: index of the tile's first key.
      query_axis: 0, or 1 if the tile is transposed.

    Returns:
      The tile.
    """

    queries = _indices(first_query, shape, query_axis)
    keys = _indices(first_key, shape, 1 - query_axis)
    return keep_at(refs["seed"][batch, head], [queries, keys], (call.num_queries, call.num_keys), call.dropout)


def take_registers(groups: int) -> None:
    """What a warp group does first that is one of `groups` that compute."""
    plgpu.set_max_registers(registers(groups)[0], action="increase")


def give_registers(groups: int) -> None:
    """What the warp group does first that copies for `groups` others."""
    plgpu.set_max_registers(registers(groups)[1], action="decrease")


def grid(call: Call, tiles: int, heads: int) -> dict[str, Any]:
    """A backward kernel's launch: a thread block a tile, head and sentence; two warp groups compute and one copies."""
    # The last axis runs fastest: blocks at work at the same time then share their head's keys in the L2 cache.
    return {
        "grid": (call.batch, heads, tiles),
        "grid_names": ("batch", "head", "tile"),
        "num_threads": COMPUTE_GROUPS + 1,
        "thread_name": "group",
        "compiler_params": compiler_params(),
    }


def tile_index(call: Call, tiles: int) -> jax.Array:
    """Which tile of queries this thread block takes: with causal masks the longest loops start first."""
    tile = lax.axis_index("tile")
    return tiles - 1 - tile if call.causal else tile


def copy_keys(
    call: Call,
    refs: Refs,
    scratch: Refs,
    batch: jax.Array,
    head: jax.Array,
    count: Any,
    block_at: Callable[[Any], Any],
    *,
    keys: int,
    stages: int,
) -> None:
    """What the copying warp group does: fills stage after stage, once each is free, with blocks of keys and values.

    Args:
      call: the call.
      refs: "k", "v" and perhaps "key_ids" in global memory.
      scratch: the stages, likewise, and their barriers "k_full", "v_full", "k_free" and "v_free".
      batch: which sentence.
      head: which query head.
      count: how many blocks.
      block_at: which block is the one of an index below `count`.
      keys: in a block.
      stages: in the ring.
    """
    kv_head = lax.div(head, jnp.int32(call.groups))

    def step(index: jax.Array, _: None) -> None:
        slot = lax.rem(index, jnp.int32(stages))
        rows = pl.ds(block_at(index) * keys, keys)

        # The first round finds every stage free; the barriers' first completion is waited for in the second.
        @pl.when(index >= stages)
        def wait_for_k() -> None:
            plgpu.barrier_wait(scratch["k_free"].at[slot])

        plgpu.copy_gmem_to_smem(
            refs["k"].at[batch, rows, kv_head], scratch["k"].at[slot], scratch["k_full"].at[slot]
        )
        if "key_ids" in refs:
            plgpu.copy_gmem_to_smem(
                refs["key_ids"].at[batch, rows], scratch["key_ids"].at[slot], scratch["k_full"].at[slot]
            )

        @pl.when(index >= stages)
        def wait_for_v() -> None:
            plgpu.barrier_wait(scratch["v_free"].at[slot])

        plgpu.copy_gmem_to_smem(
            refs["v"].at[batch, rows, kv_head], scratch["v"].at[slot], scratch["v_full"].at[slot]
        )

    lax.fori_loop(0, count, step, None)
