"""The contract between callers of attention and its implementations: shapes, checks, and the choice between them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxformer.ops.attention import choice
from jaxformer.ops.attention.checks import check_dropout, check_mask, check_scale
from jaxformer.ops.attention.choice import Preference, prefer
from jaxformer.ops.attention.chunked import attention_xla_chunked
from jaxformer.ops.attention.cudnn import attention_cudnn
from jaxformer.ops.attention.mask import Mask
from jaxformer.ops.attention.reference import attention_xla
from jaxformer.ops.dropout import head_seeds
from jaxformer.types import Shards


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
    shards: Shards | None = None,
) -> jax.Array:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1), multi-head and grouped-query.

    Args:
      q: [B, T, N, H], queries.
      k: [B, S, K, H], keys; K divides N, and N / K neighbouring query heads share a key/value head.
      v: [B, S, K, H], values.
      mask: which keys each query may see; None for all. A query that sees nothing, as where S is 0, gets zeros.
      scale: of the scores; by default 1 / sqrt(H).
      dropout: rate on the attention weights, in [0, 1).
      dropout_seed: uint32 scalar, or one for each row, [B], or head, [B, N] (see `head_seeds`); None switches dropout
        off.
      implementation: a name in `IMPLEMENTATIONS`, which then never falls back to another one; None for the one measured
        to be the fastest in such a case, and where nothing was measured for one that fits into memory.
      shards: how rows and heads are split over a mesh: each device then attends to its own, and nothing is gathered.
        None leaves that to the compiler, which cannot split a kernel.

    Returns:
      [B, T, N, H], in the dtype of `q`.

    Raises:
      TypeError: for a mask that is no `Mask`, or holds something else than arrays, as `check_mask`; for a scale that is
        no number.
      ValueError: for shapes that do not fit together or do not divide over the devices, a mask that does not fit, a
        dropout rate outside of [0, 1), or an unknown implementation.
      NotImplementedError: if the named implementation, or every one, refuses; with the reasons.
    """
    _check(q, k, v, mask, dropout, implementation)
    check_scale(scale)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    if shards is not None:
        local = functools.partial(attention, scale=scale, dropout=dropout, implementation=implementation)
        return _on_shards(local, q, k, v, mask, dropout_seed if dropout else None, shards)
    if (calls := _CALLS.get()) is not None:
        calls.append(Call.of(q, k, mask, dropout if dropout_seed is not None else 0.0))
    if not k.shape[1]:
        return jnp.zeros_like(q)  # queries that see nothing; a softmax over no keys has no maximum
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


def _on_shards(
    local: Callable[..., jax.Array],
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: Mask | None,
    seed: jax.Array | None,
    shards: Shards,
) -> jax.Array:
    """`local` on every device with its own rows and heads."""
    shards.check("rows of the batch", q.shape[0], shards.batch)
    shards.check("heads", q.shape[2], shards.heads)
    shards.check("key/value heads", k.shape[2], shards.heads)
    batch, heads = shards.batch or None, shards.heads or None
    rows = PartitionSpec(batch, None, heads)
    # A mask of one row is that of all rows.
    of_mask = jax.tree.map(lambda x: PartitionSpec(batch if x.shape[0] == q.shape[0] else None), mask)
    seeds = None if seed is None else head_seeds(seed, q.shape[0], q.shape[2])
    return jax.shard_map(
        lambda q, k, v, mask, seeds: local(q, k, v, mask=mask, dropout_seed=seeds),
        mesh=shards.mesh,
        in_specs=(rows, rows, rows, of_mask, PartitionSpec(batch, heads)),
        out_specs=rows,
        check_vma=False,
    )(q, k, v, mask, seeds)


