"""Batches for training, read in background threads by Grain, resumable at any batch; and batches for evaluation.

Batch i of an epoch is a pure function of (seed, epoch, i); with several hosts each reads its rows of the same global
batches. The state of the iterator is three integers, and going to a state costs one window's plan. Not for devices:
batches are numpy arrays, placed by the trainer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import grain
import numpy as np

from jaxformer.config import DataConfig
from jaxformer.data.batching import Planner, Records, Window
from jaxformer.data.bucketing import Shape, WindowPlan, assignment, choose_shapes, histogram, plan_buckets

_FOREVER = 1 << 62  # batches; Grain wants a length
_EVALUATION_SHAPES = 4  # validation is short: compiling more shapes costs more than padding


def read_batch(
    dataset: Records, plan: WindowPlan, number: int, shapes: Sequence[Shape], shard: tuple[int, int]
) -> Any:
    """Batch `number` of `plan`: of its rows, the share of host `shard[0]` of `shard[1]`."""
    shape = shapes[plan.shapes[number]]
    part = slice(plan.starts[number], plan.starts[number + 1])
    records, rows = plan.records[part], plan.rows[part]
    index, count = shard
    share = shape.rows // count
    low, high = np.searchsorted(rows, [index * share, (index + 1) * share])
    return dataset.assemble(records[low:high], rows[low:high] - index * share, shape, share)


class _Place(NamedTuple):
    """Where a batch stands: batch `batch` of window `window` of `epoch`."""

    epoch: int
    window: int
    batch: int


class _Placed(NamedTuple):
    """A batch, the real tokens of the rows that all hosts have of it, and the place of the batch after it."""

    batch: Any
    row_tokens: np.ndarray
    following: _Place


class _Batches:
    """The batches from a place on, by number: the random-access source that Grain's threads read.

    Keeps the windows being read and plans the next one ahead, in a thread.
    """

    def __init__(self, planner: Planner, start: _Place, shard: tuple[int, int], prefetch: int) -> None:
        self._planner = planner
        self._behind = prefetch  # how far requests lie apart at most
        self._shard = shard
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="plan-batches")
        first = planner.window(start.epoch, start.window)
        if not 0 <= start.batch <= len(first):
            raise ValueError(f"batch {start.batch} of window {start.window} does not exist: it has {len(first)}")
        # (number of the window's batch 0, its epoch, its number in the epoch, the window), oldest first
        self._windows: list[tuple[int, int, int, Window]] = [(-start.batch, start.epoch, start.window, first)]
        self._ahead = self._plan_ahead()

    def _following_window(self) -> tuple[int, int]:
        _, epoch, window, _ = self._windows[-1]
        return (epoch, window + 1) if window + 1 < self._planner.num_windows else (epoch + 1, 0)

    def _plan_ahead(self) -> Future[Window]:
        return self._executor.submit(self._planner.window, *self._following_window())

    def _find(self, number: int) -> tuple[int, int, int, Window]:
        with self._lock:
            while number >= self._windows[-1][0] + len(self._windows[-1][3]):
                zero, _, _, window = self._windows[-1]
                self._windows.append((zero + len(window), *self._following_window(), self._ahead.result()))
                while len(self._windows) > 1 and self._windows[1][0] <= number - self._behind:
                    del self._windows[0]  # no thread still reads it
                self._ahead = self._plan_ahead()
            return next(window for window in reversed(self._windows) if window[0] <= number)

    def __len__(self) -> int:
        return _FOREVER

    def __getitem__(self, number: int) -> _Placed:
        zero, epoch, window_number, window = self._find(number)
        batch = read_batch(window.data, window.plan, number - zero, self._planner.shapes, self._shard)
        row_tokens = window.row_tokens(number - zero, self._planner.shapes)
        return _Placed(batch, row_tokens, _Place(epoch, window_number, number - zero + 1))

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


class BatchPipeline(Iterator[Any]):
    """Training batches without end, epoch after epoch.

    Args:
      dataset: what to read: a data set, of pairs or of labelled records, which makes its own batches; or several
        segmentations of it (`PreparedData.variants`), one an epoch.
      config: how batches are made and read.
      seed: of the order of records and batches.
      shard_index, shard_count: this host and how many there are; each gets equally many rows of every batch.
      divisor: rows of a global batch are a multiple of it (data shards times accumulation).
      length_divisor: lengths of a batch are multiples of it (parts of a sequence).
      shapes: of the batches of a run that is continued, perhaps on other devices; None to choose them.

    Attributes:
      shapes: shapes of global batches; all that ever come.
      efficiency: real tokens over slots on both sides, of the first window of epoch 0.
      batches_per_epoch: batches in epoch 0, from its first window; epochs may differ by a few.
      row_tokens: int64 [2, B], real source and target tokens of each row of the batch that came last, of all its rows:
        every host knows those that the others read.

    Raises:
      ValueError: see `Planner`; or hosts that do not divide the rows.
    """

    def __init__(
        self,
        dataset: Records | Sequence[Records],
        config: DataConfig,
        *,
        seed: int,
        shard_index: int = 0,
        shard_count: int = 1,
        divisor: int = 1,
        length_divisor: int = 1,
        shapes: Sequence[Shape] | None = None,
    ) -> None:
        if not 0 <= shard_index < shard_count:
            raise ValueError(f"shard_index={shard_index} must be at least 0 and less than shard_count={shard_count}")
        variants = list(dataset) if isinstance(dataset, list | tuple) else [cast(Records, dataset)]
        self.row_tokens = np.zeros((2, 0), np.int64)
        self._planner = Planner(
            variants,
            config,
            seed=seed,
            divisor=int(np.lcm(divisor, shard_count)),
            length_divisor=length_divisor,
            shapes=shapes,
        )
        self._shard = (shard_index, shard_count)
        self._options = grain.ReadOptions(num_threads=config.num_threads, prefetch_buffer_size=config.prefetch)
        self.shapes = tuple(self._planner.shapes)
        first = self._planner.window(0, 0)
        self.efficiency = first.efficiency(self.shapes)
        self.batches_per_epoch = len(first) * self._planner.num_windows
        self._place = _Place(0, 0, 0)
        self._batches: _Batches | None = None
        self._closed = False

    def _start(self) -> None:
        self._batches = _Batches(self._planner, self._place, self._shard, self._options.prefetch_buffer_size)
        self._iterator = iter(grain.MapDataset.source(self._batches).to_iter_dataset(self._options))

    def __next__(self) -> Any:
        if self._closed:
            raise ValueError("this pipeline is closed")
        if self._batches is None:
            self._start()
        placed = next(self._iterator)
        self._place, self.row_tokens = placed.following, placed.row_tokens
        return placed.batch

    def imbalances(self, parts: int) -> np.ndarray:
        """float [batches]: how unevenly `parts` blocks of rows are filled, over the first window of epoch 0."""
        return self._planner.window(0, 0).imbalances(self.shapes, parts)

    def get_state(self) -> dict[str, int]:
        """Where the next batch stands: `epoch`, `window`, `batch`; batches read ahead do not count."""
        return self._place._asdict()

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes to a place that `get_state` gave: the next batch is the one that would have come then."""
        self._stop()
        self._place = _Place(**{name: int(state[name]) for name in _Place._fields})

    def _stop(self) -> None:
        if self._batches is not None:
            self._iterator.close()
            self._batches.close()
            self._batches = None

    def close(self) -> None:
        """Ends the background threads."""
        self._stop()
        self._closed = True

    def __enter__(self) -> BatchPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def evaluation_batches(
    dataset: Records,
    config: DataConfig,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
    divisor: int = 1,
    length_divisor: int = 1,
) -> Iterator[Any]:
    """Every record of `dataset` once, one pair a row, in batches of a few fixed shapes; rows to spare have weight 0.

    Records come shape by shape, short before long: the same batches every time.

    Args:
      dataset: evaluation records, such as tokenised pairs (`prepare.tokenize`).
      config: `batch_tokens` and `num_shapes` (of which at most 4 are used) are read.
      shard_index, shard_count, divisor, length_divisor: as for `BatchPipeline`.

    Raises:
      ValueError: `batch_tokens` does not hold `divisor` rows of the longest record.
    """
    plan, shapes = evaluation_plan(
        dataset, config, divisor=int(np.lcm(divisor, shard_count)), length_divisor=length_divisor
    )
    return (read_batch(dataset, plan, number, shapes, (shard_index, shard_count)) for number in range(len(plan)))


def evaluation_plan(
    dataset: Records, config: DataConfig, *, divisor: int = 1, length_divisor: int = 1
) -> tuple[WindowPlan, list[Shape]]:
    """Which records `evaluation_batches` puts where, and the shapes that its batches have."""
    counts = histogram(dataset.source_lengths, dataset.target_lengths)
    shapes = choose_shapes(
        counts,
        num_shapes=min(config.num_shapes, _EVALUATION_SHAPES),
        batch_tokens=config.batch_tokens,
        divisor=divisor,
        length_divisor=length_divisor,
    )
    shape_of = assignment(shapes, counts)[dataset.source_lengths, dataset.target_lengths]
    needed = -(-np.bincount(shape_of, minlength=len(shapes)).max() // divisor) * divisor
    shapes = [shape._replace(rows=min(shape.rows, int(needed))) for shape in shapes]
    return plan_buckets(np.arange(len(dataset)), shape_of, shapes, shuffle=None), shapes
