"""Tokenised sentence pairs on disk, memory-mapped: one flat array of tokens, and where each record starts.

Runs of records are copied out and their pages given back to the system, so a process that reads a corpus of any size
stays small. Not for deciding what is stored: `prepare.py` does that.
"""

from __future__ import annotations

import io
import mmap
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxformer.data.bucketing import Shape
from jaxformer.types import Batch, Sequences

_ARRAYS = ("starts", "source_lengths", "target_lengths", "tokens")
_SLICE = 1 << 20  # values handled at once by whole-file operations


def token_dtype(vocabulary_size: int) -> np.dtype:
    """The smallest type that holds every token id."""
    return np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.int32)


class TokenizedDataset:
    """Records of source and target token ids, by number.

    Attributes:
      starts: int64 [n], where each record's source tokens start in `tokens`; its target tokens follow them.
      source_lengths, target_lengths: int32 [n], in tokens, eos included.
      tokens: uint16 or int32, the tokens of all records.
    """

    def __init__(
        self, starts: np.ndarray, source_lengths: np.ndarray, target_lengths: np.ndarray, tokens: np.ndarray
    ) -> None:
        self.starts = starts
        self.source_lengths = source_lengths
        self.target_lengths = target_lengths
        self.tokens = tokens
        self._maps: list[mmap.mmap] = []

    @classmethod
    def open(cls, folder: Path) -> TokenizedDataset:
        """The data set that `DatasetWriter` and `select` left in `folder`, memory-mapped."""
        maps, arrays = [], []
        for name in _ARRAYS:
            mapped, array = _map(folder / f"{name}.npy")
            arrays.append(array)
            if mapped is not None:
                maps.append(mapped)
        dataset = cls(*arrays)
        dataset._maps = maps
        return dataset

    @classmethod
    def from_lists(cls, source: Sequence[Sequence[int]], target: Sequence[Sequence[int]]) -> TokenizedDataset:
        """A data set in memory, such as a validation split."""
        source_lengths = np.array([len(ids) for ids in source], np.int32)
        target_lengths = np.array([len(ids) for ids in target], np.int32)
        both = source_lengths.astype(np.int64) + target_lengths
        flat = [i for pair in zip(source, target, strict=True) for side in pair for i in side]
        return cls(np.cumsum(both) - both, source_lengths, target_lengths, np.array(flat, np.int32))

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Source and target token ids of one record: int32 [S], int32 [T]."""
        start = int(self.starts[index])
        middle = start + int(self.source_lengths[index])
        end = middle + int(self.target_lengths[index])
        return self.tokens[start:middle].astype(np.int32), self.tokens[middle:end].astype(np.int32)

    def fetch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Records `indices` at once: source tokens (flat), source lengths, target tokens (flat), target lengths."""
        starts = self.starts[indices]
        source_lengths, target_lengths = self.source_lengths[indices], self.target_lengths[indices]
        source = self.tokens[ranges(starts, source_lengths)].astype(np.int32)
        target = self.tokens[ranges(starts + source_lengths, target_lengths)].astype(np.int32)
        return source, source_lengths, target, target_lengths

    def assemble(self, records: np.ndarray, rows: np.ndarray, shape: Shape, num_rows: int) -> Batch:
        """The records as one batch of `num_rows` rows; rows without records have weight 0.

        Args:
          records: record numbers.
          rows: the row of each, ascending; records of one row are packed in the given order.
          shape: gives the widths.
          num_rows: rows of the batch (fewer than `shape.rows` on one of several hosts).
        """
        source, source_lengths, target, target_lengths = self.fetch(records)
        sizes = (num_rows, shape.source_length), (num_rows, shape.target_length)
        return Batch(
            source=filled_rows(source, places(source_lengths, rows, sizes[0]), sizes[0]),
            target=filled_rows(target, places(target_lengths, rows, sizes[1]), sizes[1]),
        )

    def copy(self, firsts: np.ndarray, counts: np.ndarray) -> TokenizedDataset:
        """Runs of records, `counts[i]` (at least 1) of them from `firsts[i]` on, one after another in memory."""
        runs, end = [], 0
        for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
            part = slice(first, first + count)
            starts, source, target = (array[part] for array in (self.starts, self.source_lengths, self.target_lengths))
            begin = int(starts[0])
            tokens = np.array(self.tokens[begin : int(starts[-1]) + int(source[-1]) + int(target[-1])])
            runs.append((starts - begin + end, source.copy(), target.copy(), tokens))
            end += len(tokens)
            self.release()
        return TokenizedDataset(*(np.concatenate(arrays) for arrays in zip(*runs, strict=True)))

    def checksum(self) -> int:
        """CRC-32 of the tokens of all records."""
        found = 0
        for first in range(0, len(self.tokens), _SLICE):
            found = zlib.crc32(np.ascontiguousarray(self.tokens[first : first + _SLICE]).data, found)
            self.release()
        return found

    def release(self) -> None:
        """Gives mapped pages back to the system; they are read again when needed."""
        for mapped in self._maps:
            if hasattr(mapped, "madvise"):
                mapped.madvise(mmap.MADV_DONTNEED)


