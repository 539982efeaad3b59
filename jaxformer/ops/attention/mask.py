"""Attention masks as values: what may be seen is described, and becomes an array only where it must."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mask:
    """Which keys each query may see; the conjunction of everything that is set. Combine masks with `&`.

    A mask is not checked when it is made, but where `attention` uses it: see `check_mask`. Its arrays may have one row
    that holds for all.

    Attributes:
      causal: a query sees keys at its own index or before.
      window: a query sees keys at most this far away from it, on either side; at least 0.
      query_lengths: int32 [B]; queries from this index on see nothing.
      key_lengths: int32 [B]; keys from this index on are not seen.
      query_segment_ids: int32 [B, T]; a query sees keys of its own segment only; 0 (padding) sees nothing.
      key_segment_ids: int32 [B, S]; given together with `query_segment_ids`.
      query_offset: int32 [1], the index of the first query, where these are some of more queries (`of_queries`); None
        where that was not said, and then 0. All that is said here of a query's index includes it.
    """

    causal: bool = dataclasses.field(default=False, metadata={"static": True})
    window: int | None = dataclasses.field(default=None, metadata={"static": True})
    query_lengths: jax.Array | None = None
    key_lengths: jax.Array | None = None
    query_segment_ids: jax.Array | None = None
    key_segment_ids: jax.Array | None = None
    query_offset: jax.Array | None = None

    @classmethod
    def segments(cls, queries: jax.Array, keys: jax.Array | None = None) -> Mask:
        """Queries [B, T] see keys [B, S] (by default the same) of their own segment."""
        return cls(query_segment_ids=queries, key_segment_ids=queries if keys is None else keys)

    def __and__(self, other: Mask | None) -> Mask:
        if other is None:  # hides nothing, as in `attention`
            return self
        if not isinstance(other, Mask):
            raise TypeError(f"a Mask is combined by & with another Mask or None, got {type(other).__name__}")

        def both(name: str) -> jax.Array | None:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None:
                if name.endswith("lengths"):
                    return jnp.minimum(mine, theirs)
                if name == "query_offset":
                    if mine is theirs:
                        return mine
                    raise ValueError("both masks have query_offset: combine the masks of all queries, then take some")
                raise ValueError(f"both masks have {name}: number the segments of one mask so that it says all")
            return theirs if mine is None else mine

        windows = [mask.window for mask in (self, other) if mask.window is not None]
        return Mask(
            causal=self.causal or other.causal,
            window=min(windows) if windows else None,
            query_lengths=both("query_lengths"),
            key_lengths=both("key_lengths"),
            query_segment_ids=both("query_segment_ids"),
            key_segment_ids=both("key_segment_ids"),
            query_offset=both("query_offset"),
        )

    def __rand__(self, other: None) -> Mask:
        return self & other

    def of_queries(self, start: jax.Array | int, number: int) -> Mask:
        """The mask of `number` queries from `start`, a scalar, on: of a device that has a part of a sequence's."""
        offset = jnp.asarray(start, jnp.int32).reshape(1)
        ids = self.query_segment_ids
        return dataclasses.replace(
            self,
            query_segment_ids=None if ids is None else jax.lax.dynamic_slice_in_dim(ids, start, number, axis=1),
            query_offset=offset if self.query_offset is None else offset + self.query_offset,
        )

    def offset_matters(self, dropped: bool) -> bool:
        """Whether `query_offset` decides anything: what is seen, or, if weights are `dropped`, which of them."""
        by_index = self.causal or self.window is not None or self.query_lengths is not None
        return self.query_offset is not None and (by_index or dropped)

    def materialise(self, num_queries: int, num_keys: int) -> jax.Array | None:
        """bool [B or 1, 1, T, S], True where a query may see a key; None if everything is seen."""
        parts = []
        queries = jnp.arange(num_queries)[:, None]
        if self.query_offset is not None:
            queries += self.query_offset
        keys = jnp.arange(num_keys)[None, :]
        if self.causal:
            parts.append((keys <= queries)[None])
        if self.window is not None:
            parts.append((jnp.abs(keys - queries) <= self.window)[None])
        if self.query_lengths is not None:
            parts.append(queries < self.query_lengths[:, None, None])
        if self.key_lengths is not None:
            parts.append(keys < self.key_lengths[:, None, None])
        if self.query_segment_ids is not None and self.key_segment_ids is not None:
            query_ids, key_ids = self.query_segment_ids[:, :, None], self.key_segment_ids[:, None, :]
            parts.append((query_ids == key_ids) & (key_ids != 0))
        if not parts:
            return None
        allowed = parts[0]
        for part in parts[1:]:
            allowed = allowed & part
        return allowed[:, None]
