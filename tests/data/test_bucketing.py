"""Shapes that hold everything and waste little; batches that lose nothing."""

import itertools

import numpy as np
import pytest

from jaxformer.data.bucketing import Shape, assignment, choose_shapes, histogram, plan_buckets


def lengths(number: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    source = np.clip(rng.gamma(6, 2.5, number).astype(np.int32) + 1, 1, 60)
    target = np.clip(source + rng.integers(-4, 6, number), 1, 60).astype(np.int32)
    return source, target


def test_the_histogram_counts_and_grows() -> None:
    first = histogram(np.array([1, 1, 2]), np.array([3, 3, 1]))
    assert first.shape == (3, 4)
    assert (first[1, 3], first[2, 1], first.sum()) == (2, 1, 3)
    both = histogram(np.array([4]), np.array([1]), first)
    assert (both[1, 3], both[2, 1], both[4, 1], both.sum()) == (2, 1, 1, 4)


@pytest.mark.parametrize(("num_shapes", "divisor"), [(1, 1), (4, 8), (8, 3), (100, 1)])
def test_shapes_hold_every_record_within_the_tokens(num_shapes: int, divisor: int) -> None:
    source, target = lengths()
    counts = histogram(source, target)
    shapes = choose_shapes(counts, num_shapes=num_shapes, batch_tokens=1024, divisor=divisor)
    assert len(shapes) <= num_shapes
    assert all(shape.rows * max(shape[1:]) <= 1024 and shape.rows % divisor == 0 and shape.rows for shape in shapes)
    number = assignment(shapes, counts)[source, target]
    chosen = np.array(shapes)[number]
    assert (source <= chosen[:, 1]).all()
    assert (target <= chosen[:, 2]).all()
    for s, t, n in list(zip(source, target, number, strict=True))[:300]:  # the cheapest that fits
        fitting = [shape.row_slots for shape in shapes if shape.source_length >= s and shape.target_length >= t]
        assert shapes[n].row_slots == min(fitting)


def test_shapes_are_near_the_best_there_are() -> None:
    """Against all pairs and triples of widths, on a corpus small enough to try them."""
    rng = np.random.default_rng(1)
    source = rng.integers(2, 9, 200)
    target = np.clip(source + rng.integers(-2, 3, 200), 1, 10)
    counts = histogram(source, target)
    boxes = list(itertools.product(range(2, 9), range(1, 11)))

    def slots(chosen: list[tuple[int, int]]) -> float:
        records = zip(source, target, strict=True)
        costs = [[a + b if s <= a and t <= b else np.inf for a, b in chosen] for s, t in records]
        return sum(map(min, costs))

    found = slots([shape[1:] for shape in choose_shapes(counts, num_shapes=2, batch_tokens=100)])
    assert found == min(slots(list(two)) for two in itertools.combinations(boxes, 2))


def test_one_length_needs_one_shape() -> None:
    counts = histogram(np.full(50, 7), np.full(50, 9))
    assert choose_shapes(counts, num_shapes=8, batch_tokens=100, divisor=2) == [Shape(10, 7, 9)]


def test_rows_are_no_more_than_asked_for_whatever_their_length() -> None:
    source, target = lengths(3000)
    counts = histogram(source, target)
    free = choose_shapes(counts, num_shapes=6, batch_tokens=2048, divisor=4)
    few = choose_shapes(counts, num_shapes=6, batch_tokens=2048, batch_rows=42, divisor=4)
    assert [shape[1:] for shape in few] == [shape[1:] for shape in free]
    assert [shape.rows for shape in few] == [min(shape.rows, 40) for shape in free]
    assert len({shape.rows for shape in few}) < len({shape.rows for shape in free})
    with pytest.raises(ValueError, match=r"batch_rows=3 is less than a row for each device and micro-batch \(4\): set"):
        choose_shapes(counts, num_shapes=6, batch_tokens=2048, batch_rows=3, divisor=4)


def test_tokens_that_do_not_hold_the_rows_are_refused_with_numbers() -> None:
    counts = histogram(np.array([60]), np.array([50]))
    with pytest.raises(ValueError, match=r"batch_tokens=400 does not hold 8 rows of 60.* to 480 or more.* to 50 or"):
        choose_shapes(counts, num_shapes=2, batch_tokens=400, divisor=8)


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("number", [1, 7, 3000])
def test_every_record_comes_once_in_a_batch_that_holds_it(number: int, shuffled: bool) -> None:
    source, target = lengths(number)
    counts = histogram(source, target)
    shapes = choose_shapes(counts, num_shapes=6, batch_tokens=1024, divisor=4)
    order = np.random.default_rng(2).permutation(number)
    shape_of = assignment(shapes, counts)[source[order], target[order]]
    plan = plan_buckets(order, shape_of, shapes, shuffle=np.random.default_rng(3) if shuffled else None)
    assert sorted(plan.records) == list(range(number))
    for i, kind in enumerate(plan.shapes):
        part = slice(plan.starts[i], plan.starts[i + 1])
        assert plan.rows[part].tolist() == list(range(part.stop - part.start))
        assert 0 < part.stop - part.start <= shapes[kind].rows
        assert source[plan.records[part]].max() <= shapes[kind].source_length
        assert target[plan.records[part]].max() <= shapes[kind].target_length
    # Whole batches of one shape but for one at most.
    short = [kind for i, kind in enumerate(plan.shapes) if plan.starts[i + 1] - plan.starts[i] < shapes[kind].rows]
    assert len(short) == len(set(short))


def test_the_rest_of_a_group_goes_where_it_wastes_less() -> None:
    shapes = [Shape(10, 5, 5), Shape(5, 10, 10)]
    few = plan_buckets(np.arange(17), np.array([0] * 12 + [1] * 5), shapes, shuffle=None)
    assert few.shapes.tolist() == [0, 1, 1]  # 2 of 10 move on: 20 slots wasted, not 80
    many = plan_buckets(np.arange(24), np.array([0] * 19 + [1] * 5), shapes, shuffle=None)
    assert many.shapes.tolist() == [0, 0, 1]  # 9 of 10 stay: 10 slots wasted, not 90
    assert many.starts.tolist() == [0, 10, 19, 24]