class Places(NamedTuple):
    """Where the tokens of some records stand in the rows of a batch, token by token.

    Attributes:
      slots: int64, in the flattened rows.
      positions: int64, each within its own record.
      segments: int64, the number of its record within its row, from 1.
    """

    slots: np.ndarray
    positions: np.ndarray
    segments: np.ndarray


def places(lengths: np.ndarray, rows: np.ndarray, size: tuple[int, int]) -> Places:
    """The places of records of `lengths` in rows, one after another in each.

    Args:
      lengths: int [n], of the records.
      rows: int [n], the row of each, ascending.
      size: rows, and slots in each.
    """
    first = np.searchsorted(rows, rows, side="left")  # the first record of the same row
    before = np.cumsum(lengths, dtype=np.int64) - lengths
    slots = ranges(rows.astype(np.int64) * size[1] + before - before[first], lengths)
    segments = np.arange(len(rows)) - first + 1
    return Places(slots, ranges(np.zeros_like(before), lengths), np.repeat(segments, lengths))


def placed(values: np.ndarray, slots: np.ndarray, size: tuple[int, int], dtype: Any) -> np.ndarray:
    """Zeros [*size, ...] in which `values` [m, ...] stand at `slots` [m]."""
    flat = np.zeros((size[0] * size[1], *values.shape[1:]), dtype)
    flat[slots] = values
    return flat.reshape(*size, *values.shape[1:])


def filled_rows(tokens: np.ndarray, where: Places, size: tuple[int, int]) -> Sequences:
    """Rows that hold `tokens` [m] or [m, P] at their places, each with weight 1."""
    positions, segments = (placed(x, where.slots, size, np.int32) for x in (where.positions, where.segments))
    ones = np.ones(len(tokens), np.float32)
    return Sequences(
        placed(tokens, where.slots, size, np.int32), positions, segments, placed(ones, where.slots, size, np.float32)
    )


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The concatenation of `arange(start, start + length)` for each pair, int64."""
    lengths = np.asarray(lengths, np.int64)
    ends = np.cumsum(lengths)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    return np.repeat(np.asarray(starts, np.int64), lengths) + within


def _map(path: Path) -> tuple[mmap.mmap | None, np.ndarray]:
    """A one-dimensional `.npy` file as a read-only mapped array, with the map, whose pages can then be given back."""
    with open(path, "rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{path} is no version 1.0 npy file")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if not shape[0]:
            return None, np.zeros(0, dtype)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return mapped, np.frombuffer(mapped, dtype, count=shape[0], offset=file.tell())


class ArrayFile:
    """A one-dimensional `.npy` file that grows by appending; complete after `close`."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._length = 0
        self._file = open(path, "wb")  # noqa: SIM115 - closed by close()
        self._header()

    def _header(self) -> None:
        # numpy pads the header so that it can be rewritten in place when the array has grown.
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, values: np.ndarray) -> None:
        """Adds `values` at the end."""
        self._file.write(np.ascontiguousarray(values, self._dtype).tobytes())
        self._length += len(values)

    def close(self) -> None:
        """Writes the final length."""
        with self._file:
            self._file.seek(0, io.SEEK_SET)
            self._header()


class DatasetWriter:
    """Appends records to the arrays of a data set in `folder`, which `TokenizedDataset.open` reads after `close`."""

    def __init__(self, folder: Path, dtype: np.dtype) -> None:
        folder.mkdir(exist_ok=True)
        types: tuple[np.dtype, ...] = (np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.int32), dtype)
        self._files = {name: ArrayFile(folder / f"{name}.npy", kind) for name, kind in zip(_ARRAYS, types, strict=True)}
        self._end = 0

    def append(
        self, tokens: np.ndarray, source_lengths: np.ndarray, target_lengths: np.ndarray
    ) -> None:
        """Adds records whose `tokens` lie one after another, source before target."""
        both = source_lengths.astype(np.int64) + target_lengths
        self._files["starts"].append(self._end + np.cumsum(both) - both)
        self._files["source_lengths"].append(source_lengths)
        self._files["target_lengths"].append(target_lengths)
        self._files["tokens"].append(tokens)
        self._end += int(both.sum())

    def close(self) -> None:
        """Completes the files."""
        for file in self._files.values():
            file.close()


def select(folder: Path, keep: np.ndarray) -> None:
    """Keeps the records of the data set in `folder` for which `keep` (bool [n]) is true, in place.

    Dropped records' tokens stay in the file, where nothing points to them.
    """
    for name in _ARRAYS[:-1]:
        path = folder / f"{name}.npy"
        array = np.load(path, mmap_mode="r")
        shorter = ArrayFile(path.with_suffix(".new"), array.dtype)
        for start in range(0, len(array), _SLICE):
            shorter.append(array[start : start + _SLICE][keep[start : start + _SLICE]])
        shorter.close()
        del array
        path.with_suffix(".new").replace(path)
