"""Attention and its gradient in float64, by the formulas, in numpy; and masks said twice, as `Mask` and as arrays."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxformer.ops import Mask

MASKS = ("none", "causal", "lengths", "query lengths", "segments", "causal+segments", "window", "nothing")

# Of a result to its largest element: rounding of the output and of the weights, 8, 11 and 24 bits of mantissa.
TOLERANCE = {"float32": 1e-5, "float16": 3e-3, "bfloat16": 2e-2}


def random_inputs(batch=2, queries=5, keys=7, heads=4, kv_heads=4, size=8, dtype="float32", seed=0):
    """q, k, v and a gradient of the output."""
    rng = np.random.default_rng(seed)
    shapes = [(batch, queries, heads, size), *[(batch, keys, kv_heads, size)] * 2, (batch, queries, heads, size)]
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


def _ids(length, batch, seed):
    """Ascending segments 1, 2, 3 in [B, L], with padding at the end of the odd rows."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.integers(1, 4, size=(batch, length)), axis=1)
    ids[1::2, length - length // 5:] = 0
    return ids.astype(np.int32)


def make_mask(name, batch, queries, keys):
    """A mask, and bool [B, T, S] of what it lets be seen, made by other means."""
    t, s = np.arange(queries)[:, None], np.arange(keys)
    everything = np.ones((batch, queries, keys), bool)
    rng = np.random.default_rng(queries * 1000 + keys)
    if name == "none":
        return None, everything
    if name == "causal":
        return Mask(causal=True), everything & (s <= t)
    if name == "window":
        width = max(1, keys // 5)
        return Mask(window=width), everything & (abs(s - t) <= width)
    if name == "nothing":
        return Mask(key_lengths=jnp.zeros(batch, jnp.int32)), ~everything
    if name == "lengths":
        lengths = rng.integers(1, keys + 1, size=batch)
        lengths[0] = 0 if keys > 60 else lengths[0]
        return Mask(key_lengths=jnp.asarray(lengths, jnp.int32)), everything & (s < lengths[:, None, None])
    if name == "query lengths":
        lengths = rng.integers(1, queries + 1, size=batch)
        return Mask(query_lengths=jnp.asarray(lengths, jnp.int32)), everything & (t < lengths[:, None, None])
    query_ids, key_ids = _ids(queries, batch, 1), _ids(keys, batch, 2)
    allowed = (query_ids[:, :, None] == key_ids[:, None]) & (key_ids[:, None] != 0)
    mask = Mask.segments(jnp.asarray(query_ids), jnp.asarray(key_ids))
    if name == "segments":
        return mask, allowed
    assert name == "causal+segments"
    return mask & Mask(causal=True), allowed & (s <= t)


def exact(q, k, v, allowed, do=None, kept=None, rate=0.0, scale=None):
    """Output, and the gradients to q, k and v; `kept` bool [B, N, T, S] says which weights survive dropout."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    groups = q.shape[2] // k.shape[2]
    scale = 1 / np.sqrt(q.shape[3]) if scale is None else scale
    many_k, many_v = (np.repeat(x, groups, axis=2) for x in (k, v))
    scores = np.einsum("btnh,bsnh->bnts", q, many_k) * scale
    scores = np.where(allowed[:, None], scores, -np.inf)
    highest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(highest), highest, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    factor = 1.0 if kept is None else np.asarray(kept) / (1 - rate)
    out = np.einsum("bnts,bsnh->btnh", weights * factor, many_v)
    if do is None:
        return out
    do = np.asarray(do, np.float64)
    dv = np.einsum("bnts,btnh->bsnh", weights * factor, do)
    dw = np.einsum("btnh,bsnh->bnts", do, many_v) * factor
    ds = weights * (dw - (weights * dw).sum(axis=-1, keepdims=True)) * scale
    dq, dk = np.einsum("bnts,bsnh->btnh", ds, many_k), np.einsum("bnts,btnh->bsnh", ds, q)
    dk, dv = (x.reshape(*k.shape[:2], k.shape[2], groups, k.shape[3]).sum(axis=3) for x in (dk, dv))
    return out, dq, dk, dv


def assert_close(ours, theirs, dtype):
    """Within the tolerance of the dtype, relative to the largest element; and never nan."""
    for name, a, b in zip(("out", "dq", "dk", "dv"), ours, theirs, strict=False):
        tolerance = TOLERANCE[dtype] * max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=tolerance, err_msg=name)
