"""Fused attention as portable Pallas kernels: no T x S array of weights, forward or backward (Dao 2023).

The kernels (`pallas_kernels.py`) use nothing of one backend alone, but which backend compiles them has to be said:

- On a GPU, Pallas' Triton route. It is deprecated since jax 0.11, and yet the only one that takes these kernels: Mosaic
  GPU, the default of `pl.pallas_call` there, refuses them (seen with jax 0.10.2: "Only copies transferring a number of
  bytes divisible by the warpgroup size are supported", of the block specs), and has no rule for `dot_general` either: a
  product of matrices is there an instruction of one generation of chips. When jax drops Triton, this implementation
  refuses, and says so. Lowered for CUDA by the tests; not yet run on a GPU.
- On a TPU, Mosaic: written for its rules, but neither run nor lowered, which needs one ("Unsupported TPU device kind").
- On a CPU, Pallas' interpreter: right and very slow, for tests. Nothing chooses it unless it is named.

Gradients of 16-bit inputs are as exact as those of `chunked`, and no better where softmax is saturated; see there.

GSPMD cannot split a kernel: under a mesh of several devices, `jit` gathers its operands, unless it is called inside
`jax.shard_map`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from jaxformer.ops.attention import pallas_kernels as kernels, pallas_platforms as platforms
from jaxformer.ops.attention.blocks import Band, Ids, as_ids, block_ranges, visible_blocks
from jaxformer.ops.attention.choice import current_device
from jaxformer.ops.attention.mask import Mask
from jaxformer.ops.dropout import head_seeds

HEAD_SIZES = (32, 256)
DTYPES = ("bfloat16", "float16", "float32")


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What is known when the function is traced; the platform is "cpu" (interpreted), "gpu" or "tpu"."""

    forward: kernels.Tiling
    backward: kernels.Tiling
    platform: str


class _Inputs(NamedTuple):
    """Arrays of the custom derivative; T' and S' are whole blocks, H' a power of 2."""

    q: jax.Array  # [B, N, T', H']
    k: jax.Array  # [B, K, S', H']
    v: jax.Array  # [B, K, S', H']
    ids: Ids | None  # int32 [B, T', 1] and [B, 1, S']
    seed: jax.Array | None  # uint32 [B, N]


def attention_pallas(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: Mask | None,
    scale: float,
    dropout: float,
    dropout_seed: jax.Array | None,
    platform: str | None = None,
) -> jax.Array:
    """See `jaxformer.ops.attention.attention`; never holds the weights, forward or backward.

    Args:
      q: [B, T, N, H]; bfloat16, float16 or float32, with H from 32 to 256; summed in float32.
      k: [B, S, K, H], in the dtype of `q`.
      v: [B, S, K, H], in the dtype of `q`.
      mask: as in `attention`; blocks in which nothing is seen are skipped.
      scale: of the scores.
      dropout: rate on the weights; drops the same ones as `attention_xla`.
      dropout_seed: uint32 scalar, or None for no dropout.
      platform: "cpu" interprets, "gpu" and "tpu" compile for that; by default what the computation runs on.

    Returns:
      [B, T, N, H], in the dtype of `q`.

    Raises:
      NotImplementedError: for other head sizes and dtypes, where it matters that queries are some of more
        (`Mask.query_offset`), and on a GPU for which this jax has no Triton.
    """
    batch, num_queries, num_heads, head_size = q.shape
    num_keys, num_kv_heads = k.shape[1:3]
    dropped = dropout > 0.0 and dropout_seed is not None
    _refuse(q, k, v, mask, dropped)
    platform = platform or current_device().platform
    wide = head_size > 128 or q.dtype == jnp.float32
    forward_blocks, backward_blocks = platforms.block_sizes(platform, wide, num_queries, num_keys)
    # Whole blocks for both passes; all sizes are powers of 2, so the larger is a multiple of the other.
    block_q, block_k = map(max, forward_blocks, backward_blocks)
    padded_queries, padded_keys = pl.cdiv(num_queries, block_q) * block_q, pl.cdiv(num_keys, block_k) * block_k
    ids = as_ids(mask, batch, (num_queries, padded_queries), (num_keys, padded_keys))
    band = Band(
        causal=mask is not None and mask.causal,
        window=None if mask is None else mask.window,
        num_keys=num_keys if padded_keys != num_keys and ids is None else None,
    )
    shape, groups = (batch, num_heads, num_queries, num_keys), num_heads // num_kv_heads
    forward, backward = (
        kernels.Tiling(band, scale, dropout if dropped else 0.0, shape, groups, *blocks)
        for blocks in (forward_blocks, backward_blocks)
    )
    inputs = _Inputs(
        _heads_first(q, padded_queries),
        _heads_first(k, padded_keys),
        _heads_first(v, padded_keys),
        None if ids is None else (ids[0][:, :, None], ids[1][:, None, :]),
        head_seeds(dropout_seed, batch, num_heads) if dropped and dropout_seed is not None else None,
    )
    out = _attention(_Settings(forward, backward, platform), inputs)
    return out[:, :, :num_queries, :head_size].transpose(0, 2, 1, 3)


