"""Rows that hold several pairs: all of them, none too long, hardly a slot empty."""

import numpy as np
import pytest

from jaxformer.config import DataConfig
from jaxformer.data.bucketing import Shape, histogram
from jaxformer.data.packing import pack_shape, plan_packing
from tests.data.test_bucketing import lengths


def config(**fields: object) -> DataConfig:
    return DataConfig(**{"batching": "pack", "max_length": 64, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("number", [1, 7, 3000])
def test_every_record_comes_once_and_rows_hold_their_records(number: int, shuffled: bool) -> None:
    source, target = lengths(number)
    shape = Shape(4, 72, 64)
    order = np.random.default_rng(2).permutation(number)
    shuffle = np.random.default_rng(3) if shuffled else None
    plan = plan_packing(order, source[order], target[order], shape, shuffle=shuffle)
    assert sorted(plan.records) == list(range(number))
    for i in range(len(plan)):
        part = slice(plan.starts[i], plan.starts[i + 1])
        rows = plan.rows[part]
        assert (np.diff(rows) >= 0).all()
        assert rows[0] >= 0
        assert rows[-1] < shape.rows
        assert np.bincount(rows, source[plan.records[part]]).max() <= shape.source_length
        assert np.bincount(rows, target[plan.records[part]]).max() <= shape.target_length
        assert len(set(rows.tolist())) == shape.rows or i == len(plan) - 1


def test_rows_are_nearly_full() -> None:
    source, target = lengths(20_000)
    shape = pack_shape(histogram(source, target), config(pack_length=128), 1)
    plan = plan_packing(np.arange(20_000), source, target, shape, shuffle=None)
    slots = len(plan) * shape.rows * shape.row_slots
    assert (source.sum() + target.sum()) / slots >= 0.97


def test_equal_lengths_pack_exactly() -> None:
    lengths_8 = np.full(64, 8)
    plan = plan_packing(np.arange(64), lengths_8, lengths_8, Shape(2, 32, 32), shuffle=None)
    assert len(plan) == 8
    assert np.diff(plan.starts).tolist() == [8] * 8


def test_the_order_of_records_decides_who_meets_whom() -> None:
    source, target = lengths(5000)
    orders = [np.random.default_rng(seed).permutation(5000) for seed in (0, 1)]
    plans = [plan_packing(o, source[o], target[o], Shape(4, 64, 64), shuffle=None) for o in orders]
    np.testing.assert_array_equal(plans[0].rows, plans[1].rows)
    assert (plans[0].records != plans[1].records).mean() > 0.9


def test_the_cost_depends_on_lengths_not_records() -> None:
    """A hundred times the records with the same distribution compose about as many kinds of rows."""
    from jaxformer.data.packing import _fill

    source, target = lengths(2000)
    counts = histogram(source, target)
    few = _fill(counts, Shape(1, 64, 64), 65, 400)
    many = _fill(counts * 100, Shape(1, 64, 64), 65, 40_000)
    assert sum(n for n, _ in many) == pytest.approx(100 * sum(n for n, _ in few), rel=0.05)
    assert len(many) < 3 * len(few)


def test_the_side_with_fewer_tokens_gets_shorter_rows() -> None:
    source, target = np.full(1000, 10), np.full(1000, 20)
    assert pack_shape(histogram(source, target), config(pack_length=128), 2) == Shape(32, 64, 128)
    assert pack_shape(histogram(target, source), config(pack_length=128), 2) == Shape(32, 128, 64)
    one_long = np.append(source, 64)
    assert pack_shape(histogram(one_long, np.append(target, 64)), config(pack_length=128), 2) == Shape(32, 68, 128)


@pytest.mark.parametrize(
    ("batch_tokens", "divisor", "nearest"), [(4000, 1, "3968 or 4096"), (4096, 3, "3840 or 4224"), (128, 4, "512")]
)
def test_tokens_that_do_not_divide_are_refused_with_the_nearest(batch_tokens: int, divisor: int, nearest: str) -> None:
    counts = histogram(np.array([10]), np.array([10]))
    with pytest.raises(ValueError, match=rf"batch_tokens={batch_tokens} does not divide.* to {nearest}$"):
        pack_shape(counts, config(batch_tokens=batch_tokens, pack_length=128), divisor)
