"""Packing: several pairs in a row, so that almost no slot is padding, at a cost that depends on lengths, not records.

Rows are composed over the histogram of (source length, target length), an idea of Krell et al. 2021, but with two
sides to fill at once: about as many empty rows as must suffice are opened, and pairs of lengths are placed in
descending order, many records at a time, into the emptiest rows that they leave even on both sides, so that the short
ones at the end top all rows up. Records then take the places of their lengths in random order. Not for attention:
segment ids keep packed sentences apart there.
"""

from __future__ import annotations

import math

import numpy as np

from jaxformer.config import DataConfig
from jaxformer.data.bucketing import Shape, WindowPlan, histogram, round_up

_MULTIPLE = 4  # row lengths are rounded up to it: odd widths are slow on accelerators
_UNEVENNESS = 4.0  # what a difference between the sides' room weighs against room: measured on two corpora
_FILLS = (0.97, 0.98, 0.99)  # how full the rows opened first would be; the best attempt is taken


def pack_shape(counts: np.ndarray, config: DataConfig, divisor: int, length_divisor: int = 1) -> Shape:
    """The one shape of packed batches: the side with more tokens gets rows of `pack_length`, the other as it needs.

    Raises:
      ValueError: `batch_tokens` does not make a number of rows that `divisor` divides.
    """
    rows, length = packed_rows(config, divisor)
    source, target = np.nonzero(counts)
    totals = (int((counts[source, target] * source).sum()), int((counts[source, target] * target).sum()))
    longest = (int(source.max()), int(target.max()))
    multiple = math.lcm(_MULTIPLE, length_divisor)
    if length % length_divisor:
        sizes = (length - length % length_divisor, round_up(length, length_divisor))
        near = " or ".join(str(size) for size in sizes if size)
        raise ValueError(
            f"data.pack_length={length} does not divide into {length_divisor} parts (mesh.context): set "
            f"--config.data.pack_length to {near}"
        )
    sides = []
    for total, needed in zip(totals, longest, strict=True):
        scaled = -(-length * total // max(totals))
        sides.append(min(length, round_up(max(scaled, needed), multiple)))
    return Shape(rows, sides[0], sides[1])


def packed_rows(config: DataConfig, divisor: int) -> tuple[int, int]:
    """How many rows a packed batch has, and how long its longer side is.

    Raises:
      ValueError: `batch_tokens` does not make a number of rows that `divisor` divides.
    """
    length = config.pack_length or config.max_length
    step = length * divisor
    if config.batch_tokens % step:
        lower = config.batch_tokens // step * step
        nearest = f"{lower} or {lower + step}" if lower else f"{step}"
        raise ValueError(
            f"data.batch_tokens={config.batch_tokens} does not divide into rows of {length} tokens in multiples of "
            f"{divisor} (data shards times accumulation): set --config.data.batch_tokens to {nearest}"
        )
    return config.batch_tokens // length, length


def plan_packing(
    records: np.ndarray,
    source_lengths: np.ndarray,
    target_lengths: np.ndarray,
    shape: Shape,
    *,
    shuffle: np.random.Generator | None,
) -> WindowPlan:
    """Batches of packed rows; every record once, each row full to at most `shape` on both sides.

    Args:
      records: int64 [n], record numbers in random order.
      source_lengths, target_lengths: int [n], of those records.
      shape: of every batch.
      shuffle: orders the rows; None keeps like rows together.
    """
    width = shape.target_length + 1
    cells = source_lengths.astype(np.int64) * width + target_lengths
    row, cell = _rows(histogram(source_lengths, target_lengths), shape, width)
    row_of = np.empty(len(records), np.int64)
    # The i-th place for some pair of lengths goes to the i-th record of these lengths.
    row_of[np.argsort(cells, kind="stable")] = row[np.argsort(cell, kind="stable")]
    num_rows = int(row.max()) + 1
    if shuffle is not None:
        row_of = shuffle.permutation(num_rows)[row_of]
    order = np.argsort(row_of, kind="stable")
    row_of = row_of[order]
    batches = -(-num_rows // shape.rows)
    starts = np.searchsorted(row_of, np.arange(batches + 1) * shape.rows)
    return WindowPlan(records[order], (row_of % shape.rows).astype(np.int32), starts, np.zeros(batches, np.int16))


class _OpenRows:
    """Kinds of rows, by the room that they have left on each side: how many, and what they hold."""

    def __init__(self, source_length: int, target_length: int) -> None:
        self.count = np.zeros((source_length + 1, target_length + 1), np.int64)
        self._held: dict[tuple[int, int], list[tuple[int, tuple[int, ...]]]] = {}

    def put(self, room: tuple[int, int], number: int, held: tuple[int, ...]) -> None:
        self.count[room] += number
        self._held.setdefault(room, []).append((number, held))

    def take(self, room: tuple[int, int], most: int) -> tuple[int, tuple[int, ...]]:
        """Up to `most` rows of equal content that have this room."""
        number, held = self._held[room].pop()
        taken = min(number, most)
        if taken < number:
            self._held[room].append((number - taken, held))
        self.count[room] -= taken
        return taken, held

    def all(self) -> list[tuple[int, tuple[int, ...]]]:
        return [group for groups in self._held.values() for group in groups]


def _rows(counts: np.ndarray, shape: Shape, width: int) -> tuple[np.ndarray, np.ndarray]:
    """For every place in the packed rows, its row and its cell (source length * width + target length)."""
    source, target = np.nonzero(counts)
    number = counts[source, target]
    # Of labelled records, the target side is 0 slots wide.
    least = max((number * source).sum() / shape.source_length, (number * target).sum() / max(1, shape.target_length))
    attempts = [_fill(counts, shape, width, max(1, int(least / fill))) for fill in _FILLS]
    groups = min(attempts, key=lambda groups: sum(number for number, _ in groups))
    numbers = np.array([number for number, _ in groups], np.int64)
    sizes = np.array([len(held) for _, held in groups], np.int64)
    contents = np.array([cell for _, held in groups for cell in held], np.int64)
    parts = np.split(contents, np.cumsum(sizes)[:-1])
    cell = np.concatenate([np.tile(part, n) for part, n in zip(parts, numbers, strict=True)])
    return np.repeat(np.arange(int(numbers.sum())), np.repeat(sizes, numbers)), cell


def _fill(counts: np.ndarray, shape: Shape, width: int, num_rows: int) -> list[tuple[int, tuple[int, ...]]]:
    """Kinds of rows that hold all of `counts`: how many of each, and their cells; `num_rows` rows are opened first."""
    size = (shape.source_length, shape.target_length)
    rows = _OpenRows(*size)
    rows.put(size, num_rows, ())
    source_room, target_room = np.meshgrid(*(np.arange(n + 1) / max(1, n) for n in size), indexing="ij")
    cost = _UNEVENNESS * np.abs(source_room - target_room) - (source_room + target_room)
    source, target = np.nonzero(counts)
    order = np.argsort(-((source / size[0]) ** 2 + (target / max(1, size[1])) ** 2), kind="stable")
    for s, t in zip(source[order].tolist(), target[order].tolist(), strict=True):
        remaining = int(counts[s, t])
        while remaining:
            fitting = rows.count[s:, t:] > 0  # by the room left after placing
            if not fitting.any():
                rows.put(size, -(-remaining // min(size[0] // s, size[1] // t if t else remaining)), ())
                continue
            after = np.where(fitting, cost[: fitting.shape[0], : fitting.shape[1]], np.inf)
            i, j = divmod(int(np.argmin(after)), after.shape[1])
            number, held = rows.take((s + i, t + j), remaining)
            rows.put((i, j), number, (*held, s * width + t))
            remaining -= number
    return [group for group in rows.all() if group[1]]
