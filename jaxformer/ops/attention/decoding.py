"""Attention of one query a beam over keys kept from earlier steps, laid out as the two products read them.

In decoding every step reads the whole cache: stored as projections make it, [B, S, K, H], it would be transposed each
time. Not for whole sequences (`api`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def decode_attention(
    q: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    visible: jax.Array,
    *,
    transposed: bool,
    scale: float | None = None,
) -> jax.Array:
    """Scaled dot-product attention with keys and values shared by the beams of a sentence.

    Args:
      q: [B, W, N, H], one query of every beam.
      keys: [B, K, H, S], or [B, K, S, H] where not `transposed`; K divides N.
      values: [B, K, S, H].
      visible: bool [B, W or 1, S], which keys a beam may see; a beam that sees nothing gets zeros.
      transposed: whether keys are [B, K, H, S]. On a CPU one query is as fast with either layout, several
        with this one alone.
      scale: of the scores; by default 1 / sqrt(H).

    Returns:
      [B, W, N, H], in the dtype of `q`.
    """
    batch, beams, num_heads, head_size = q.shape
    num_kv_heads = values.shape[1]
    groups = num_heads // num_kv_heads
    scale = head_size**-0.5 if scale is None else scale
    grouped = jnp.swapaxes(q.reshape(batch, beams, num_kv_heads, groups * head_size), 1, 2)
    grouped = grouped.reshape(batch, num_kv_heads, beams * groups, head_size)
    products = ((0, 1), (0, 1))
    over_head_size = ((3,), (2 if transposed else 3,))
    scores = jax.lax.dot_general(
        grouped, keys, (over_head_size, products), preferred_element_type=jnp.promote_types(q.dtype, jnp.float32)
    )
    scores = scores.reshape(batch, num_kv_heads, beams, groups, -1) * scale
    allowed = visible[:, None, :, None, :]
    scores = jnp.where(allowed, scores, jnp.finfo(scores.dtype).min)  # finite, as in `reference`
    weights = jnp.where(allowed, jnp.exp(scores - scores.max(axis=-1, keepdims=True)), 0.0)
    weights /= jnp.maximum(weights.sum(axis=-1, keepdims=True), 1e-9)
    weights = weights.reshape(batch, num_kv_heads, beams * groups, -1).astype(values.dtype)
    out = jax.lax.dot_general(weights, values, (((3,), (2,)), products))
    out = jnp.swapaxes(out.reshape(batch, num_kv_heads, beams, groups * head_size), 1, 2)
    return out.reshape(q.shape).astype(q.dtype)
