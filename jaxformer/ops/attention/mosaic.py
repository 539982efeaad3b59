"""Attention on Hopper GPUs by our own fused kernels, written in Mosaic GPU (`jax.experimental.pallas.mosaic_gpu`).

Forward and backward never hold the [B, N, T, S] weights. Masks are worked out inside the kernels, and whole blocks
that a mask hides are skipped: `mosaic_blocks.py` says which, `mosaic_forward.py` and `mosaic_backward_*.py` are the
kernels, and this file is what surrounds them: refusals, padding, and the gradient rule.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxformer.ops.attention.checks import check_dropout
from jaxformer.ops.attention.mask import Mask
from jaxformer.ops.attention.mosaic_blocks import (
    SHARED_MEMORY,
    TILE,
    Blocks,
    block_ranges,
    default_blocks,
    visibility,
)
from jaxformer.ops.dropout import head_seeds

if TYPE_CHECKING:  # importing Mosaic GPU takes a moment, which only those wait who use it
    from jaxformer.ops.attention.mosaic_tile import Call


def attention_mosaic(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: Mask | None,
    scale: float,
    dropout: float,
    dropout_seed: jax.Array | None,
) -> jax.Array:
    """See `jaxformer.ops.attention.attention`; for bfloat16 and float16 on an H100, H200 or another Hopper GPU."""
    _refuse_device()
    return attention_mosaic_anywhere(
        q, k, v, mask=mask, scale=scale, dropout=dropout, dropout_seed=dropout_seed
    )


def attention_mosaic_anywhere(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: Mask | None,
    scale: float,
    dropout: float,
    dropout_seed: jax.Array | None,
    blocks: Blocks | None = None,
) -> jax.Array:
    """`attention_mosaic` without asking what device there is: to lower for one that is not here, or to try `blocks`.

    Args:
      q: [B, T, N, H].
      k: [B, S, K, H].
      v: [B, S, K, H].
      mask: which keys each query may see; None for all.
      scale: of the scores; positive.
      dropout: rate on the attention weights.
      dropout_seed: uint32 scalar; None switches dropout off.
      blocks: block sizes; by default those for the call.

    Returns:
      [B, T, N, H], in the dtype of `q`.

    Raises:
      NotImplementedError: for what the kernels do not do, with the reason.
    """
    from jaxformer.ops.attention.mosaic_tile import Call

    _refuse_call(q, k, v, scale)
    check_dropout(dropout)
    head_size = q.shape[3]
    mask = Mask() if mask is None else mask
    drops = dropout > 0.0 and dropout_seed is not None
    if blocks is None:
        blocks = _blocks_for(q, k, mask, drops=drops)
    _refuse_blocks(blocks, head_size)
    if mask.offset_matters(drops):
        raise NotImplementedError("its kernels count queries from 0, and these are some of more (query_offset)")
    call = Call(
        batch=q.shape[0],
        num_queries=q.shape[1],
        num_keys=k.shape[1],
        num_heads=q.shape[2],
        num_kv_heads=k.shape[2],
        head_size=head_size,
        scale=float(scale),
        dropout=0.0 if dropout_seed is None else float(dropout),
        causal=mask.causal,
        window=mask.window,
        blocks=blocks,
    )
    seed = head_seeds(dropout_seed, call.batch, call.num_heads) if call.dropout and dropout_seed is not None else None
    return _attention(call, q, k, v, mask, seed)


def _blocks_for(q: jax.Array, k: jax.Array, mask: Mask, *, drops: bool) -> Blocks:
    """The blocks that are fastest for a call; `drops` says whether weights are dropped."""
    batch, queries, heads, head_size = q.shape
    blocks = default_blocks(head_size)
    if not drops and _sees_all(mask, k.shape[1], blocks.forward_keys):
        return default_blocks(head_size, plain=(queries, batch * heads))
    if mask.key_segment_ids is not None:
        return default_blocks(head_size, segmented_keys=k.shape[1])
    return blocks


def _refuse_call(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> None:
    """Raises `NotImplementedError` for operands that no block sizes could help."""
    if q.dtype not in (jnp.bfloat16, jnp.float16) or k.dtype != q.dtype or v.dtype != q.dtype:
        dtypes = ", ".join(str(x.dtype) for x in (q, k, v))
        raise NotImplementedError(f"takes bfloat16 or float16, got {dtypes}: wgmma has no float32 operands")
    if not scale > 0.0:
        raise NotImplementedError(f"takes a positive scale, got {scale}: the maximum is taken before scaling")
    if 0 in (*q.shape, *k.shape):
        raise NotImplementedError(f"takes no empty arrays, got {q.shape} and {k.shape}")
    if q.shape[0] > 65535 or q.shape[2] > 65535:
        raise NotImplementedError(f"a launch takes at most 65535 sentences and heads, got {q.shape}")


def _refuse_blocks(blocks: Blocks, head_size: int) -> None:
    """Raises `NotImplementedError` for blocks that do not fit into shared memory."""
    for kernel, size in blocks.shared_memory(head_size).items():
        if size > SHARED_MEMORY:
            raise NotImplementedError(
                f"the {kernel} kernel of head size {head_size} needs {size} bytes of shared memory, more than"
                f" {SHARED_MEMORY}, with {blocks}"
            )


def _refuse_device() -> None:
    """Raises `NotImplementedError` unless the default device is a Hopper GPU: wgmma is of that generation alone."""
    backend = jax.default_backend()
    if backend != "gpu":
        raise NotImplementedError(f"runs on Hopper GPUs, and this backend is {backend}")
    device = jax.devices()[0]
    capability = str(getattr(device, "compute_capability", "unknown"))
    if capability.split(".")[0] != "9":
        raise NotImplementedError(
            f"runs on Hopper GPUs (compute capability 9.0), and {device.device_kind} has {capability}"
        )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(call: Call, q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask, seed: jax.Array | None) -> jax.Array:
    return _forward(call, q, k, v, mask, seed)[0]


def _forward(
    call: Call, q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask, seed: jax.Array | None
) -> tuple[jax.Array, tuple[Any, ...]]:
    from jaxformer.ops.attention import mosaic_short
    from jaxformer.ops.attention.mosaic_forward import forward

    arrays = {"q": _eights(q), "k": _eights(k), "v": _eights(v)}
    if mosaic_short.takes(call):
        out = mosaic_short.forward(call, arrays | _numbers(call, mask, None, seed))
        return out[:, : call.num_queries], (q, k, v, mask, seed, None, None)
    ranges = _ranges(call, mask, call.blocks.forward_tile, call.blocks.forward_keys)
    arrays |= _numbers(call, mask, ranges, seed)
    out, lse = forward(call, arrays)
    out = out[:, : call.num_queries]
    return out, (q, k, v, mask, seed, out, lse)


def _backward(call: Call, residuals: tuple[Any, ...], d_out: jax.Array) -> tuple[jax.Array | None, ...]:
    from jaxformer.ops.attention import mosaic_short
    from jaxformer.ops.attention.mosaic_backward_keys import backward_keys
    from jaxformer.ops.attention.mosaic_backward_queries import backward_queries

    q, k, v, mask, seed, out, lse = residuals
    arrays = {"q": _eights(q), "k": _eights(k), "v": _eights(v), "d_out": _eights(d_out.astype(q.dtype))}
    if mosaic_short.takes(call):
        dq, dk, dv = mosaic_short.backward(call, arrays | _numbers(call, mask, None, seed))
        return dq[:, : call.num_queries], dk[:, : call.num_keys], dv[:, : call.num_keys], None, None
    # A row's product of output and gradient: what the softmax takes off the gradient of each of its weights.
    delta = (out.astype(jnp.float32) * d_out.astype(jnp.float32)).sum(axis=-1).swapaxes(1, 2)
    delta = jnp.pad(delta, ((0, 0), (0, 0), (0, call.padded_queries - call.num_queries)))
    arrays |= {"lse": lse, "delta": delta}
    ranges = _ranges(call, mask, TILE, call.blocks.dq_keys)
    dq = backward_queries(call, arrays | _numbers(call, mask, ranges, seed))
    ranges = _ranges(call, mask, call.blocks.dkv_queries, TILE, of_keys=True)
    dk, dv = backward_keys(call, arrays | _numbers(call, mask, ranges, seed))
    return dq[:, : call.num_queries], dk[:, : call.num_keys], dv[:, : call.num_keys], None, None


_attention.defvjp(_forward, _backward)


def _eights(x: jax.Array) -> jax.Array:
    """[B, L, N, H] with L filled up to a multiple of 8: tiled TMA copies see rows in eights, and fill in the rest."""
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % 8), (0, 0), (0, 0)))


def _sees_all(mask: Mask, num_keys: int, key_block: int) -> bool:
    """Whether no mask is to be worked out, not even one that hides what fills up the last block of keys."""
    return not (mask.causal or mask.window is not None or jax.tree.leaves(mask) or num_keys % key_block)


def _ranges(call: Call, mask: Mask, query_block: int, key_block: int, *, of_keys: bool = False) -> jax.Array | None:
    """int32 [B or 1, tiles, 4], see `block_ranges`: of keys for each tile of queries, or the reverse; None for all."""
    if _sees_all(mask, call.num_keys, key_block):
        return None  # known without: the kernels then have no masks in them at all
    visible, whole = visibility(mask, call.num_queries, call.num_keys, query_block, key_block)
    if of_keys:
        visible, whole = visible.swapaxes(1, 2), whole.swapaxes(1, 2)
    return block_ranges(visible, whole)


def _numbers(call: Call, mask: Mask, ranges: jax.Array | None, seed: jax.Array | None) -> dict[str, jax.Array]:
    """What the kernels read of masks and dropout: only what there is."""
    numbers: dict[str, jax.Array | None] = {"ranges": ranges, "query_lengths": mask.query_lengths, "seed": seed}
    if mask.key_lengths is not None:
        numbers["key_lengths"] = jnp.minimum(mask.key_lengths, call.num_keys)
    if mask.query_segment_ids is not None and mask.key_segment_ids is not None:
        # Segment 0 sees nothing, itself included: among keys it gets a number that no query has.
        keys = jnp.where(mask.key_segment_ids == 0, jnp.iinfo(jnp.int32).min, mask.key_segment_ids)
        for name, ids, length in (
            ("query_ids", mask.query_segment_ids, call.padded_queries),
            ("key_ids", keys, call.padded_keys),
        ):
            numbers[name] = jnp.pad(ids, ((0, 0), (0, length - ids.shape[1])))
    return {
        name: array if name == "seed" else array.astype(jnp.int32)
        for name, array in numbers.items()
        if array is not None
    }
