"""The three kernels of the portable fused attention: forward, gradient of the queries, gradient of keys and values.

Each works on one block of rows (or of keys) and loops over the blocks of the other side that `block_ranges` names.
Everything in here is array operations on references, with no feature of one backend: no masked loads (the arrays are
padded to whole blocks), no scratch memory, two-dimensional tiles only. Not for calling directly: see `pallas.py`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from jaxformer.ops.attention.blocks import Band, Ids
from jaxformer.ops.dropout import keep_at

_LOG2_E = math.log2(math.e)  # exp(x) = exp2(x * log2 e), and exp2 is what the hardware has
_HIDDEN = float(jnp.finfo(jnp.float32).min)  # finite: -inf would make rows that see nothing nan

Ref = Any
"""A reference to a block; in the kernels' signatures the shapes are without the squeezed grid axes."""


@dataclasses.dataclass(frozen=True)
class Tiling:
    """What the kernels know when they are traced.

    Attributes:
      band: the part of the mask that depends on indices.
      scale: of the scores.
      dropout: rate on the weights, 0 for none.
      shape: B, N, T, S without padding, for the dropout mask.
      groups: query heads to a key/value head.
      block_q: queries to a tile.
      block_k: keys to a tile.
    """

    band: Band
    scale: float
    dropout: float
    shape: tuple[int, int, int, int]
    groups: int
    block_q: int
    block_k: int

    def queries(self, block: jax.Array) -> jax.Array:
        """int32 [block_q, 1], the indices of a block of queries."""
        return block * self.block_q + jax.lax.broadcasted_iota(jnp.int32, (self.block_q, 1), 0)

    def keys(self, block: jax.Array) -> jax.Array:
        """int32 [1, block_k], the indices of a block of keys."""
        return block * self.block_k + jax.lax.broadcasted_iota(jnp.int32, (1, self.block_k), 1)

    def after_dropout(
        self, seed: Ref | None, x: jax.Array, batch: jax.Array, head: jax.Array, queries: jax.Array, keys: jax.Array
    ) -> jax.Array:
        """[block_q, block_k] weights after dropout, with the mask that `attention_xla` has at these places."""
        if seed is None:
            return x
        kept = keep_at(seed[batch, head], (queries, keys), self.shape[2:], self.dropout)
        return jnp.where(kept, x * (1.0 / (1.0 - self.dropout)), 0.0)


def _dot(a: jax.Array, b: jax.Array, axis_of_a: int, axis_of_b: int) -> jax.Array:
    """The product of two tiles over one axis of each, summed in float32."""
    return jax.lax.dot_general(a, b, (((axis_of_a,), (axis_of_b,)), ((), ())), preferred_element_type=jnp.float32)


def _weights(scores: jax.Array, allowed: jax.Array | None, offset: jax.Array) -> jax.Array:
    """exp2(scores - offset), 0 where hidden."""
    weights = jnp.exp2(scores - offset)
    return weights if allowed is None else jnp.where(allowed, weights, 0.0)


def _scores(
    tiling: Tiling, q: jax.Array, k: jax.Array, queries: jax.Array, keys: jax.Array, ids: Ids | None
) -> tuple[jax.Array, jax.Array | None]:
    """float32 [block_q, block_k] scores in units of log 2, lowest where hidden; and bool where they are not."""
    scores = _dot(q, k, 1, 1) * (tiling.scale * _LOG2_E)
    allowed = tiling.band.allowed(queries, keys, ids)
    return (scores if allowed is None else jnp.where(allowed, scores, _HIDDEN)), allowed


def _block(ref: Ref, block: jax.Array, size: int) -> jax.Array:
    """[size, *], one block of rows of a reference [L, *]."""
    return ref[pl.ds(pl.multiple_of(block * size, size), size), :]


def _block_of_columns(ref: Ref, block: jax.Array, size: int) -> jax.Array:
    """[1, size], one block of a reference [1, L]."""
    return ref[:, pl.ds(pl.multiple_of(block * size, size), size)]


