"""Rows of tokens in few static shapes, for running a model on text that comes in any amount and length.

Not for training batches, whose shapes follow the corpus (`data.bucketing`): these must serve text not seen yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxformer.types import EOS_ID, PAD_ID, Sequences

_SHORTEST = 16
_MOST_ROWS = 256
_FEW_ROWS = (1, 16)
"""Row counts for small requests (a person typing; samples), so that they do not pay for a full batch."""


def row_lengths(max_length: int) -> list[int]:
    """The row lengths used up to `max_length`: powers of two, so that no row is padded to twice its length."""
    return [2**power for power in range(32) if _SHORTEST <= 2**power < max_length] + [max_length]


def group_rows(lengths: Sequence[int], max_length: int, batch_tokens: int) -> Iterator[tuple[list[int], int, int]]:
    """Batches of rows of like length: the places of their rows in `lengths`, the number of rows, the row length.

    Longest first, so that memory runs out at once or never. The number of rows is one of three for each row length;
    a batch may have fewer places than rows.

    Args:
      lengths: of all rows, each at most `max_length`.
      max_length: longest row.
      batch_tokens: slots in a batch; a row longer than that is a batch of its own.
    """
    buckets = row_lengths(max_length)
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        bucket = next(size for size in buckets if size >= lengths[order[0]])
        full = max(1, min(batch_tokens // bucket, _MOST_ROWS))
        rows = min([few for few in _FEW_ROWS if few >= len(lengths)] + [full])
        yield order[:rows], rows, bucket
        order = order[rows:]


def padded(rows: Sequence[Sequence[int]], count: int, length: int) -> np.ndarray:
    """int32 [count, length] with `rows` at the top, padding elsewhere."""
    tokens = np.full((count, length), PAD_ID, np.int32)
    for row, ids in zip(tokens, rows, strict=False):
        row[: len(ids)] = ids
    return tokens


def as_sequences(tokens: jax.Array) -> Sequences:
    """One sequence a row, up to its padding; an empty row becomes a lone end of sentence, since softmax needs a key."""
    first = jnp.arange(tokens.shape[1]) == 0
    tokens = jnp.where(first & (tokens == PAD_ID), EOS_ID, tokens)
    real = tokens != PAD_ID
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
    return Sequences(tokens, positions, real.astype(jnp.int32), real.astype(jnp.float32))
