"""Attention over one chunk of keys at a time, in plain array operations: memory linear in the number of keys.

The softmax is carried along as a running maximum and sum (Rabe and Staats 2021; Milakov and Gimelshein 2018). The
backward pass keeps the output and the log-sum-exp of each row, and makes the weights again chunk by chunk (Dao 2022).
Slower than the plain form wherever that fits into memory; it runs on any device and refuses nothing.

With inputs of 16 bits the output that is kept is rounded to them, as in torch's flash attention, and each row's
rowsum(dO O) is off by that; another one in float32 would take 4 T H bytes a head beside 2 T H. At usual scales,
gradients to q and k are right to a hundredth of their largest element in bfloat16, and to 2e-3 in float16. Where nearly
all rows give nearly all their weight to one key, these gradients all but vanish and the rounding remains: 0.9 of the
largest element was seen with 8 queries and keys, q 5 times as large and a scale of 1. `xla` has none of it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxformer.ops.attention.blocks import Band, Ids, as_ids
from jaxformer.ops.attention.mask import Mask
from jaxformer.ops.dropout import head_seeds, keep_at

DEFAULT_CHUNK = 256
"""Keys whose scores exist at a time."""


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What is known when the function is traced; `keys` is S without padding."""

    band: Band
    scale: float
    dropout: float
    chunk: int
    keys: int


class _Inputs(NamedTuple):
    """Arrays of the custom derivative; S' is a multiple of the chunk, G = N / K query heads share a key/value head."""

    q: jax.Array  # [B, T, K, G, H]
    k: jax.Array  # [B, S', K, H]
    v: jax.Array  # [B, S', K, H]
    ids: Ids | None
    seed: jax.Array | None  # uint32 [B, N]
    first: jax.Array | None  # int32 [1], the index of the first query; None for 0


