"""Batches on the device before the step asks for them: one thread between the host pipeline and the loop.

Every batch travels with the iterator state *after* it, so that a checkpoint made between two steps says exactly which
batches have been used, however many wait in the queue. Not for making batches (`data.pipeline`).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxformer.types import Batch, LabelledBatch


class Pipeline(Protocol):
    """What the feed needs of `data.pipeline.BatchPipeline`."""

    row_tokens: np.ndarray
    """int [2, B]: real source and target tokens of each row of the batch that came last, as all hosts have it."""

    def __next__(self) -> Any:
        """The next host batch: this host's rows."""

    def get_state(self) -> dict[str, int]:
        """A few integers that say which batch is next."""

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continues where `get_state` was called."""

    def close(self) -> None:
        """Stops its threads."""


class Fed(NamedTuple):
    """One batch for one step.

    Attributes:
      batch: on the mesh.
      counts: of the whole batch, whatever this host has of it: `source_tokens` and `target_tokens` (real ones), `slots`
        on both sides together, and what else a feed's `count` counts.
      iterator: the pipeline's state after this batch.
    """

    batch: Any
    counts: dict[str, float]
    iterator: dict[str, int]


def count_tokens(batch: Batch | LabelledBatch, row_tokens: np.ndarray) -> dict[str, float]:
    """The counts of a batch; see `Fed`. An encoder has no target tokens: its inputs are counted as source tokens.

    Args:
      batch: this host's rows of it.
      row_tokens: of all its rows; see `Pipeline`.
    """
    source, target = row_tokens.sum(axis=1).tolist()
    row_slots = sum(side_lengths(batch))
    return {"source_tokens": source, "target_tokens": target, "slots": row_tokens.shape[1] * row_slots}


def side_lengths(batch: Batch | LabelledBatch) -> tuple[int, int]:
    """Slots of a row of input and of target; an encoder has no target."""
    if isinstance(batch, LabelledBatch):
        return batch.inputs.positions.shape[1], 0
    return batch.source.tokens.shape[1], batch.target.tokens.shape[1]


class DeviceFeed:
    """An iterator over `Fed`, filled by a background thread that starts with the first `next`.

    Args:
      pipeline: host batches, in order; closed with the feed.
      place: puts a host batch on the device or mesh.
      depth: batches that wait on the device at most.
      count: the counts of a batch, from a host's rows and the tokens of all rows.

    An error of the pipeline is raised by the `next` whose batch it concerns. The feed is a context manager.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        place: Callable[[Any], Any],
        *,
        depth: int = 2,
        count: Callable[[Any, np.ndarray], dict[str, float]] = count_tokens,
    ) -> None:
        self._pipeline, self._place, self._count = pipeline, place, count
        self._queue: queue.Queue[Fed | BaseException] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._ended: BaseException | None = None
        self._thread = threading.Thread(target=self._fill, name="device-feed", daemon=True)

    def __iter__(self) -> Iterator[Fed]:
        return self

    def __next__(self) -> Fed:
        if self._ended is not None:
            raise self._ended
        if self._stop.is_set():
            raise RuntimeError("the feed is closed")
        if self._thread.ident is None:
            self._thread.start()
        item = self._queue.get()
        if isinstance(item, BaseException):
            self._ended = item
            raise item
        return item

    def __enter__(self) -> DeviceFeed:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Stops the thread, waits for it, drops waiting batches and closes the pipeline; may be called twice."""
        if self._stop.is_set():
            return
        self._stop.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        if self._thread.ident is not None:
            self._thread.join()
        self._pipeline.close()

    def _fill(self) -> None:
        try:
            while not self._stop.is_set():
                batch = next(self._pipeline)
                counts = self._count(batch, self._pipeline.row_tokens)
                with jax.transfer_guard_host_to_device("disallow"):  # but for batches, which are placed explicitly
                    placed = self._place(batch)
                self._put(Fed(placed, counts, dict(self._pipeline.get_state())))
        except BaseException as error:  # handed to the consumer, StopIteration too
            self._put(error)

    def _put(self, item: Fed | BaseException) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return
