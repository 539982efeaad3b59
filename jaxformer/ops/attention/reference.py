"""Attention as plain array operations: what every other implementation is compared with."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxformer.ops.attention.mask import Mask
from jaxformer.ops.dropout import dropout as apply_dropout, head_seeds


def attention_xla(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: Mask | None,
    scale: float,
    dropout: float,
    dropout_seed: jax.Array | None,
) -> jax.Array:
    """See `jaxformer.ops.attention.attention`; holds the [B, N, T, S] weights."""
    batch, num_queries, num_heads, head_size = q.shape
    num_keys, num_kv_heads = k.shape[1:3]
    groups = num_heads // num_kv_heads
    grouped = q.reshape(batch, num_queries, num_kv_heads, groups, head_size)
    # Softmax in float32 at least: bfloat16 has 8 bits of mantissa, and a sum over S keys needs more.
    scores = jnp.einsum("btkgh,bskh->bkgts", grouped, k, preferred_element_type=jnp.promote_types(q.dtype, jnp.float32))
    scores = scores.reshape(batch, num_heads, num_queries, num_keys) * scale
    allowed = None if mask is None else mask.materialise(num_queries, num_keys)
    if allowed is not None:
        # A large finite fill: -inf would make a row that sees nothing nan, in the gradient as well.
        scores = jnp.where(allowed, scores, jnp.finfo(scores.dtype).min)
    scores -= jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores)
    if allowed is not None:
        weights = jnp.where(allowed, weights, 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    # A query that sees nothing has total 0 and gets zeros; elsewhere the total is at least exp(0) = 1.
    weights /= jnp.maximum(total, 1e-9)
    seeds = None if dropout_seed is None else head_seeds(dropout_seed, batch, num_heads)
    first = None if mask is None else mask.query_offset
    weights = apply_dropout(weights, dropout, seeds, first=first).astype(v.dtype)
    weights = weights.reshape(batch, num_kv_heads, groups, num_queries, num_keys)
    return jnp.einsum("bkgts,bskh->btkgh", weights, v).reshape(q.shape).astype(q.dtype)
