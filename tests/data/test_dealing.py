"""Rows are dealt evenly to every power of two of blocks at once, and nothing but their order changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import experiments
from jaxformer.config import Config, replace
from jaxformer.data.batching import Planner, Window
from jaxformer.data.bucketing import Shape
from jaxformer.data.dealing import deal, even_order, imbalance
from jaxformer.data.packing import plan_packing
from jaxformer.data.prepare import PreparedData, prepare
from tests.data.test_bucketing import lengths


def test_an_order_by_hand() -> None:
    # 7 with 0 and 5 with 2 make pairs of 7; these two make the first half of 14, and so do 6, 1, 4 and 3.
    sizes = np.array([[0, 1, 2, 3, 4, 5, 6, 7]])
    order = even_order(sizes)
    dealt = sizes[0, order[0]]
    assert dealt.reshape(4, 2).sum(axis=1).tolist() == [7, 7, 7, 7]
    assert dealt.reshape(2, 4).sum(axis=1).tolist() == [14, 14]


def test_imbalance_by_hand() -> None:
    assert imbalance(np.array([1, 2, 3, 4, 5, 5]), 3).tolist() == pytest.approx(10 / (20 / 3) - 1)
    assert imbalance(np.array([[2, 2], [3, 1]]), 2).tolist() == [0.0, 0.5]
    assert imbalance(np.array([3, 1]), 1) == 0.0


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 12, 25, 96, 200, 256])
def test_it_is_an_order_and_as_even_as_rows_allow(rows: int) -> None:
    sizes = np.random.default_rng(rows).integers(80, 128, (50, rows))
    order = even_order(sizes)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(rows), (50, 1)))
    dealt = np.take_along_axis(sizes, order, axis=1)
    parts = 2
    while rows % parts == 0 and rows // parts >= 8:
        blocks = dealt.reshape(50, parts, -1).sum(axis=2)
        # Far below the 47 by which two rows may differ, and the sqrt(8) times as much of blocks of eight by chance.
        assert (blocks.max(axis=1) - blocks.min(axis=1)).max() <= 6, parts
        parts *= 2


@pytest.mark.parametrize(("rows", "parts"), [(96, 3), (200, 5), (200, 10), (200, 25), (96, 12), (400, 50)])
def test_other_numbers_of_parts_come_out_nearly_as_even(rows: int, parts: int) -> None:
    sizes = np.random.default_rng(rows).integers(80, 128, (50, rows))
    dealt = np.take_along_axis(sizes, even_order(sizes), axis=1)
    assert imbalance(dealt, parts).mean() < 0.6 * imbalance(sizes, parts).mean()


def test_a_batch_with_few_rows_is_dealt_as_well() -> None:
    sizes = np.array([[100, 100, 100, 100, 0, 0, 0, 0]])
    dealt = sizes[0, even_order(sizes)[0]]
    assert dealt.reshape(4, 2).sum(axis=1).tolist() == [100] * 4


def test_records_keep_their_batch_and_their_row_mates() -> None:
    source, target = lengths(3000)
    shape = Shape(24, 72, 64)
    order = np.random.default_rng(0).permutation(3000)
    plan = plan_packing(order, source[order], target[order], shape, shuffle=np.random.default_rng(1))
    dealt = deal(plan, source + target, [shape])
    assert dealt.starts.tolist() == plan.starts.tolist()
    moved = 0
    for i in range(len(plan)):
        part = slice(plan.starts[i], plan.starts[i + 1])
        assert (np.diff(dealt.rows[part]) >= 0).all()

        def contents(of, part=part):
            rows, records = of.rows[part], of.records[part]
            return [tuple(records[rows == row].tolist()) for row in range(shape.rows)]

        assert sorted(contents(plan)) == sorted(contents(dealt))
        moved += contents(plan) != contents(dealt)
    assert moved >= len(plan) - 1


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """A fifth of the bundled corpus, as `wmt:bundled` prepares it."""
    config = experiments.find("wmt").config("bundled")
    folder = str(tmp_path_factory.mktemp("cache"))
    return prepare(replace(config, {"data": {"cache_dir": folder, "num_examples": 20_000}}).data)


def epoch(corpus: PreparedData, parts: int, **fields: object) -> np.ndarray:
    """Imbalances of the batches of an epoch over so many devices; the last batch, of what was left over, is last."""
    config = experiments.find("wmt").config("bundled")
    data = dataclasses.replace(config.data, **fields)  # type: ignore[arg-type]
    planner = Planner(corpus.variants, data, seed=0, divisor=parts)
    assert planner.num_windows == 1
    return planner.window(0, 0).imbalances(planner.shapes, parts)


@pytest.mark.parametrize(
    ("batch_tokens", "pack_length"),
    [(2048, 64), (8192, 64), (25600, 128)],
    ids=["32 rows, as wmt:bundled", "128 rows", "200 rows, as wmt:base"],
)
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_the_bundled_corpus_packed_is_even(
    corpus: PreparedData, parts: int, batch_tokens: int, pack_length: int
) -> None:
    found = epoch(corpus, parts, batch_tokens=batch_tokens, pack_length=pack_length)
    assert found.mean() <= 0.03
    # Every batch but the one that holds what the epoch left over, which may have fewer rows than there are devices.
    assert np.sort(found)[:-1].max() <= 0.03


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_the_bundled_corpus_in_buckets_is_even(corpus: PreparedData, parts: int) -> None:
    found = epoch(corpus, parts, batching="bucket", batch_tokens=2048)
    assert found.mean() <= 0.03


def test_the_order_does_not_depend_on_the_devices() -> None:
    from jaxformer.data.store import TokenizedDataset

    source, target = lengths(2000)
    data = TokenizedDataset.from_lists([[5] * n for n in source], [[5] * n for n in target])
    config = replace(Config(), {"data": {"batching": "pack", "max_length": 64, "batch_tokens": 2048}}).data

    def window(divisor: int) -> Window:
        return Planner([data], config, seed=1, divisor=divisor).window(0, 0)

    one, eight = window(1), window(8)
    np.testing.assert_array_equal(one.plan.records, eight.plan.records)
    np.testing.assert_array_equal(one.plan.rows, eight.plan.rows)
