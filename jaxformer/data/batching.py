"""Plans: which records form which batch of an epoch, a pure function of (seed, epoch), by vectorised numpy.

An epoch is a random order of blocks of neighbouring records, dealt out to windows; the records of a window are shuffled
together and planned at once (bucketed or packed), and their tokens copied into memory, when the window is reached. So
planning and reading cost the same memory for a corpus of any size, a large file is read in long runs, and any batch can
be found again from (seed, epoch, window, batch). Small corpora are one window. Not for making batches: `pipeline.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from jaxformer.config import DataConfig
from jaxformer.data.bucketing import Shape, WindowPlan, assignment, choose_shapes, histogram, plan_buckets
from jaxformer.data.dealing import deal, imbalance
from jaxformer.data.packing import pack_shape, plan_packing
from jaxformer.data.store import ranges

_BLOCK = 1024  # neighbouring records that share a window
_WINDOW = 1 << 17  # records, about
_WINDOW_BATCHES = 128  # a window holds at least about so many batches: what its last batches leave empty is then little


class Records(Protocol):
    """What is planned: records by number, of known lengths, that make their own batches.

    `TokenizedDataset` holds pairs; `LabelledDataset` holds inputs with labels, whose `target_lengths` are all 0.
    """

    source_lengths: np.ndarray
    target_lengths: np.ndarray

    def __len__(self) -> int:
        """How many there are."""

    def assemble(self, records: np.ndarray, rows: np.ndarray, shape: Shape, num_rows: int) -> Any:
        """Some records as a batch: `rows` says in which row each stands, ascending."""

    def copy(self, firsts: np.ndarray, counts: np.ndarray) -> Records:
        """Runs of records, one after another, in memory."""

    def release(self) -> None:
        """Gives back what the system can read again."""


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of an epoch.

    Attributes:
      data: the window's records, in memory.
      plan: which of them (numbered within `data`) form which batch.
      numbers: int64 [n], the number of each in the whole data set.
    """

    data: Records
    plan: WindowPlan
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.plan)

    def efficiency(self, shapes: Sequence[Shape]) -> float:
        """Real tokens over slots of the batches, both sides together."""
        lengths = (self.data.source_lengths, self.data.target_lengths)
        return sum(int(side.sum(dtype=np.int64)) for side in lengths) / count_slots(self.plan, shapes)

    def row_tokens(self, number: int, shapes: Sequence[Shape]) -> np.ndarray:
        """int64 [2, B]: real source and target tokens of each row of batch `number`, as all hosts have it together."""
        part = slice(self.plan.starts[number], self.plan.starts[number + 1])
        records, rows = self.plan.records[part], self.plan.rows[part]
        sides = (self.data.source_lengths, self.data.target_lengths)
        count = shapes[self.plan.shapes[number]].rows
        return np.stack([np.bincount(rows, side[records], minlength=count) for side in sides]).astype(np.int64)

    def imbalances(self, shapes: Sequence[Shape], parts: int) -> np.ndarray:
        """float [batches]: how unevenly the real tokens of each batch lie on `parts` devices; see `imbalance`."""
        rows = (self.row_tokens(number, shapes).sum(axis=0) for number in range(len(self)))
        return np.array([imbalance(row, parts) for row in rows])


