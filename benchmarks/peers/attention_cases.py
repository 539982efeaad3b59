"""What attention is asked to compute, in `benchmarks.attention`: small odd cases to check, and those that are timed."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Case:
    """What to compute: letters as in `jaxformer.ops.attention.attention`.

    Attributes:
      mask: names joined by "+": causal, window, lengths, segments; or none.
      batch: B.
      num_queries: T.
      num_keys: S.
      num_heads: N.
      num_kv_heads: K.
      head_size: H.
      dtype: of the inputs.
      dropout: rate.
    """

    mask: str
    batch: int
    num_queries: int
    num_keys: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    dtype: str
    dropout: float = 0.0

    def __str__(self) -> str:
        heads = f"N {self.num_heads}" + (f"/{self.num_kv_heads}" if self.num_kv_heads != self.num_heads else "")
        lengths = f"{self.num_queries}" + (f"x{self.num_keys}" if self.num_keys != self.num_queries else "")
        drop = f", dropout {self.dropout}" if self.dropout else ""
        return f"{self.mask}, {self.batch} x {lengths}, {heads}, H {self.head_size}, {self.dtype}{drop}"

    @property
    def plain(self) -> bool:
        """No dropout, and every query sees something: what the rivals promise to get right, too."""
        return not self.dropout and "lengths" not in self.mask and self.num_queries == self.num_keys

    def segment_ids(self) -> Any:
        """int32 [B, T]: segments of random lengths, without padding."""
        import numpy as np

        random = np.random.default_rng(self.num_queries)
        count = max(2, min(16, self.num_queries // 64))
        rows = []
        for _ in range(self.batch):
            ends = np.sort(random.choice(np.arange(1, self.num_queries), count - 1, replace=False))
            rows.append(np.searchsorted(ends, np.arange(self.num_queries), side="right") + 1)
        return np.asarray(rows, np.int32)

    def make_mask(self) -> Any:
        """Our mask, or None."""
        import jax.numpy as jnp

        from jaxformer.ops.attention import Mask

        mask = Mask(causal="causal" in self.mask, window=self.num_queries // 3 if "window" in self.mask else None)
        if "lengths" in self.mask:
            lengths = [jnp.arange(self.batch) * length // self.batch for length in (self.num_queries, self.num_keys)]
            mask &= Mask(query_lengths=lengths[0][::-1] + 1, key_lengths=lengths[1])
        if "segments" in self.mask:
            mask &= Mask.segments(jnp.asarray(self.segment_ids()))
        return None if self.mask == "none" else mask

    def visible_pairs(self) -> int:
        """Pairs of a query and a key that the mask leaves, over the batch; for none, causal and segments."""
        import numpy as np

        if self.mask == "segments":
            return int(sum((np.unique(row, return_counts=True)[1] ** 2).sum() for row in self.segment_ids()))
        whole = self.num_queries * self.num_keys
        return self.batch * (self.num_queries * (self.num_queries + 1) // 2 if self.mask == "causal" else whole)

    def operations(self, backward: bool) -> float:
        """Multiplications and additions of the matrix products: two forward, five more backward."""
        return 2.0 * (7 if backward else 2) * self.visible_pairs() * self.num_heads * self.head_size

    def inputs(self) -> list[Any]:
        """q, k, v and a gradient of the output: normally distributed, the same every time."""
        import jax

        queries = (self.batch, self.num_queries, self.num_heads, self.head_size)
        keys = (self.batch, self.num_keys, self.num_kv_heads, self.head_size)
        randoms = jax.random.split(jax.random.key(3), 4)
        shapes = (queries, keys, keys, queries)
        return [jax.random.normal(r, shape, self.dtype) for r, shape in zip(randoms, shapes, strict=True)]


def check_cases(dtype: str) -> list[Case]:
    """Small and odd."""
    return [
        Case("none", 2, 65, 192, 4, 2, 64, dtype),
        Case("none", 2, 17, 17, 4, 4, 64, dtype),
        Case("none", 2, 128, 128, 2, 2, 128, dtype),
        Case("causal", 2, 704, 704, 4, 2, 64, dtype),
        Case("causal", 2, 63, 63, 2, 2, 128, dtype),
        Case("window", 2, 192, 192, 2, 2, 64, dtype),
        Case("lengths", 3, 192, 65, 2, 1, 128, dtype),
        Case("segments", 2, 704, 704, 2, 2, 64, dtype),
        Case("segments", 2, 65, 65, 2, 2, 128, dtype),
        Case("causal+window+lengths+segments", 3, 130, 130, 4, 2, 64, dtype),
        Case("causal", 2, 129, 129, 2, 2, 64, dtype, dropout=0.2),
    ]


def timing_cases(gpu: bool) -> list[Case]:
    """By importance: what does not fit into the time is left out from the end."""
    if not gpu:
        return [
            Case(mask, 512 // length, length, length, 2, 2, 64, "float32")
            for length in (64, 256)
            for mask in ("none", "causal", "segments")
        ]
    return [
        Case(mask, 16384 // length, length, length, 1024 // head_size, 1024 // head_size, head_size, "bfloat16")
        for lengths in ((512, 4096), (64, 16384), (128, 256, 1024, 2048, 8192))
        for head_size in (64, 128)
        for length in lengths
        for mask in ("none", "causal", "segments")
    ]
