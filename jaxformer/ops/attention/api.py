"""The contract between callers of attention and its implementations: shapes, checks, and the choice between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import jax

from jaxformer.ops.attention import choice
from jaxformer.ops.attention.choice import prefer
from jaxformer.ops.attention.chunked import attention_xla_chunked
from jaxformer.ops.attention.cudnn import attention_cudnn
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


def _attention_pallas(*args: jax.Array, **kwargs: Any) -> jax.Array:
    """See `attention_pallas`; importing Pallas takes a quarter of a second, which only its users wait for."""
    from jaxformer.ops.attention.pallas import attention_pallas

    return attention_pallas(*args, **kwargs)


def _attention_mosaic(*args: jax.Array, **kwargs: Any) -> jax.Array:
    """See `attention_mosaic`."""
    from jaxformer.ops.attention.mosaic import attention_mosaic

    return attention_mosaic(*args, **kwargs)


IMPLEMENTATIONS: dict[str, Implementation] = {
    "xla": attention_xla,
    "xla_chunked": attention_xla_chunked,
    "pallas": _attention_pallas,
    "mosaic": _attention_mosaic,
    "cudnn": attention_cudnn,
}
"""Every implementation by name. Which one is used when none is named: see `jaxformer.ops.attention.choice`."""


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
      implementation: a name in `IMPLEMENTATIONS`, which then never falls back to another one; None for the one measured
        to be the fastest in such a case, and where nothing was measured for one that fits into memory.

    Returns:
      [B, T, N, H], in the dtype of `q`.

    Raises:
      ValueError: for shapes that do not fit together, or an unknown implementation.
      NotImplementedError: if the named implementation, or every one, refuses; with the reasons.
    """
    _check(q, k, v, implementation)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    dropped = dropout > 0.0 and dropout_seed is not None
    refusals = []
    for name in [implementation] if implementation else prefer(q, k, mask, dropped).order:
        try:
            return IMPLEMENTATIONS[name](
                q, k, v, mask=mask, scale=scale, dropout=dropout, dropout_seed=dropout_seed
            )
        except NotImplementedError as refusal:
            refusals.append(f"{name}: {refusal}")
    raise NotImplementedError("no implementation of attention takes this call: " + "; ".join(refusals))


def _check(q: Any, k: Any, v: Any, implementation: str | None) -> None:
    if q.ndim != 4 or k.ndim != 4 or k.shape != v.shape:
        raise ValueError(f"attention takes q [B,T,N,H] and k, v [B,S,K,H], got {q.shape}, {k.shape}, {v.shape}")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or q.shape[2] % k.shape[2]:
        raise ValueError(f"q {q.shape} and k {k.shape} must agree in B and H, and K must divide N")
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(f"attention implementation {implementation!r} is not one of {', '.join(IMPLEMENTATIONS)}")


def describe_attention(
    q: jax.ShapeDtypeStruct | jax.Array,
    k: jax.ShapeDtypeStruct | jax.Array,
    *,
    mask: Mask | None = None,
    dropout: float = 0.0,
    implementation: str | None = None,
) -> str:
    """Which implementation `attention` uses for such a call on this device, and why: a sentence for a run's log.

    Args:
      q: [B, T, N, H], an array or its shape and dtype.
      k: [B, S, K, H], likewise.
      mask: of the call; its arrays may be shapes and dtypes as well.
      dropout: rate on the weights; above 0 with a seed.
      implementation: as in `attention`.

    Raises:
      ValueError: as `attention`.
      NotImplementedError: if the named implementation, or every one, refuses; with the reasons.
    """
    _check(q, k, k, implementation)
    if implementation is None:
        preference = prefer(q, k, mask, dropout > 0.0)
        order, reason = preference.order, preference.reason
    else:
        order, reason = (implementation,), "it was asked for by name"
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q, k, k))
    seed = jax.ShapeDtypeStruct((), "uint32") if dropout else None
    refusals = []
    for name in order:
        try:
            jax.eval_shape(
                lambda q, k, v, mask, seed, name=name: IMPLEMENTATIONS[name](
                    q, k, v, mask=mask, scale=1.0, dropout=dropout, dropout_seed=seed
                ),
                *shapes, mask, seed,
            )  # fmt: skip
        except NotImplementedError as refusal:
            refusals.append(f"{name}: {refusal}")
            continue
        refused = f" (refused by {'; '.join(refusals)})" if refusals else ""
        return f"attention uses {name}: {reason}{refused}"
    raise NotImplementedError("no implementation of attention takes this call: " + "; ".join(refusals))


def load_measurements(path: str | Path) -> int:
    """Takes the measurements of a JSON file into account from now on; see `choice` for the format and the errors.

    What was traced before keeps the implementation that it was traced with.
    """
    return choice.load_measurements(path, IMPLEMENTATIONS)
