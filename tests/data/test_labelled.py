"""Labelled records: batches by hand, the pipeline's guarantees, files, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from jaxformer.config import DataConfig
from jaxformer.data.bucketing import Shape
from jaxformer.data.labelled import LabelledDataset, Labels, class_counts
from jaxformer.data.pipeline import BatchPipeline, evaluation_batches

CONFIG = DataConfig(max_length=9, batch_tokens=64, num_shapes=3, num_threads=1)


def by_hand() -> LabelledDataset:
    labels = {
        "tag": Labels.positions(np.array([1, 2, 3, 4, 5, 6]), np.array([1, 0, 1, 1, 1, 1])),
        "class": Labels.records(np.array([7, 8, 9]), np.array([1, 1, 0])),
    }
    return LabelledDataset.from_lists([[4, 5], [6], [7, 8, 9]], labels)


def random_set(number: int = 500) -> LabelledDataset:
    """The class of a record is its first token, the tag of a position its token."""
    random = np.random.default_rng(0)
    rows = [random.integers(4, 50, random.integers(1, 10)) for _ in range(number)]
    first = Labels.records(np.array([row[0] for row in rows]))
    return LabelledDataset.from_lists(rows, {"tag": Labels.positions(np.concatenate(rows)), "class": first})


def test_a_batch_by_hand() -> None:
    batch = by_hand().assemble(np.array([2, 0]), np.array([0, 2]), Shape(3, 4, 0), 3)
    np.testing.assert_array_equal(batch.inputs.tokens, [[7, 8, 9, 0], [0] * 4, [4, 5, 0, 0]])
    np.testing.assert_array_equal(batch.inputs.positions, [[0, 1, 2, 0], [0] * 4, [0, 1, 0, 0]])
    np.testing.assert_array_equal(batch.inputs.segment_ids, [[1, 1, 1, 0], [0] * 4, [1, 1, 0, 0]])
    np.testing.assert_array_equal(batch.labels["tag"].values, [[4, 5, 6, 0], [0] * 4, [1, 2, 0, 0]])
    np.testing.assert_array_equal(batch.labels["tag"].weights, [[1, 1, 1, 0], [0] * 4, [1, 0, 0, 0]])
    np.testing.assert_array_equal(batch.labels["class"].values, [[9], [0], [7]])
    np.testing.assert_array_equal(batch.labels["class"].weights, [[0], [0], [1]])
    assert batch.labels["class"].values.dtype == np.int32


def test_packed_records_keep_their_labels_and_positions() -> None:
    records = LabelledDataset.from_lists([[4, 5], [6], [7, 8, 9]], {"tag": by_hand().labels["tag"]})
    batch = records.assemble(np.array([1, 2]), np.array([0, 0]), Shape(1, 5, 0), 1)
    np.testing.assert_array_equal(batch.inputs.tokens, [[6, 7, 8, 9, 0]])
    np.testing.assert_array_equal(batch.inputs.segment_ids, [[1, 2, 2, 2, 0]])
    np.testing.assert_array_equal(batch.inputs.positions, [[0, 0, 1, 2, 0]])
    np.testing.assert_array_equal(batch.labels["tag"].values, [[3, 4, 5, 6, 0]])


def test_numbers_and_forecasts() -> None:
    values = np.arange(12, dtype=np.float64).reshape(6, 2)
    labels = {"next": Labels.records(np.arange(9.0).reshape(3, 3), np.tri(3))}
    records = LabelledDataset(values, np.array([2, 2, 2]), labels)
    batch = records.assemble(np.array([1]), np.array([0]), Shape(2, 2, 0), 2)
    np.testing.assert_array_equal(batch.inputs.values, [[[4, 5], [6, 7]], [[0, 0], [0, 0]]])
    assert batch.inputs.values.dtype == np.float32
    np.testing.assert_array_equal(batch.labels["next"].values, [[3, 4, 5], [0, 0, 0]])
    np.testing.assert_array_equal(batch.labels["next"].weights, [[1, 1, 0], [0, 0, 0]])


def test_an_epoch_holds_every_record_once_with_its_own_labels() -> None:
    records = random_set()
    with BatchPipeline(records, CONFIG, seed=3) as pipeline:
        seen = []
        for _ in range(pipeline.batches_per_epoch):
            batch = next(pipeline)
            real = batch.inputs.segment_ids > 0
            np.testing.assert_array_equal(batch.labels["tag"].values, batch.inputs.tokens)
            np.testing.assert_array_equal(batch.labels["tag"].weights, real)
            np.testing.assert_array_equal(batch.labels["class"].values[:, 0], batch.inputs.tokens[:, 0])
            seen += [tuple(row[own]) for row, own in zip(batch.inputs.tokens, real, strict=True) if own.any()]
            assert pipeline.row_tokens[0].sum() == real.sum()
            assert not pipeline.row_tokens[1].any()
        assert pipeline.get_state()["epoch"] == 0
    rows = np.split(records.inputs, np.cumsum(records.lengths)[:-1])
    assert sorted(seen) == sorted(tuple(row) for row in rows)
    assert pipeline.efficiency > 0.8


def test_batches_are_a_function_of_seed_and_place_and_hosts_share_them() -> None:
    records = random_set()

    def batches(seed: int, count: int, **share: int) -> list[np.ndarray]:
        with BatchPipeline(records, CONFIG, seed=seed, **share) as pipeline:
            return [next(pipeline).inputs.tokens for _ in range(count)]

    with BatchPipeline(records, CONFIG, seed=5) as pipeline:
        for _ in range(7):
            next(pipeline)
        state = pipeline.get_state()
        after = next(pipeline).inputs.tokens
    with BatchPipeline(records, CONFIG, seed=5) as pipeline:
        pipeline.set_state(state)
        np.testing.assert_array_equal(next(pipeline).inputs.tokens, after)
    assert not np.array_equal(batches(5, 1)[0], batches(6, 1)[0])
    whole = batches(5, 3, divisor=2)
    halves = [batches(5, 3, shard_index=index, shard_count=2) for index in (0, 1)]
    for number, batch in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([half[number] for half in halves]), batch)


def test_evaluation_sees_every_record_once() -> None:
    records = random_set(77)
    batches = list(evaluation_batches(records, CONFIG))
    assert sum(int(batch.labels["class"].weights.sum()) for batch in batches) == 77
    assert sum(int(batch.labels["tag"].weights.sum()) for batch in batches) == len(records.inputs)


def test_a_set_comes_back_from_its_files(tmp_path) -> None:
    records = random_set(20)
    records.save(tmp_path / "set")
    again = LabelledDataset.open(tmp_path / "set")
    assert isinstance(again.inputs, np.memmap)
    assert again.checksum() == records.checksum()
    one, other = (x.take(np.array([3, 1])) for x in (records, again))
    np.testing.assert_array_equal(one.inputs, other.inputs)
    np.testing.assert_array_equal(one.labels["class"].values, other.labels["class"].values)


def test_the_checksum_sees_labels() -> None:
    records = random_set(20)
    changed = {**records.labels, "class": Labels.records(records.labels["class"].values[::-1].copy())}
    other = LabelledDataset(records.inputs, records.lengths, changed)
    assert records.checksum()[0] == other.checksum()[0] == 20
    assert records.checksum() != other.checksum()


def test_classes_are_counted_by_weight() -> None:
    labels = Labels.positions(np.array([0, 1, 1, -100, 2]), np.array([1, 1, 0.5, 0, 1]))
    assert class_counts([labels, labels], 4).tolist() == [2.0, 3.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LabelledDataset(np.zeros(3), np.array([2]), {}), "1 records have 2 positions .* there are 3 inputs"),
        (lambda: LabelledDataset(np.zeros(2), np.array([2, 0]), {}), "record 1 has no position"),
        (
            lambda: LabelledDataset(np.zeros(2), np.array([2]), {"a": Labels.positions(np.zeros(3))}),
            "2 positions have 3 labels of 'a'",
        ),
        (
            lambda: LabelledDataset(np.zeros(2), np.array([2]), {"a": Labels.records(np.zeros(3))}),
            "1 records have 3 labels of 'a'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