def _check(q: Any, k: Any, v: Any, mask: Any, dropout: float, implementation: str | None) -> None:
    if q.ndim != 4 or k.ndim != 4 or k.shape != v.shape:
        raise ValueError(f"attention takes q [B,T,N,H] and k, v [B,S,K,H], got {q.shape}, {k.shape}, {v.shape}")
    if not k.shape[2]:
        raise ValueError(f"attention takes k and v [B,S,K,H] with K at least 1, got {k.shape}: it has no heads")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or q.shape[2] % k.shape[2]:
        raise ValueError(f"q {q.shape} and k {k.shape} must agree in B and H, and K must divide N")
    check_mask(mask, q.shape[0], q.shape[1], k.shape[1])
    check_dropout(dropout)
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(f"attention implementation {implementation!r} is not one of {', '.join(IMPLEMENTATIONS)}")


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of `attention` by its shapes; their dtypes are part of them.

    Attributes:
      q: [B, T, N, H].
      k: [B, S, K, H].
      mask: with shapes in place of arrays.
      dropout: the rate; 0 without a seed.
    """

    q: jax.ShapeDtypeStruct
    k: jax.ShapeDtypeStruct
    mask: Mask | None
    dropout: float

    @classmethod
    def of(cls, q: Any, k: Any, mask: Mask | None, dropout: float) -> Call:
        """From arrays, or what stands for them while a function is traced."""
        q, k, mask = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (q, k, mask))
        return cls(q, k, mask, dropout)


_CALLS: ContextVar[list[Call] | None] = ContextVar("calls", default=None)


@contextlib.contextmanager
def recorded_calls() -> Iterator[list[Call]]:
    """The list of the calls of `attention` that are traced or run inside the block, in this thread."""
    token = _CALLS.set([])
    try:
        calls = _CALLS.get()
        assert calls is not None
        yield calls
    finally:
        _CALLS.reset(token)


class Decision(NamedTuple):
    """Which implementation takes a call; as text a sentence for a run's log.

    Attributes:
      used: its name.
      reason: why, in a few words.
      measured: whether it stands in an order that was measured.
      refusals: names and reasons of those that come before it.
    """

    used: str
    reason: str
    measured: bool = False
    refusals: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        refused = "; ".join(f"{name}: {why}" for name, why in self.refusals)
        return f"attention uses {self.used}: {self.reason}{f' (refused by {refused})' if refused else ''}"


def decide_attention(
    q: jax.ShapeDtypeStruct | jax.Array,
    k: jax.ShapeDtypeStruct | jax.Array,
    *,
    mask: Mask | None = None,
    dropout: float = 0.0,
    implementation: str | None = None,
) -> Decision:
    """Which implementation `attention` uses for such a call on this device, and why.

    Args:
      q: [B, T, N, H], an array or its shape and dtype.
      k: [B, S, K, H], likewise.
      mask: of the call; its arrays may be shapes and dtypes as well.
      dropout: rate on the weights; above 0 with a seed.
      implementation: as in `attention`.

    Raises:
      TypeError: as `attention`.
      ValueError: as `attention`.
      NotImplementedError: if the named implementation, or every one, refuses; with the reasons.
    """
    _check(q, k, k, mask, dropout, implementation)
    if not k.shape[1]:
        return Decision("no implementation", "without keys a query sees nothing and gets zeros")
    if implementation is None:
        preference = prefer(q, k, mask, dropout > 0.0)
    else:
        preference = Preference((implementation,), "it was asked for by name")
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q, k, k))
    seed = jax.ShapeDtypeStruct((), "uint32") if dropout else None
    refusals: list[tuple[str, str]] = []
    for name in preference.order:
        try:
            jax.eval_shape(
                lambda q, k, v, mask, seed, name=name: IMPLEMENTATIONS[name](
                    q, k, v, mask=mask, scale=1.0, dropout=dropout, dropout_seed=seed
                ),
                *shapes, mask, seed,
            )  # fmt: skip
        except NotImplementedError as refusal:
            refusals.append((name, str(refusal)))
            continue
        return Decision(name, preference.reason, preference.measured, tuple(refusals))
    raise NotImplementedError(
        "no implementation of attention takes this call: " + "; ".join(f"{name}: {why}" for name, why in refusals)
    )


def load_measurements(path: str | Path) -> int:
    """Takes the measurements of a JSON file into account from now on; see `choice` for the format and the errors.

    What was traced before keeps the implementation that it was traced with.
    """
    return choice.load_measurements(path, IMPLEMENTATIONS)