def _refuse(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask | None, dropped: bool) -> None:
    if not HEAD_SIZES[0] <= q.shape[3] <= HEAD_SIZES[1]:
        raise NotImplementedError(f"head size {q.shape[3]} is not between {HEAD_SIZES[0]} and {HEAD_SIZES[1]}")
    if q.dtype.name not in DTYPES or not q.dtype == k.dtype == v.dtype:
        given = ", ".join(x.dtype.name for x in (q, k, v))
        raise NotImplementedError(f"q, k and v must have one dtype of {', '.join(DTYPES)}, not {given}")
    if 0 in q.shape + k.shape:
        raise NotImplementedError(f"an empty array has no blocks: q {q.shape}, k {k.shape}")
    if mask is not None and mask.offset_matters(dropped):
        raise NotImplementedError("its kernels count queries from 0, and these are some of more (query_offset)")


def _heads_first(x: jax.Array, length: int) -> jax.Array:
    """[B, L, N, H] as [B, N, length, H'] with zeros behind: a TPU wants the last two axes in a tile."""
    size = pl.next_power_of_2(x.shape[3])
    x = jnp.pad(x, [(0, 0), (0, length - x.shape[1]), (0, 0), (0, size - x.shape[3])])
    return x.transpose(0, 2, 1, 3)


def _call(kernel: Any, settings: _Settings, tiling: kernels.Tiling, head_size: int, **spec: Any) -> Any:
    return pl.pallas_call(
        functools.partial(kernel, tiling=tiling),
        compiler_params=platforms.compiler_params(settings.platform, head_size),
        interpret=settings.platform == "cpu",
        **spec,
    )


def _leading(inputs: _Inputs, ids: Any, platform: str) -> list:
    """Specs of the ranges, the seed and the ids; None for what is not there."""
    scalars = platforms.scalars(platform)
    return [scalars, None if inputs.seed is None else scalars, None if inputs.ids is None else ids]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(settings: _Settings, inputs: _Inputs) -> jax.Array:
    """[B, N, T', H'], in the dtype of `q`."""
    return _forward(settings, inputs)[0]


