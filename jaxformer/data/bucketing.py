"""Length buckets: a few batch shapes that fit a corpus closely, and batches of records of like length.

Shapes are chosen from the histogram of (source length, target length): boxes are split where that saves most padding,
then their widths are moved one by one while that helps. Not for packing several records into a row (`packing.py`).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np


class Shape(NamedTuple):
    """The static shape of a batch: [rows, source_length] and [rows, target_length]."""

    rows: int
    source_length: int
    target_length: int

    @property
    def row_slots(self) -> int:
        """Slots of one row on both sides."""
        return self.source_length + self.target_length


def histogram(source_lengths: np.ndarray, target_lengths: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
    """How many records have each pair of lengths: int64 [longest source + 1, longest target + 1], grown as needed."""
    height = int(source_lengths.max(initial=0)) + 1
    width = int(target_lengths.max(initial=0)) + 1
    if into is not None:
        height, width = max(height, into.shape[0]), max(width, into.shape[1])
    flat = source_lengths.astype(np.int64) * width + target_lengths
    counts = np.bincount(flat, minlength=height * width).reshape(height, width)
    if into is not None:
        counts[: into.shape[0], : into.shape[1]] += into
    return counts


def choose_shapes(
    counts: np.ndarray,
    *,
    num_shapes: int,
    batch_tokens: int,
    batch_rows: int = 0,
    divisor: int = 1,
    length_divisor: int = 1,
) -> list[Shape]:
    """At most `num_shapes` shapes, cheapest row first, such that every record fits one and little is padded.

    Args:
      counts: a `histogram`.
      num_shapes: how many shapes; each is compiled once.
      batch_tokens: most slots on either side of a batch.
      batch_rows: most rows of a batch; 0 for no limit.
      divisor: rows of every shape are a multiple of it.
      length_divisor: lengths of every shape are multiples of it.

    Raises:
      ValueError: `batch_tokens` does not hold `divisor` rows of the longest record, or `batch_rows` are fewer.
    """
    source, target = np.nonzero(counts)
    number = counts[source, target]
    boxes = _refined(_split(source, target, number, num_shapes), source, target, number)
    boxes = list({(round_up(source, length_divisor), round_up(target, length_divisor)) for source, target in boxes})
    shapes = []
    for source_length, target_length in sorted(boxes, key=lambda box: (sum(box), box)):
        longest = max(source_length, target_length)
        rows = rows_within(batch_tokens // longest, batch_rows, divisor)
        if not rows:
            raise ValueError(
                f"data.batch_tokens={batch_tokens} does not hold {divisor} rows of {longest} tokens, and rows must be "
                f"a multiple of {divisor} (data shards times accumulation, and data.row_multiple): raise "
                f"--config.data.batch_tokens to {longest * divisor} or more, or lower --config.data.max_length to "
                f"{batch_tokens // divisor} or less"
            )
        shapes.append(Shape(rows, source_length, target_length))
    return shapes


def rows_within(rows: int, batch_rows: int, divisor: int) -> int:
    """The most rows that `divisor` divides, of those that there is room for and no more than `batch_rows`, if any.

    Raises:
      ValueError: for fewer `batch_rows` than `divisor`.
    """
    if 0 < batch_rows < divisor:
        raise ValueError(
            f"data.batch_rows={batch_rows} is less than a row for each device and micro-batch ({divisor}): set "
            f"--config.data.batch_rows to {divisor} or more, or to 0"
        )
    return min(rows, batch_rows or rows) // divisor * divisor


def round_up(length: int, divisor: int) -> int:
    """The next multiple of `divisor`."""
    return -(-length // divisor) * divisor


def _split(source: np.ndarray, target: np.ndarray, number: np.ndarray, num_boxes: int) -> list[tuple[int, int]]:
    """Boxes around groups of lengths: the group whose halving saves most is halved until there are `num_boxes`."""
    groups = [np.arange(len(source))]
    splits = [_best_split(source, target, number, groups[0])]
    while len(groups) < num_boxes:
        best = max(range(len(groups)), key=lambda i: splits[i][0])
        saved, halves = splits[best]
        if saved <= 0:
            break
        groups[best : best + 1] = halves
        splits[best : best + 1] = [_best_split(source, target, number, half) for half in halves]
    return [(int(source[group].max()), int(target[group].max())) for group in groups]


def _best_split(
    source: np.ndarray, target: np.ndarray, number: np.ndarray, group: np.ndarray
) -> tuple[int, list[np.ndarray]]:
    """The slots saved by the best cut of `group` along one side, and its two halves."""
    best: tuple[int, list[np.ndarray]] = (0, [])
    for cut_by, other in ((source, target), (target, source)):
        order = group[np.argsort(cut_by[group], kind="stable")]
        a, b, n = cut_by[order], other[order], number[order]
        low = np.cumsum(n) * (a + np.maximum.accumulate(b))  # cost of everything up to here as one box
        high = np.cumsum(n[::-1])[::-1] * (a[-1] + np.maximum.accumulate(b[::-1])[::-1])
        allowed = np.flatnonzero(a[:-1] < a[1:])
        if len(allowed):
            saved = low[-1] - low[allowed] - high[allowed + 1]
            i = int(np.argmax(saved))
            if saved[i] > best[0]:
                cut = allowed[i] + 1
                best = (int(saved[i]), [order[:cut], order[cut:]])
    return best


def _refined(
    boxes: list[tuple[int, int]], source: np.ndarray, target: np.ndarray, number: np.ndarray
) -> list[tuple[int, int]]:
    """`boxes` with widths moved by single steps while that lowers the slots used and every record still fits."""
    widths = np.array(boxes, np.int64)
    lowest = _slots(widths, source, target, number)
    for _ in range(8):
        before = lowest
        for k in range(len(widths)):
            for side in (0, 1):
                for step in (-1, 1):
                    while True:
                        widths[k, side] += step
                        slots = _slots(widths, source, target, number)
                        if slots >= lowest:
                            widths[k, side] -= step
                            break
                        lowest = slots
        if lowest == before:
            break
    return sorted({(int(s), int(t)) for s, t in widths})


def _slots(widths: np.ndarray, source: np.ndarray, target: np.ndarray, number: np.ndarray) -> float:
    """Slots used when every record takes the cheapest box that it fits; inf if one fits none."""
    fits = (source[:, None] <= widths[:, 0]) & (target[:, None] <= widths[:, 1])
    return float((np.where(fits, widths.sum(1), np.inf).min(1) * number).sum())


def assignment(shapes: list[Shape], counts: np.ndarray) -> np.ndarray:
    """For each pair of lengths in `counts` the number of the cheapest shape that it fits; int16 [S + 1, T + 1]."""
    table = np.full(counts.shape, -1, np.int16)
    for number in reversed(range(len(shapes))):  # cheaper shapes overwrite dearer ones
        table[: shapes[number].source_length + 1, : shapes[number].target_length + 1] = number
    return table


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """Which records form which batch, for a run of batches.

    Attributes:
      records: int64 [n], record numbers, batch after batch.
      rows: int32 [n], the row of its batch that each record stands in, ascending within a batch.
      starts: int64 [batches + 1], where each batch starts in `records`.
      shapes: int16 [batches], the number of each batch's shape.
    """

    records: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    shapes: np.ndarray

    def __len__(self) -> int:
        return len(self.shapes)


def plan_buckets(
    records: np.ndarray, shape_of: np.ndarray, shapes: list[Shape], *, shuffle: np.random.Generator | None
) -> WindowPlan:
    """Batches of records that share a shape; every record once.

    A group that does not fill its last batch hands the rest on to the next dearer shape, or leaves rows empty,
    whichever wastes fewer slots.

    Args:
      records: int64 [n], record numbers in the wanted (random) order.
      shape_of: int [n], the number of the shape of each.
      shapes: cheapest first.
      shuffle: orders the batches; None keeps them by shape.
    """
    order = np.argsort(shape_of, kind="stable")
    groups = np.split(records[order], np.searchsorted(shape_of[order], np.arange(1, len(shapes))))
    pieces: list[np.ndarray] = []
    kinds: list[int] = []
    for k, shape in enumerate(shapes):
        rest = len(groups[k]) % shape.rows
        heir = _heir(shapes, k) if rest else None
        if heir is not None:
            moved = rest * (shapes[heir].row_slots - shape.row_slots)
            if moved < (shape.rows - rest) * shape.row_slots:
                # In front, so that the heir's own rest, taken from its end, is its own.
                groups[heir] = np.concatenate([groups[k][-rest:], groups[heir]])
                groups[k] = groups[k][:-rest]
        batches = -(-len(groups[k]) // shape.rows)
        pieces += [groups[k][i * shape.rows : (i + 1) * shape.rows] for i in range(batches)]
        kinds += [k] * batches
    sequence = np.arange(len(pieces)) if shuffle is None else shuffle.permutation(len(pieces))
    pieces = [pieces[i] for i in sequence]
    sizes = np.array([len(piece) for piece in pieces], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.arange(starts[-1]) - np.repeat(starts[:-1], sizes)
    together = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    return WindowPlan(together, rows.astype(np.int32), starts, np.array(kinds, np.int16)[sequence])


def _heir(shapes: list[Shape], k: int) -> int | None:
    """The cheapest dearer shape that holds all that shape `k` holds."""
    for j in range(k + 1, len(shapes)):
        if shapes[j].source_length >= shapes[k].source_length and shapes[j].target_length >= shapes[k].target_length:
            return j
    return None