class Planner:
    """Plans the batches of a data set.

    Args:
      variants: segmentations of the same records, one for each epoch in turn.
      config: `batching`, `batch_tokens`, `batch_rows`, `num_shapes`, `max_length` and `pack_length` are read.
      seed: of the order.
      divisor: rows of every batch are a multiple of it.
      length_divisor: lengths of every batch are multiples of it.
      shapes: those that an earlier planner chose, to go on with its batches; None to choose.

    Attributes:
      shapes: the shapes that batches have, the same in every epoch; cheapest row first.
      num_windows: how many windows an epoch has.

    Raises:
      ValueError: no records, a record longer than `max_length` (its number and length), or `batch_tokens` that do not
        make rows.
    """

    def __init__(
        self,
        variants: Sequence[Records],
        config: DataConfig,
        *,
        seed: int,
        divisor: int = 1,
        length_divisor: int = 1,
        shapes: Sequence[Shape] | None = None,
    ) -> None:
        if not len(variants[0]):
            raise ValueError("there are no records to make batches of")
        self._variants = variants
        self._seed = seed
        self._pack = config.batching == "pack"
        counts = _counts(variants, config.max_length)
        if shapes is not None:
            self.shapes = _divided(shapes, divisor, length_divisor)
        elif self._pack:
            self.shapes = [pack_shape(counts, config, divisor, length_divisor)]
        else:
            self.shapes = choose_shapes(
                counts,
                num_shapes=config.num_shapes,
                batch_tokens=config.batch_tokens,
                batch_rows=config.batch_rows,
                divisor=config.row_divisor(divisor),
                length_divisor=length_divisor,
            )
        if not self._pack:
            self._table = assignment(self.shapes, counts)
        size = max(_WINDOW, _WINDOW_BATCHES * max(shape.rows for shape in self.shapes))
        self._num_blocks = -(-len(variants[0]) // _BLOCK)
        self.num_windows = -(-self._num_blocks // max(1, size // _BLOCK))

    def dataset(self, epoch: int) -> Records:
        """The segmentation that `epoch` reads."""
        return self._variants[epoch % len(self._variants)]

    def window(self, epoch: int, window: int) -> Window:
        """The records and the plan of one window of an epoch."""
        dataset = self.dataset(epoch)
        blocks = _random(self._seed, epoch).permutation(self._num_blocks)
        starts = np.array_split(blocks, self.num_windows)[window] * _BLOCK
        random = _random(self._seed, epoch, window)
        counts = np.minimum(_BLOCK, len(dataset) - starts)
        data = dataset.copy(starts, counts)
        order = random.permutation(len(data))
        source, target = data.source_lengths[order], data.target_lengths[order]
        if self._pack:
            plan = plan_packing(order, source, target, self.shapes[0], shuffle=random)
        else:
            plan = plan_buckets(order, self._table[source, target], self.shapes, shuffle=random)
        sizes = data.source_lengths.astype(np.int64) + data.target_lengths
        return Window(data, deal(plan, sizes, self.shapes), ranges(starts, counts))


def common_rows(shapes: Sequence[Sequence[int]]) -> int:
    """The largest number into which the rows of all `shapes`, (rows, lengths ...), divide."""
    return math.gcd(*(shape[0] for shape in shapes))


def indivisible(shapes: Sequence[Sequence[int]], divisor: int, length_divisor: int) -> str:
    """Why batches of `shapes`, which a run began with and keeps, cannot be split so; empty if they can.

    Args:
      shapes: (rows, lengths ...) of each.
      divisor: of rows: their parts, times micro-batches.
      length_divisor: of lengths.
    """
    for rows, *lengths in shapes:
        if rows % divisor:
            return (
                f"the batches of this run have {rows} rows, which do not divide into {divisor} (mesh.data x mesh.fsdp "
                "x memory.accumulate)"
            )
        for length in lengths:
            if length % length_divisor:
                return (
                    f"the batches of this run are {length} tokens long, which do not divide into {length_divisor} "
                    "(mesh.context)"
                )
    return ""


def _divided(shapes: Sequence[Shape], divisor: int, length_divisor: int) -> list[Shape]:
    """`shapes`, which must divide."""
    if reason := indivisible(shapes, divisor, length_divisor):
        raise ValueError(
            f"{reason}: choose --config.mesh.data, --config.mesh.fsdp and --config.memory.accumulate whose product "
            f"divides {common_rows(shapes)}, and a --config.mesh.context that divides "
            f"{math.gcd(*(length for _, *lengths in shapes for length in lengths))}; or leave the choice to "
            "--config.mesh=auto"
        )
    return [Shape(*shape) for shape in shapes]


def _random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _counts(variants: Sequence[Records], max_length: int) -> np.ndarray:
    """The histogram of lengths over all segmentations, read in slices."""
    counts: np.ndarray | None = None
    for dataset in variants:
        for start in range(0, len(dataset), _WINDOW):
            source = dataset.source_lengths[start : start + _WINDOW]
            target = dataset.target_lengths[start : start + _WINDOW]
            longer = np.maximum(source, target)
            if longer.max() > max_length:
                record = int(np.argmax(longer))
                raise ValueError(
                    f"record {start + record} has {longer[record]} tokens, more than a row of {max_length}: "
                    "raise --config.data.max_length or remove the sentence"
                )
            counts = histogram(source, target, counts)
            dataset.release()
    assert counts is not None
    return counts


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """All batches of one epoch.

    Attributes:
      windows: the plans, in order.
      shapes: what the batches' shape numbers mean.
      efficiency: real tokens over slots, both sides together.
    """

    windows: tuple[WindowPlan, ...]
    shapes: tuple[Shape, ...]
    efficiency: float

    def __len__(self) -> int:
        return sum(len(window) for window in self.windows)

    def __iter__(self) -> Iterator[tuple[Shape, np.ndarray, np.ndarray]]:
        """Each batch: its shape, its records, and their rows."""
        for window in self.windows:
            for i in range(len(window)):
                part = slice(window.starts[i], window.starts[i + 1])
                yield self.shapes[window.shapes[i]], window.records[part], window.rows[part]


def plan_epoch(
    dataset: Records, config: DataConfig, *, seed: int, epoch: int, divisor: int = 1
) -> EpochPlan:
    """The whole plan of one epoch, for looking at; training plans window by window."""
    planner = Planner([dataset], config, seed=seed, divisor=divisor)
    windows = tuple(_renumbered(planner.window(epoch, window)) for window in range(planner.num_windows))
    tokens = sum(int(part.sum(dtype=np.int64)) for part in (dataset.source_lengths, dataset.target_lengths))
    slots = sum(count_slots(window, planner.shapes) for window in windows)
    return EpochPlan(windows, tuple(planner.shapes), tokens / slots)


def _renumbered(window: Window) -> WindowPlan:
    return dataclasses.replace(window.plan, records=window.numbers[window.plan.records])


def count_slots(plan: WindowPlan, shapes: Sequence[Shape]) -> int:
    """Slots of all batches of `plan`, on both sides."""
    sizes = np.array([shape.rows * shape.row_slots for shape in shapes], np.int64)
    return int(sizes[plan.shapes].sum())
