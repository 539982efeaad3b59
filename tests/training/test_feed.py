"""The feed: order, the state that travels with each batch, errors, and a clean end."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from jaxformer.training.feed import DeviceFeed
from jaxformer.types import Batch, Sequences


def _sequences(value: int, real: int, length: int) -> Sequences:
    segments = np.zeros((1, length), np.int32)
    segments[0, :real] = 1
    return Sequences(np.full((1, length), value, np.int32), segments, segments, segments.astype(np.float32))


class Counter:
    """Batch i holds the token i; fails at batch `fails_at`. Its state is one dictionary, that it changes."""

    def __init__(self, end: int = 10**9, fails_at: int = -1) -> None:
        self.next, self.end, self.fails_at, self.closed = 0, end, fails_at, 0
        self.state: dict[str, int] = {}

    def __next__(self) -> Batch:
        if self.next == self.end:
            raise StopIteration
        if self.next == self.fails_at:
            raise ValueError(f"batch {self.next} is broken")
        self.next += 1
        self.row_tokens = np.array([[3, 4], [2, 1]])  # another host has the second row
        return Batch(_sequences(self.next - 1, 3, 5), _sequences(self.next - 1, 2, 4))

    def get_state(self) -> dict[str, int]:
        self.state["index"] = self.next
        return self.state

    def set_state(self, state: dict[str, int]) -> None:
        self.next = state["index"]

    def close(self) -> None:
        self.closed += 1


def test_batches_come_in_order_with_the_state_after_each():
    with DeviceFeed(Counter(), lambda batch: batch, depth=3) as feed:
        for index in range(20):
            fed = next(feed)
            assert int(fed.batch.source.tokens[0, 0]) == index
            assert fed.iterator == {"index": index + 1}, "the state must not be ahead of the batch it came with"
            assert fed.counts == {"source_tokens": 7, "target_tokens": 3, "slots": 18}, "of both hosts together"


def test_the_thread_runs_ahead_by_the_depth_and_no_further():
    counter = Counter()
    with DeviceFeed(counter, lambda batch: batch, depth=2) as feed:
        next(feed)
        deadline = time.monotonic() + 5
        while counter.next < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert counter.next == 4, "one used, two waiting, one in the thread's hand"


def test_an_error_arrives_at_its_own_batch_and_stays():
    with DeviceFeed(Counter(fails_at=2), lambda batch: batch) as feed:
        next(feed), next(feed)
        for _ in range(2):
            with pytest.raises(ValueError, match="batch 2 is broken"):
                next(feed)


def test_the_end_of_the_pipeline_is_the_end_of_the_feed():
    with DeviceFeed(Counter(end=3), lambda batch: batch) as feed:
        assert [int(fed.batch.source.tokens[0, 0]) for fed in feed] == [0, 1, 2]


def test_close_stops_a_full_feed_and_its_pipeline_once():
    counter = Counter()
    feed = DeviceFeed(counter, lambda batch: batch, depth=1)
    next(feed)
    time.sleep(0.05)
    feed.close()
    feed.close()
    assert counter.closed == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "device-feed"]
    with pytest.raises(RuntimeError, match="closed"):
        next(feed)
