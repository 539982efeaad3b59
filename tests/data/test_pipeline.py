"""Batches hold what the plan says, whoever reads them, and come again after any interruption."""

import itertools
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxformer.config import DataConfig
from jaxformer.data import batching
from jaxformer.data.bucketing import Shape
from jaxformer.data.pipeline import BatchPipeline, evaluation_batches
from jaxformer.data.prepare import prepare, tokenize
from jaxformer.data.store import TokenizedDataset
from jaxformer.types import Batch
from tests.data.test_batching import config, dataset

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"


def equal(first: Batch, second: Batch) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


def stacked(parts: list[Batch]) -> Batch:
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def records(batch: Batch) -> list[int]:
    """The records of a batch of `dataset()`, whose tokens are their number + 10; checks that both sides agree."""
    found = []
    for side in (batch.source, batch.target):
        first = (side.positions == 0) & (side.weights == 1)
        found.append((side.tokens[first] - 10).tolist())
    assert found[0] == found[1]
    return found[0]


def test_a_packed_batch_by_hand() -> None:
    data = TokenizedDataset.from_lists([[5, 3], [6, 7, 3], [8, 3]], [[15, 16, 3], [17, 3], [3]])
    batch = data.assemble(np.array([1, 2, 0]), np.array([0, 0, 2]), Shape(3, 6, 4), 3)
    np.testing.assert_array_equal(batch.source.tokens, [[6, 7, 3, 8, 3, 0], [0] * 6, [5, 3, 0, 0, 0, 0]])
    np.testing.assert_array_equal(batch.source.positions, [[0, 1, 2, 0, 1, 0], [0] * 6, [0, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(batch.source.segment_ids, [[1, 1, 1, 2, 2, 0], [0] * 6, [1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(batch.source.weights, [[1, 1, 1, 1, 1, 0], [0] * 6, [1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(batch.target.tokens, [[17, 3, 3, 0], [0] * 4, [15, 16, 3, 0]])
    np.testing.assert_array_equal(batch.target.positions, [[0, 1, 0, 0], [0] * 4, [0, 1, 2, 0]])
    np.testing.assert_array_equal(batch.target.segment_ids, [[1, 1, 2, 0], [0] * 4, [1, 1, 1, 0]])
    dtypes = [leaf.dtype.name for leaf in jax.tree.leaves(batch.source)]
    assert dtypes == ["int32", "int32", "int32", "float32"]


def test_an_empty_share_is_all_padding() -> None:
    empty = np.zeros(0, np.int64)
    batch = dataset(3).assemble(empty, empty.astype(np.int32), Shape(4, 5, 6), 2)
    assert batch.source.tokens.shape == (2, 5)
    assert not batch.target.weights.any()


@pytest.mark.parametrize("kind", ["bucket", "pack"])
def test_an_epoch_holds_every_record_once_with_its_tokens(kind: str) -> None:
    data = dataset(500)
    with BatchPipeline(data, config(batching=kind), seed=3, divisor=2) as pipeline:
        epoch: list[Batch] = []
        for batch in pipeline:
            epoch.append(batch)
            if pipeline.get_state()["epoch"] or len(epoch) == pipeline.batches_per_epoch:
                break
        assert {batch.source.tokens.shape + batch.target.tokens.shape[1:] for batch in epoch} <= set(pipeline.shapes)
        assert all(batch.source.tokens.shape[0] % 2 == 0 for batch in epoch)
        seen = [record for batch in epoch for record in records(batch)]
        assert sorted(seen) == list(range(500))
        for side, lengths in (("source", data.source_lengths), ("target", data.target_lengths)):
            tokens = np.concatenate([getattr(batch, side).tokens.ravel() for batch in epoch])
            np.testing.assert_array_equal(np.bincount(tokens[tokens > 0] - 10, minlength=500), lengths)
        weight = sum(float(batch.source.weights.sum() + batch.target.weights.sum()) for batch in epoch)
        slots = sum(batch.source.tokens.size + batch.target.tokens.size for batch in epoch)
        assert pipeline.efficiency == pytest.approx(weight / slots)


@pytest.mark.parametrize("kind", ["bucket", "pack"])
@pytest.mark.parametrize("window", [1 << 18, 200])
def test_a_state_leads_back_to_its_batch(kind: str, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "_WINDOW", window)
    monkeypatch.setattr(batching, "_WINDOW_BATCHES", 1)
    monkeypatch.setattr(batching, "_BLOCK", 16)
    settings = config(batching=kind)
    with BatchPipeline(dataset(500), settings, seed=3) as pipeline:
        states, batches = [], []
        for _ in range(2 * pipeline.batches_per_epoch + 5):  # into the third epoch
            states.append(pipeline.get_state())
            batches.append(next(pipeline))
        assert states[0] == {"epoch": 0, "window": 0, "batch": 0}
        assert states[-1]["epoch"] >= 1
        assert all(isinstance(value, int) for value in states[-1].values())
        for i in (0, len(states) // 2, 7, len(states) - 2):
            pipeline.set_state(states[i])
            assert pipeline.get_state() == states[i]
            assert equal(next(pipeline), batches[i])
            assert equal(next(pipeline), batches[i + 1])
    with BatchPipeline(dataset(500), settings, seed=3) as later:  # another run
        later.set_state(states[-1])
        assert equal(next(later), batches[-1])


def test_the_seed_decides() -> None:
    def first(seed: int) -> Batch:
        with BatchPipeline(dataset(500), config(), seed=seed) as pipeline:
            return next(pipeline)

    assert equal(first(1), first(1))
    assert records(first(1)) != records(first(2))


def test_threads_and_prefetch_change_nothing() -> None:
    def some(**fields: int) -> list[Batch]:
        with BatchPipeline(dataset(300), config(**fields), seed=1) as pipeline:
            return [next(pipeline) for _ in range(40)]

    for first, second in zip(some(num_threads=1, prefetch=1), some(num_threads=8, prefetch=16), strict=True):
        assert equal(first, second)


@pytest.mark.parametrize("kind", ["bucket", "pack"])
def test_hosts_share_the_rows_of_the_same_batches(kind: str) -> None:
    settings = config(batching=kind)
    whole = BatchPipeline(dataset(500), settings, seed=3, divisor=4)
    hosts = [BatchPipeline(dataset(500), settings, seed=3, divisor=4, shard_index=i, shard_count=4) for i in range(4)]
    for _ in range(25):
        assert equal(stacked([next(host) for host in hosts]), next(whole))
    for pipeline in (whole, *hosts):
        pipeline.close()


def test_an_impossible_host_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shard_index=2 must be at least 0 and less than shard_count=2"):
        BatchPipeline(dataset(10), config(), seed=0, shard_index=2, shard_count=2)


def test_closing_ends_the_threads_and_the_batches() -> None:
    pipeline = BatchPipeline(dataset(500), config(prefetch=8), seed=0)
    next(pipeline)
    assert any(thread.name.startswith(("grain-prefetch", "plan-batches")) for thread in threading.enumerate())
    pipeline.close()
    pipeline.close()
    for thread in threading.enumerate():
        if thread.name.startswith(("grain-prefetch", "plan-batches")):
            thread.join(timeout=10)
            assert not thread.is_alive()
    with pytest.raises(ValueError, match=r"closed"):
        next(pipeline)


def test_errors_of_reading_reach_the_trainer() -> None:
    data = dataset(500)
    with BatchPipeline(data, config(), seed=0) as pipeline:
        assert next(pipeline).source.tokens.any()
        data.starts = data.starts[:0]  # as if the file were gone: the second epoch cannot be read
        with pytest.raises(IndexError):
            list(itertools.islice(pipeline, 100))


def test_epochs_read_the_variants_in_turn() -> None:
    variants = [TokenizedDataset.from_lists([[v + 5, 3]] * 40, [[v + 5, 3]] * 40) for v in range(3)]
    with BatchPipeline(variants, config(batch_tokens=64, max_length=16), seed=0) as pipeline:
        batches = list(itertools.islice(pipeline, 4 * pipeline.batches_per_epoch))
    first_tokens = [int(batch.source.tokens[0, 0]) for batch in batches]
    assert sorted(set(first_tokens)) == [5, 6, 7]
    assert first_tokens == [*sorted(first_tokens[:-2]), 5, 5]


@pytest.mark.parametrize(("number", "shards"), [(1, 1), (100, 1), (101, 2)])
def test_evaluation_batches_hold_every_record_once_in_fixed_shapes(number: int, shards: int) -> None:
    data = dataset(number)
    parts = [
        list(evaluation_batches(data, config(), divisor=2, shard_index=i, shard_count=shards)) for i in range(shards)
    ]
    batches = [stacked(list(rows)) for rows in zip(*parts, strict=True)]
    seen = [records(batch) for batch in batches]
    assert sorted(itertools.chain(*seen)) == list(range(number))
    assert len({batch.source.tokens.shape + batch.target.tokens.shape for batch in batches}) <= 4
    assert all(batch.source.tokens.shape[0] % 2 == 0 for batch in batches)
    again = list(evaluation_batches(data, config(), divisor=2))
    assert shards > 1 or all(equal(a, b) for a, b in zip(again, batches, strict=True))


@pytest.mark.data
@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"needs the real data in {REAL_DATA}")
@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({"batching": "bucket", "num_shapes": 16}, 0.90),
        ({"batching": "bucket", "num_shapes": 8}, 0.85),
        ({"batching": "pack", "max_length": 64, "pack_length": 64}, 0.95),
        ({"batching": "pack", "pack_length": 128}, 0.97),
    ],
)
def test_multi30k_is_batched_tightly(settings: dict, least: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = tmp_path_factory.getbasetemp() / "multi30k"
    data_config = DataConfig(path=str(REAL_DATA / "multi30k" / "raw"), cache_dir=str(cache), **settings)
    data = prepare(data_config)
    assert len(data.train) > 28_900
    assert (len(data.validation), len(data.test)) == (1014, 1000)
    with BatchPipeline(data.train, data_config, seed=0, divisor=4) as pipeline:
        assert pipeline.efficiency >= least
        batch = next(pipeline)
        assert max(batch.source.tokens.size, batch.target.tokens.size) <= data_config.batch_tokens
    held = evaluation_batches(tokenize(data.validation, data.tokenizer, max_length=128), data_config)
    assert sum(int(((b.target.positions == 0) & (b.target.weights == 1)).sum()) for b in held) == 1014


@pytest.mark.parametrize("kind", ["bucket", "pack"])
def test_every_host_knows_the_tokens_of_all_rows(kind: str) -> None:
    settings, shards = config(batching=kind), 4
    hosts = [BatchPipeline(dataset(500), settings, seed=3, shard_index=i, shard_count=shards) for i in range(shards)]
    for _ in range(hosts[0].batches_per_epoch):
        whole = stacked([next(host) for host in hosts])
        for host in hosts:
            for side, tokens in zip((whole.source, whole.target), host.row_tokens, strict=True):
                np.testing.assert_array_equal(np.count_nonzero(side.segment_ids, axis=1), tokens)
    for host in hosts:
        host.close()