def attention_xla_chunked(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: Mask | None,
    scale: float,
    dropout: float,
    dropout_seed: jax.Array | None,
    chunk: int = DEFAULT_CHUNK,
) -> jax.Array:
    """See `jaxformer.ops.attention.attention`; holds [B, N, T, chunk] weights, also in the backward pass.

    Args:
      q: [B, T, N, H].
      k: [B, S, K, H].
      v: [B, S, K, H].
      mask: as in `attention`.
      scale: of the scores.
      dropout: rate on the weights; drops the same ones as `attention_xla`.
      dropout_seed: uint32 scalar, or None for no dropout.
      chunk: keys visited at a time; S need not be a multiple.

    Returns:
      [B, T, N, H], in the dtype of `q`.
    """
    batch, num_queries, num_heads, head_size = q.shape
    num_keys, num_kv_heads = k.shape[1:3]
    chunk = min(chunk, max(num_keys, 1))
    padding = -num_keys % chunk
    padded = num_keys + padding
    if padding:
        k, v = (jnp.pad(x, [(0, 0), (0, padding), (0, 0), (0, 0)]) for x in (k, v))
    ids = as_ids(mask, batch, (num_queries, num_queries), (num_keys, padded))
    band = Band(
        causal=mask is not None and mask.causal,
        window=None if mask is None else mask.window,
        num_keys=num_keys if padding and ids is None else None,
    )
    dropped = dropout > 0.0 and dropout_seed is not None
    settings = _Settings(band, scale, dropout if dropped else 0.0, chunk, num_keys)
    grouped = q.reshape(batch, num_queries, num_kv_heads, num_heads // num_kv_heads, head_size)
    seed = head_seeds(dropout_seed, batch, num_heads) if dropped and dropout_seed is not None else None
    first = None if mask is None else mask.query_offset
    return _attention(settings, _Inputs(grouped, k, v, ids, seed, first)).reshape(q.shape)


class _Chunk(NamedTuple):
    """One chunk of C keys: what the passes in both directions need of it."""

    k: jax.Array  # [B, C, K, H]
    v: jax.Array
    scores: jax.Array  # [B, K, G, T, C], in float32 at least; hidden ones at the lowest number
    allowed: jax.Array | None  # bool, broadcasts with the scores
    kept: jax.Array | None  # by dropout


def _at(settings: _Settings, inputs: _Inputs, number: jax.Array) -> _Chunk:
    start = number * settings.chunk
    k, v = (jax.lax.dynamic_slice_in_dim(x, start, settings.chunk, axis=1) for x in (inputs.k, inputs.v))
    batch, num_queries, num_kv_heads, groups = inputs.q.shape[:4]
    queries, keys = jnp.arange(num_queries)[:, None], start + jnp.arange(settings.chunk)[None]
    if inputs.first is not None:
        queries += inputs.first
    # Softmax in float32 at least, for the reason given in attention_xla.
    dtype = jnp.promote_types(inputs.q.dtype, jnp.float32)
    scores = jnp.einsum("btkgh,bckh->bkgtc", inputs.q, k, preferred_element_type=dtype) * settings.scale
    ids = None
    if inputs.ids is not None:
        of_keys = jax.lax.dynamic_slice_in_dim(inputs.ids[1], start, settings.chunk, axis=1)
        ids = inputs.ids[0][:, None, None, :, None], of_keys[:, None, None, None, :]
    allowed = settings.band.allowed(queries, keys, ids)
    if allowed is not None:
        scores = jnp.where(allowed, scores, jnp.finfo(dtype).min)  # finite, or rows that see nothing would be nan
    kept = None
    if inputs.seed is not None:
        seeds = inputs.seed.reshape(batch, num_kv_heads, groups, 1, 1)
        kept = keep_at(seeds, [queries, keys], (num_queries, settings.keys), settings.dropout)
    return _Chunk(k, v, scores, allowed, kept)


def _weights(chunk: _Chunk, offset: jax.Array) -> jax.Array:
    """exp(scores - offset), 0 where hidden."""
    weights = jnp.exp(chunk.scores - offset)
    return weights if chunk.allowed is None else jnp.where(chunk.allowed, weights, 0.0)


def _after_dropout(settings: _Settings, chunk: _Chunk, x: jax.Array) -> jax.Array:
    return x if chunk.kept is None else jnp.where(chunk.kept, x * (1.0 / (1.0 - settings.dropout)), 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(settings: _Settings, inputs: _Inputs) -> jax.Array:
    """[B, T, K, G, H], in the dtype of `q`."""
    return _forward(settings, inputs)[0]


def _forward(settings: _Settings, inputs: _Inputs) -> tuple[jax.Array, tuple[_Inputs, jax.Array, jax.Array]]:
    """The output, and for the backward pass the output once more and the log-sum-exp [B, K, G, T, 1]."""
    batch, num_queries, num_kv_heads, groups, head_size = inputs.q.shape
    dtype = jnp.promote_types(inputs.q.dtype, jnp.float32)
    rows = (batch, num_kv_heads, groups, num_queries)

    def body(carry: tuple[jax.Array, ...], number: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
        accumulated, highest, total = carry
        chunk = _at(settings, inputs, number)
        higher = jnp.maximum(highest, chunk.scores.max(axis=-1, keepdims=True))
        shrink = jnp.exp(highest - higher)
        weights = _weights(chunk, higher)
        total = total * shrink + weights.sum(axis=-1, keepdims=True)
        weights = _after_dropout(settings, chunk, weights).astype(chunk.v.dtype)
        values = jnp.einsum("bkgtc,bckh->bkgth", weights, chunk.v, preferred_element_type=dtype)
        return (accumulated * shrink + values, higher, total), None

    start: tuple[jax.Array, ...] = (
        jnp.zeros((*rows, head_size), dtype),
        jnp.full((*rows, 1), jnp.finfo(dtype).min, dtype),
        jnp.zeros((*rows, 1), dtype),
    )
    (accumulated, highest, total), _ = jax.lax.scan(body, start, jnp.arange(inputs.k.shape[1] // settings.chunk))
    # A query that sees nothing has total 0 and gets zeros; elsewhere the total is at least exp(0) = 1.
    out = accumulated / jnp.maximum(total, 1e-9)
    log_sum_exp = jnp.where(total > 0.0, highest + jnp.log(jnp.maximum(total, 1e-9)), 0.0)
    out = out.transpose(0, 3, 1, 2, 4).astype(inputs.q.dtype)
    return out, (inputs, out, log_sum_exp)


def _backward(
    settings: _Settings, saved: tuple[_Inputs, jax.Array, jax.Array], gradient: jax.Array
) -> tuple[_Inputs]:
    """Gradients to q, k and v (Dao 2022, algorithm 4): with P the weights after dropout and W those before,
    dV = P^T dO, dW = dropout(dO V^T), dS = W (dW - rowsum(dO O)), dQ = dS K, dK = dS^T Q. O is rounded to the dtype of
    q; what that does to dQ and dK is said at the top."""
    inputs, out, log_sum_exp = saved
    dtype = log_sum_exp.dtype
    row_sum = jnp.einsum("btkgh,btkgh->bkgt", gradient, out, preferred_element_type=dtype)[..., None]

    def body(dq: jax.Array, number: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        chunk = _at(settings, inputs, number)
        weights = _weights(chunk, log_sum_exp)
        dropped = _after_dropout(settings, chunk, weights).astype(gradient.dtype)
        dv = jnp.einsum("bkgtc,btkgh->bckh", dropped, gradient, preferred_element_type=dtype)
        dw = jnp.einsum("btkgh,bckh->bkgtc", gradient, chunk.v, preferred_element_type=dtype)
        ds = weights * (_after_dropout(settings, chunk, dw) - row_sum) * settings.scale
        ds = ds.astype(inputs.q.dtype)
        dq += jnp.einsum("bkgtc,bckh->btkgh", ds, chunk.k, preferred_element_type=dtype)
        dk = jnp.einsum("bkgtc,btkgh->bckh", ds, inputs.q, preferred_element_type=dtype)
        return dq, (dk.astype(inputs.k.dtype), dv.astype(inputs.v.dtype))

    numbers = jnp.arange(inputs.k.shape[1] // settings.chunk)
    dq, stacked = jax.lax.scan(body, jnp.zeros(inputs.q.shape, dtype), numbers)
    dk, dv = (jnp.moveaxis(x, 0, 1).reshape(inputs.k.shape) for x in stacked)
    return (_Inputs(dq.astype(inputs.q.dtype), dk, dv, None, None, None),)


_attention.defvjp(_forward, _backward)
