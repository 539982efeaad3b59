"""Labelled records for encoders, in memory or memory-mapped: inputs of any length, and what is wanted of them by name.

Inputs are tokens, or vectors of numbers; labels belong to single positions or to whole records. Batches come from the
same planner and pipeline as those of pairs (`batching`, `pipeline`), in buckets of like length or packed. Not for where
records come from, nor for what they mean.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.data.bucketing import Shape
from jaxformer.data.store import filled_rows, placed, places, ranges
from jaxformer.types import LabelledBatch, PositionLabels, RowLabels, Series

_DESCRIPTION = "labelled.json"


@dataclasses.dataclass(frozen=True)
class Labels:
    """What is wanted of all records of a set. Anything may stand where the weight is 0.

    Attributes:
      values: of positions, [m] or [m, E], those of all records one after another; of records, [n, G] or [n, G, E], in
        the form that `types.RowLabels` has: G is 1 for a label of the whole record, or the T steps of a forecast.
        Classes are integers.
      weights: float32 [m], or [n, G].
      of_positions: which of the two.
    """

    values: np.ndarray
    weights: np.ndarray
    of_positions: bool

    @classmethod
    def positions(cls, values: np.ndarray, weights: np.ndarray | None = None) -> Labels:
        """Labels [m] or [m, E] of positions; with weights of 1 if none are given."""
        values = np.asarray(values)
        return cls(values, _weights(weights, values.shape[:1]), True)

    @classmethod
    def records(cls, values: np.ndarray, weights: np.ndarray | None = None) -> Labels:
        """Labels [n], [n, G] or [n, G, E] of records; with weights of 1 if none are given."""
        values = np.asarray(values)
        values = values[:, None] if values.ndim == 1 else values
        weights = None if weights is None else np.asarray(weights).reshape(values.shape[:2])
        return cls(values, _weights(weights, values.shape[:2]), False)

    def _of(self, positions: np.ndarray, records: np.ndarray) -> Labels:
        which = positions if self.of_positions else records
        return Labels(self.values[which], self.weights[which], self.of_positions)


def _weights(weights: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, np.float32) if weights is None else np.asarray(weights, np.float32)


class LabelledDataset:
    """Records by number: inputs with labels.

    Args:
      inputs: of all records one after another: int [m], tokens, or [m, P], with how they are spelt; or float [m, C],
        numbers.
      lengths: int [n], positions of each record, at least 1.
      labels: by name; see `Labels`.

    Attributes:
      inputs, lengths, labels: as given.
      starts: int64 [n], where each record begins in `inputs`.
      source_lengths: the lengths.
      target_lengths: zeros: there is no other side. The planner of pairs wants to know.

    Raises:
      ValueError: if they do not fit together.
    """

    def __init__(self, inputs: np.ndarray, lengths: np.ndarray, labels: Mapping[str, Labels]) -> None:
        self.inputs = inputs
        self.lengths = self.source_lengths = np.asarray(lengths, np.int32)
        self.target_lengths = np.zeros(len(self.lengths), np.int32)
        ends = np.cumsum(self.lengths, dtype=np.int64)
        self.starts = ends - self.lengths
        self.labels = dict(sorted(labels.items()))
        number, slots = len(self.lengths), int(ends[-1]) if len(ends) else 0
        if len(inputs) != slots:
            raise ValueError(f"{number} records have {slots} positions together, but there are {len(inputs)} inputs")
        if number and self.lengths.min() < 1:
            raise ValueError(f"record {int(self.lengths.argmin())} has no position: leave it out")
        for name, one in self.labels.items():
            wanted = slots if one.of_positions else number
            if len(one.values) != wanted or len(one.weights) != wanted:
                what = "positions" if one.of_positions else "records"
                raise ValueError(
                    f"{wanted} {what} have {len(one.values)} labels of {name!r}, and {len(one.weights)} weights"
                )

    @classmethod
    def from_lists(cls, inputs: Sequence[Any], labels: Mapping[str, Labels]) -> LabelledDataset:
        """A set in memory, from the tokens [S] or [S, P] or numbers [S, C] of each record."""
        lengths = np.array([len(one) for one in inputs], np.int32)
        arrays = [np.asarray(one) for one in inputs]
        return cls(np.concatenate(arrays) if arrays else np.zeros(0, np.int32), lengths, labels)

    def __len__(self) -> int:
        return len(self.lengths)

    def positions(self, records: np.ndarray) -> np.ndarray:
        """int64: where the positions of some records stand in `inputs`, one record after another."""
        return ranges(self.starts[records], self.lengths[records])

    def take(self, records: np.ndarray) -> LabelledDataset:
        """Some records, in the order given, in memory."""
        where = self.positions(records)
        labels = {name: one._of(where, records) for name, one in self.labels.items()}
        return LabelledDataset(self.inputs[where], self.lengths[records], labels)

    def copy(self, firsts: np.ndarray, counts: np.ndarray) -> LabelledDataset:
        """Runs of records, `counts[i]` of them from `firsts[i]` on, one after another in memory."""
        return self.take(ranges(firsts, counts))

    def release(self) -> None:
        """Does nothing: what is mapped from a file is small beside the tokens of a corpus of pairs."""

    def assemble(self, records: np.ndarray, rows: np.ndarray, shape: Shape, num_rows: int) -> LabelledBatch:
        """Some records as a batch of `num_rows` rows; rows without records have weight 0.

        Args:
          records: record numbers.
          rows: the row of each, ascending; records of one row are packed in the given order, which labels of whole
            records do not allow.
          shape: gives the width.
          num_rows: rows of the batch (fewer than `shape.rows` on one of several hosts).
        """
        size = (num_rows, shape.source_length)
        found = self.positions(records)
        where = places(self.lengths[records], rows, size)
        labels: dict[str, PositionLabels | RowLabels] = {}
        for name, one in self.labels.items():
            kind = _label_type(one.values)
            if one.of_positions:
                labels[name] = PositionLabels(
                    placed(one.values[found], where.slots, size, kind),
                    placed(one.weights[found], where.slots, size, np.float32),
                )
            else:
                labels[name] = RowLabels(
                    _in_rows(one.values[records], rows, num_rows, kind),
                    _in_rows(one.weights[records], rows, num_rows, np.float32),
                )
        if np.issubdtype(self.inputs.dtype, np.integer):
            return LabelledBatch(filled_rows(self.inputs[found], where, size), labels)
        positions, segments = (placed(x, where.slots, size, np.int32) for x in (where.positions, where.segments))
        values = placed(self.inputs[found], where.slots, size, np.float32)
        return LabelledBatch(Series(values, positions, segments), labels)

    def checksum(self) -> list[int]:
        """The number of records, and a checksum of everything that they hold."""
        found = zlib.crc32(np.ascontiguousarray(self.lengths).data)
        arrays = [self.inputs, *(array for one in self.labels.values() for array in (one.values, one.weights))]
        for array in arrays:
            found = zlib.crc32(np.ascontiguousarray(array).data.cast("B") if array.size else b"", found)
        return [len(self), found]

    def save(self, folder: Path) -> None:
        """Writes the set to `folder`, which `open` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "inputs.npy", self.inputs)
        np.save(folder / "lengths.npy", self.lengths)
        for number, one in enumerate(self.labels.values()):
            np.save(folder / f"values-{number}.npy", one.values)
            np.save(folder / f"weights-{number}.npy", one.weights)
        names = [[name, one.of_positions] for name, one in self.labels.items()]
        (folder / _DESCRIPTION).write_text(json.dumps(names), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> LabelledDataset:
        """The set that `save` wrote, memory-mapped."""

        def read(name: str) -> np.ndarray:
            array: np.ndarray = np.load(folder / f"{name}.npy")
            return array if not array.size else np.load(folder / f"{name}.npy", mmap_mode="r")

        names = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        labels = {
            name: Labels(read(f"values-{number}"), read(f"weights-{number}"), of_positions)
            for number, (name, of_positions) in enumerate(names)
        }
        return cls(read("inputs"), read("lengths"), labels)


def _label_type(values: np.ndarray) -> type:
    return np.int32 if np.issubdtype(values.dtype, np.integer) else np.float32


def _in_rows(values: np.ndarray, rows: np.ndarray, num_rows: int, dtype: type) -> np.ndarray:
    found = np.zeros((num_rows, *values.shape[1:]), dtype)
    found[rows] = values
    return found


def class_counts(labels: Iterable[Labels], num_classes: int) -> np.ndarray:
    """float64 [E]: how much weight each class has among labels of classes."""
    total = np.zeros(num_classes)
    for one in labels:
        known = one.weights > 0
        total += np.bincount(one.values[known], one.weights[known], minlength=num_classes)
    return total
