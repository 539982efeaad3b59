"""Attention by cuDNN, through `jax.nn.dot_product_attention`: for the calls it is known to get right, and no others.

Refused, each with its reason: what cuDNN or jax's way to it does wrong, does differently, or was not verified to do
right. Lengths are passed on, and besides whatever lies beyond them is kept out by hand, values and gradients, so that
nothing depends on what cuDNN leaves in places that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.ops.attention.choice import current_device
from jaxformer.ops.attention.mask import Mask


def attention_cudnn(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: Mask | None,
    scale: float,
    dropout: float,
    dropout_seed: jax.Array | None,
) -> jax.Array:
    """See `jaxformer.ops.attention.attention`.

    Raises:
      NotImplementedError: for everything but bfloat16 or float16 on an NVIDIA GPU of compute capability 8 or more, one
        key/value head to a query head, no dropout, even T and S, and a mask of key and query lengths or a causal one
        with T = S.
    """
    reasons = list(_refusals(q, k, v, mask, dropout > 0.0 and dropout_seed is not None))
    if reasons:
        raise NotImplementedError("; ".join(reasons))
    mask = Mask() if mask is None else mask
    query_lengths, key_lengths = (
        None if x is None else jnp.clip(x, 0, size).astype(jnp.int32)
        for x, size in ((mask.query_lengths, q.shape[1]), (mask.key_lengths, k.shape[1]))
    )
    q, k, v = _within(q, query_lengths), _within(k, key_lengths), _within(v, key_lengths)
    # A row without any key has no softmax, so such a row gets one key, a zero, and its output is discarded below.
    at_least_one = [None if x is None else jnp.maximum(x, 1) for x in (query_lengths, key_lengths)]
    out = jax.nn.dot_product_attention(
        q,
        k,
        v,
        scale=scale,
        is_causal=mask.causal,
        query_seq_lengths=at_least_one[0],
        key_value_seq_lengths=at_least_one[1],
        implementation="cudnn",
    )
    out = _within(out, query_lengths)
    return out if key_lengths is None else jnp.where((key_lengths > 0)[:, None, None, None], out, 0)


def _within(x: jax.Array, lengths: jax.Array | None) -> jax.Array:
    """[B, L, N, H] with zeros from each row's length on; so is its gradient, whatever is found there."""
    if lengths is None:
        return x
    return jnp.where((jnp.arange(x.shape[1]) < lengths[:, None])[:, :, None, None], x, 0)


def _refusals(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask | None, dropped: bool) -> Iterator[str]:
    head_size = q.shape[3]
    if q.dtype not in (jnp.bfloat16, jnp.float16) or not q.dtype == k.dtype == v.dtype:
        yield f"cuDNN takes bfloat16 and float16 only, not {q.dtype.name}, {k.dtype.name}, {v.dtype.name}"
    if 0 in q.shape + k.shape:
        yield f"an empty array: q {q.shape}, k {k.shape}"
    if head_size % 8:
        yield f"head size {head_size} is no multiple of 8"
    if q.shape[1] % 2 or k.shape[1] % 2:
        yield f"with an odd number of queries or keys ({q.shape[1]}, {k.shape[1]}) it failed its tests on an H100"
    if q.shape[2] != k.shape[2]:
        yield "grouped-query attention was not verified here"
    if dropped:
        yield "its dropout has a random mask of its own, not the one of the other implementations"
    if mask is not None:
        yield from _mask_refusals(mask, q.shape[1], k.shape[1])
    yield from _device_refusals(current_device(), head_size)


def _mask_refusals(mask: Mask, queries: int, keys: int) -> Iterator[str]:
    lengths = mask.query_lengths is not None or mask.key_lengths is not None
    if mask.query_segment_ids is not None or mask.key_segment_ids is not None:
        yield "it knows no segment ids, and packed sentences would see each other (maxtext#4478)"
    if mask.window is not None:
        yield "its window only reaches back, and this one reaches both ways"
    if mask.causal and queries != keys:
        yield f"a causal mask is wrong for {queries} queries and {keys} keys (jax#24491)"
    if mask.offset_matters(dropped=False):
        yield "it counts queries from 0, and these are some of more (query_offset)"
    if mask.causal and lengths:
        yield "a causal mask together with lengths was not verified here"
    if lengths and 64 in (queries % 128, keys % 128):  # pytorch#196678
        yield f"with lengths its gradient is nan where T or S is 64 beyond a multiple of 128 ({queries}, {keys})"


def _device_refusals(device: Any, head_size: int) -> Iterator[str]:
    if device.platform != "gpu" or "rocm" in device.client.platform_version.lower():
        yield f"it needs an NVIDIA GPU, not {device.device_kind}"
        return
    capability = float(device.compute_capability)
    if capability < 8.0:
        yield f"{device.device_kind} has compute capability {capability}, cuDNN's attention needs 8.0"
    largest = 256 if capability >= 9.0 else 128
    if head_size > largest:
        yield f"head size {head_size} is above {largest}, the largest on {device.device_kind}"