def forward_kernel(
    ranges: Ref, seed: Ref | None, ids: tuple[Ref, Ref] | None, q_ref: Ref, k_ref: Ref, v_ref: Ref, out_ref: Ref,
    sum_ref: Ref, *, tiling: Tiling,
) -> None:  # fmt: skip
    """One block of queries of one head (Dao 2023, algorithm 1).

    Args:
      ranges: int32 [B, T' / block_q, 2], the blocks of keys to visit.
      seed: uint32 [B, N], of the dropout.
      ids: int32 [block_q, 1] and [1, S'].
      q_ref: [block_q, H].
      k_ref: [S', H].
      v_ref: [S', H].
      out_ref: [block_q, H], written; zeros where a row sees nothing.
      sum_ref: float32 [block_q, 1], written: the base-2 logarithm of each row's sum of exponentials.
      tiling: what is static.
    """
    batch, head, row = (pl.program_id(axis) for axis in range(3))
    q, queries = q_ref[...], tiling.queries(row)
    query_ids = None if ids is None else ids[0][...]

    def body(block: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        accumulated, highest, total = carry
        keys = tiling.keys(block)
        k, v = (_block(ref, block, tiling.block_k) for ref in (k_ref, v_ref))
        pair = None
        if ids is not None and query_ids is not None:
            pair = query_ids, _block_of_columns(ids[1], block, tiling.block_k)
        scores, allowed = _scores(tiling, q, k, queries, keys, pair)
        higher = jnp.maximum(highest, scores.max(axis=1, keepdims=True))
        shrink = jnp.exp2(highest - higher)
        weights = _weights(scores, allowed, higher)
        total = total * shrink + weights.sum(axis=1, keepdims=True)
        weights = tiling.after_dropout(seed, weights, batch, head, queries, keys).astype(v.dtype)
        return accumulated * shrink + _dot(weights, v, 1, 0), higher, total

    start = (
        jnp.zeros(q.shape, jnp.float32),
        jnp.full((tiling.block_q, 1), _HIDDEN, jnp.float32),
        jnp.zeros((tiling.block_q, 1), jnp.float32),
    )
    accumulated, highest, total = jax.lax.fori_loop(ranges[batch, row, 0], ranges[batch, row, 1], body, start)
    # Rows that see nothing have total 0; elsewhere it is at least exp2(0) = 1.
    at_least = jnp.maximum(total, 1e-9)
    out_ref[...] = (accumulated / at_least).astype(out_ref.dtype)
    sum_ref[...] = jnp.where(total > 0.0, highest + jnp.log2(at_least), 0.0)


def query_gradient_kernel(
    ranges: Ref, seed: Ref | None, ids: tuple[Ref, Ref] | None, q_ref: Ref, k_ref: Ref, v_ref: Ref, do_ref: Ref,
    sum_ref: Ref, delta_ref: Ref, dq_ref: Ref, *, tiling: Tiling,
) -> None:  # fmt: skip
    """The gradient to one block of queries: dQ = dS K.

    Args:
      ranges: as in `forward_kernel`, and so are seed, ids, q_ref, k_ref, v_ref and tiling.
      seed: see there.
      ids: see there.
      q_ref: see there.
      k_ref: see there.
      v_ref: see there.
      do_ref: [block_q, H], the gradient of the output.
      sum_ref: float32 [block_q, 1], as the forward kernel wrote it.
      delta_ref: float32 [block_q, 1], the product of the output and its gradient, summed over H.
      dq_ref: [block_q, H], written.
      tiling: see there.
    """
    batch, head, row = (pl.program_id(axis) for axis in range(3))
    q, do, log_sum, delta = q_ref[...], do_ref[...], sum_ref[...], delta_ref[...]
    queries = tiling.queries(row)
    query_ids = None if ids is None else ids[0][...]

    def body(block: jax.Array, dq: jax.Array) -> jax.Array:
        keys = tiling.keys(block)
        k, v = (_block(ref, block, tiling.block_k) for ref in (k_ref, v_ref))
        pair = None
        if ids is not None and query_ids is not None:
            pair = query_ids, _block_of_columns(ids[1], block, tiling.block_k)
        scores, allowed = _scores(tiling, q, k, queries, keys, pair)
        weights = _weights(scores, allowed, log_sum)
        dw = tiling.after_dropout(seed, _dot(do, v, 1, 1), batch, head, queries, keys)
        return dq + _dot((weights * (dw - delta)).astype(k.dtype), k, 1, 0)

    dq = jax.lax.fori_loop(ranges[batch, row, 0], ranges[batch, row, 1], body, jnp.zeros(q.shape, jnp.float32))
    dq_ref[...] = (dq * tiling.scale).astype(dq_ref.dtype)


def key_value_gradient_kernel(
    ranges: Ref, seed: Ref | None, ids: tuple[Ref, Ref] | None, q_ref: Ref, k_ref: Ref, v_ref: Ref, do_ref: Ref,
    sum_ref: Ref, delta_ref: Ref, dk_ref: Ref, dv_ref: Ref, *, tiling: Tiling,
) -> None:  # fmt: skip
    """The gradients to one block of keys and values, over all query heads that share it: dK = dS^T Q, dV = P^T dO.

    Args:
      ranges: int32 [B, S' / block_k, 2], the blocks of queries to visit.
      seed: uint32 [B, N].
      ids: int32 [T', 1] and [1, block_k].
      q_ref: [G, T', H], the query heads of this key/value head.
      k_ref: [block_k, H].
      v_ref: [block_k, H].
      do_ref: [G, T', H].
      sum_ref: float32 [G, T', 1].
      delta_ref: float32 [G, T', 1].
      dk_ref: [block_k, H], written.
      dv_ref: [block_k, H], written.
      tiling: what is static.
    """
    batch, kv_head, column = (pl.program_id(axis) for axis in range(3))
    k, v, keys = k_ref[...], v_ref[...], tiling.keys(column)
    key_ids = None if ids is None else ids[1][...]
    first, last = ranges[batch, column, 0], ranges[batch, column, 1]

    def of_head(group: jax.Array | int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        head = kv_head * tiling.groups + group

        def body(block: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            dk, dv = carry
            rows = pl.ds(pl.multiple_of(block * tiling.block_q, tiling.block_q), tiling.block_q)
            q, do, log_sum, delta = (ref[group, rows, :] for ref in (q_ref, do_ref, sum_ref, delta_ref))
            queries = tiling.queries(block)
            pair = None
            if ids is not None and key_ids is not None:
                pair = _block(ids[0], block, tiling.block_q), key_ids
            scores, allowed = _scores(tiling, q, k, queries, keys, pair)
            weights = _weights(scores, allowed, log_sum)
            dropped = tiling.after_dropout(seed, weights, batch, head, queries, keys)
            dv = dv + _dot(dropped.astype(do.dtype), do, 0, 0)
            dw = tiling.after_dropout(seed, _dot(do, v, 1, 1), batch, head, queries, keys)
            return dk + _dot((weights * (dw - delta)).astype(q.dtype), q, 0, 0), dv

        return jax.lax.fori_loop(first, last, body, carry)

    start = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    dk, dv = jax.lax.fori_loop(0, tiling.groups, of_head, start) if tiling.groups > 1 else of_head(0, start)
    dk_ref[...] = (dk * tiling.scale).astype(dk_ref.dtype)
    dv_ref[...] = dv.astype(dv_ref.dtype)