class _Shapes(NamedTuple):
    """Sizes of the padded arrays, and how many blocks of queries and of keys they have."""

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    head_size: int
    query_blocks: int
    key_blocks: int

    @classmethod
    def of(cls, inputs: _Inputs, tiling: kernels.Tiling) -> _Shapes:
        """Of these inputs, cut into these tiles."""
        batch, heads, queries, head_size = inputs.q.shape
        kv_heads, keys = inputs.k.shape[1:3]
        blocks = queries // tiling.block_q, keys // tiling.block_k
        return cls(batch, heads, kv_heads, queries, keys, head_size, *blocks)

    def by_query(self, tiling: kernels.Tiling, inputs: _Inputs, platform: str) -> tuple[list, Any, Any]:
        """For a grid over blocks of queries: specs of the inputs, of one more array like q, and of a row's number."""
        rows = pl.BlockSpec((None, None, tiling.block_q, self.head_size), lambda b, n, i: (b, n, i, 0))
        numbers = pl.BlockSpec((None, None, tiling.block_q, 1), lambda b, n, i: (b, n, i, 0))
        shared = pl.BlockSpec((None, None, self.keys, self.head_size), lambda b, n, i: (b, n // tiling.groups, 0, 0))
        ids = (
            pl.BlockSpec((None, tiling.block_q, 1), lambda b, n, i: (b, i, 0)),
            pl.BlockSpec((None, 1, self.keys), lambda b, n, i: (b, 0, 0)),
        )
        return [*_leading(inputs, ids, platform), rows, shared, shared], rows, numbers

    def by_key(self, tiling: kernels.Tiling, inputs: _Inputs, platform: str) -> tuple[list, Any]:
        """For a grid over blocks of keys: specs of the inputs of the gradient, and of one more array like k."""
        group = pl.BlockSpec((None, tiling.groups, self.queries, self.head_size), lambda b, n, j: (b, n, 0, 0))
        numbers = pl.BlockSpec((None, tiling.groups, self.queries, 1), lambda b, n, j: (b, n, 0, 0))
        columns = pl.BlockSpec((None, None, tiling.block_k, self.head_size), lambda b, n, j: (b, n, j, 0))
        ids = (
            pl.BlockSpec((None, self.queries, 1), lambda b, n, j: (b, 0, 0)),
            pl.BlockSpec((None, 1, tiling.block_k), lambda b, n, j: (b, 0, j)),
        )
        return [*_leading(inputs, ids, platform), group, columns, columns, group, numbers, numbers], columns


def _visible(tiling: kernels.Tiling, inputs: _Inputs, shapes: _Shapes) -> jax.Array:
    flat = None if inputs.ids is None else (inputs.ids[0][:, :, 0], inputs.ids[1][:, 0])
    queries, keys = (shapes.queries, tiling.block_q), (shapes.keys, tiling.block_k)
    return visible_blocks(tiling.band, flat, shapes.batch, queries, keys)


def _forward(settings: _Settings, inputs: _Inputs) -> tuple[jax.Array, tuple[_Inputs, jax.Array, jax.Array]]:
    """The output, and for the backward pass the output once more and the log-sum-exp, float32 [B, N, T', 1]."""
    tiling = settings.forward
    shapes = _Shapes.of(inputs, tiling)
    in_specs, rows, numbers = shapes.by_query(tiling, inputs, settings.platform)
    out, log_sum = _call(
        kernels.forward_kernel,
        settings,
        tiling,
        shapes.head_size,
        name="attention_forward",
        grid=(shapes.batch, shapes.heads, shapes.query_blocks),
        in_specs=in_specs,
        out_specs=[rows, numbers],
        out_shape=[
            jax.ShapeDtypeStruct(inputs.q.shape, inputs.q.dtype),
            jax.ShapeDtypeStruct((*inputs.q.shape[:3], 1), jnp.float32),
        ],
    )(block_ranges(_visible(tiling, inputs, shapes)), inputs.seed, inputs.ids, inputs.q, inputs.k, inputs.v)
    return out, (inputs, out, log_sum)


def _backward(
    settings: _Settings, saved: tuple[_Inputs, jax.Array, jax.Array], gradient: jax.Array
) -> tuple[_Inputs]:
    """Gradients to q, k and v, in two kernels, so that no two programs write to one place."""
    inputs, out, log_sum = saved
    tiling = settings.backward
    shapes = _Shapes.of(inputs, tiling)
    delta = (out.astype(jnp.float32) * gradient.astype(jnp.float32)).sum(axis=-1, keepdims=True)
    visible = _visible(tiling, inputs, shapes)
    arrays = (inputs.seed, inputs.ids, inputs.q, inputs.k, inputs.v, gradient, log_sum, delta)

    in_specs, rows, numbers = shapes.by_query(tiling, inputs, settings.platform)
    dq = _call(
        kernels.query_gradient_kernel,
        settings,
        tiling,
        shapes.head_size,
        name="attention_query_gradient",
        grid=(shapes.batch, shapes.heads, shapes.query_blocks),
        in_specs=[*in_specs, rows, numbers, numbers],
        out_specs=rows,
        out_shape=jax.ShapeDtypeStruct(inputs.q.shape, inputs.q.dtype),
    )(block_ranges(visible), *arrays)

    in_specs, columns = shapes.by_key(tiling, inputs, settings.platform)
    dk, dv = _call(
        kernels.key_value_gradient_kernel,
        settings,
        tiling,
        shapes.head_size,
        name="attention_key_value_gradient",
        grid=(shapes.batch, shapes.kv_heads, shapes.key_blocks),
        in_specs=in_specs,
        out_specs=[columns, columns],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (inputs.k, inputs.v)],
    )(block_ranges(visible.swapaxes(1, 2)), *arrays)
    return (_Inputs(dq, dk, dv, None, None),)


_attention.defvjp(_forward, _backward)
