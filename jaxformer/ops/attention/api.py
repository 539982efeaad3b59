"""The contract between callers of attention and its implementations: shapes, checks, and the choice between them."""

from __future__ import annotations

from typing import Protocol

import jax

from jaxformer.ops.attention.mask import Mask
from jaxformer.ops.attention.reference import attention_xla


class Implementation(Protocol):
    """A backend: computes exactly what `attention` promises, or raises `NotImplementedError` with its reason."""

    def __call__(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        *,
        mask: Mask | None,
        scale: float,
        dropout: float,
        dropout_seed: jax.Array | None,
    ) -> jax.Array:
        """See `attention`."""
        ...


IMPLEMENTATIONS: dict[str, Implementation] = {"xla": attention_xla}
"""Every implementation by name; the first that does not refuse is used when none is named."""


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: Mask | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    dropout_seed: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1), multi-head and grouped-query.

    Args:
      q: [B, T, N, H], queries.
      k: [B, S, K, H], keys; K divides N, and N / K neighbouring query heads share a key/value head.
      v: [B, S, K, H], values.
      mask: which keys each query may see; None for all. A query that sees nothing gets zeros.
      scale: of the scores; by default 1 / sqrt(H).
      dropout: rate on the attention weights.
      dropout_seed: uint32 scalar; None switches dropout off.
      implementation: a name in `IMPLEMENTATIONS`, which then never falls back to another one; None for the best.

    Returns:
      [B, T, N, H], in the dtype of `q`.

    Raises:
      ValueError: for shapes that do not fit together, or an unknown implementation.
      NotImplementedError: if the named implementation, or every one, refuses; with the reasons.
    """
    if q.ndim != 4 or k.ndim != 4 or k.shape != v.shape:
        raise ValueError(f"attention takes q [B,T,N,H] and k, v [B,S,K,H], got {q.shape}, {k.shape}, {v.shape}")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or q.shape[2] % k.shape[2]:
        raise ValueError(f"q {q.shape} and k {k.shape} must agree in B and H, and K must divide N")
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(f"attention implementation {implementation!r} is not one of {', '.join(IMPLEMENTATIONS)}")
    scale = q.shape[3] ** -0.5 if scale is None else scale
    refusals = []
    for name in [implementation] if implementation else list(IMPLEMENTATIONS):
        try:
            return IMPLEMENTATIONS[name](
                q, k, v, mask=mask, scale=scale, dropout=dropout, dropout_seed=dropout_seed
            )
        except NotImplementedError as refusal:
            refusals.append(f"{name}: {refusal}")
    raise NotImplementedError("no implementation of attention takes this call: " + "; ".join(refusals))
