"""Epochs: every record once, in an order that (seed, epoch) decide, whatever the windows."""

import numpy as np
import pytest

from jaxformer.config import DataConfig
from jaxformer.data import batching
from jaxformer.data.batching import Planner, plan_epoch
from jaxformer.data.store import TokenizedDataset
from tests.data.test_bucketing import lengths


def dataset(number: int = 2000) -> TokenizedDataset:
    """Records whose every token is their number + 10: what a batch holds can be seen."""
    source, target = lengths(number)
    return TokenizedDataset.from_lists(
        [[i + 10] * int(n) for i, n in enumerate(source)], [[i + 10] * int(n) for i, n in enumerate(target)]
    )


def config(**fields: object) -> DataConfig:
    return DataConfig(**{"max_length": 64, "batch_tokens": 1024, "num_shapes": 6, **fields})  # type: ignore[arg-type]


@pytest.fixture(params=["bucket", "pack"])
def settings(request: pytest.FixtureRequest) -> DataConfig:
    return config(batching=request.param)


@pytest.fixture(params=[1 << 18, 700])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(batching, "_WINDOW", request.param)
    monkeypatch.setattr(batching, "_WINDOW_BATCHES", 1)
    monkeypatch.setattr(batching, "_BLOCK", 64)
    return request.param


def test_every_record_comes_exactly_once_an_epoch(settings: DataConfig, window: int) -> None:
    data = dataset()
    plan = plan_epoch(data, settings, seed=1, epoch=0, divisor=4)
    assert len(plan.windows) == (4 if window == 700 else 1)  # 32 blocks of 64, 10 a window
    batches = list(plan)
    assert len(batches) == len(plan)
    assert sorted(record for _, records, _ in batches for record in records) == list(range(2000))
    slots = sum(shape.rows * (shape.source_length + shape.target_length) for shape, _, _ in batches)
    tokens = int(data.source_lengths.sum() + data.target_lengths.sum())
    assert plan.efficiency == pytest.approx(tokens / slots)
    assert all(shape.rows % 4 == 0 for shape in plan.shapes)


def test_seed_and_epoch_decide_the_order(settings: DataConfig, window: int) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [int(r) for _, records, _ in plan_epoch(dataset(), settings, seed=seed, epoch=epoch) for r in records]

    first = order(1, 0)
    assert order(1, 0) == first
    for other in (order(1, 1), order(2, 0)):
        assert sum(a == b for a, b in zip(first, other, strict=True)) < 200


def test_batches_are_shuffled_among_lengths() -> None:
    """Shapes come in random order, not short to long: neighbours' sizes are uncorrelated."""
    kinds = plan_epoch(dataset(5000), config(), seed=0, epoch=0).windows[0].shapes.astype(float)
    assert len(kinds) > 60
    assert abs(np.corrcoef(kinds[:-1], kinds[1:])[0, 1]) < 0.4


def test_variants_take_turns_and_share_their_shapes() -> None:
    plain, longer = dataset(300), TokenizedDataset.from_lists([[7] * 40] * 300, [[7] * 45] * 300)
    planner = Planner([plain, longer], config(), seed=0)
    assert [planner.dataset(epoch) is plain for epoch in range(4)] == [True, False, True, False]
    for epoch in range(2):
        window = planner.window(epoch, 0)
        plan = window.plan
        assert window.numbers.tolist() == list(range(300))
        assert sorted(plan.records) == list(range(300))
        for i, kind in enumerate(plan.shapes):
            records = plan.records[plan.starts[i] : plan.starts[i + 1]]
            assert window.data.source_lengths[records].max() <= planner.shapes[kind].source_length


def test_a_sentence_longer_than_a_row_is_refused_by_number(settings: DataConfig) -> None:
    data = TokenizedDataset.from_lists([[5] * 3, [5] * 3, [5] * 3], [[5], [5], [5] * 65])
    with pytest.raises(ValueError, match=r"record 2 has 65 tokens, more than a row of 64: raise --config.data"):
        Planner([data], settings, seed=0)


def test_no_records_are_refused(settings: DataConfig) -> None:
    with pytest.raises(ValueError, match=r"no records"):
        Planner([TokenizedDataset.from_lists([], [])], settings, seed=0)


def test_a_window_holds_whole_blocks_in_a_shuffled_order(window: int) -> None:
    """Blocks of 64 stay in one window, so that reading touches few pages, but not together in it."""
    plan = plan_epoch(dataset(), config(), seed=1, epoch=0)
    owners = np.empty(2000, np.int64)
    for number, part in enumerate(plan.windows):
        owners[part.records] = number
    assert all(len(set(owners[start : start + 64].tolist())) == 1 for start in range(0, 2000, 64))
    neighbours = [abs(np.diff(part.records)) == 1 for part in plan.windows]
    assert np.concatenate(neighbours).mean() < 0.05
    if window == 700:
        other = plan_epoch(dataset(), config(), seed=1, epoch=1)
        assert set(other.windows[0].records.tolist()) != set(plan.windows[0].records.tolist())


def test_with_a_multiple_of_rows_meshes_that_divide_it_have_the_same_batches() -> None:
    free, eights = ([Planner([dataset()], config(row_multiple=multiple), seed=0, divisor=divisor).shapes
                     for divisor in (1, 2, 4, 8)] for multiple in (1, 8))  # fmt: skip
    assert free[0] != free[-1], "otherwise there is nothing to prove"
    assert all(shapes == eights[0] for shapes in eights)
    assert all(shape.rows % 8 == 0 for shape in eights[0])


@pytest.mark.parametrize(
    ("divisor", "length_divisor", "message"),
    [
        (3, 1, r"have 16 rows, which do not divide into 3 \(mesh\.data x mesh\.fsdp x memory\.accumulate\): choose"),
        (3, 1, r"--config\.mesh\.fsdp and --config\.memory\.accumulate whose product divides 16, and a"),
        (1, 5, r"are 64 tokens long, which do not divide into 5 \(mesh\.context\)"),
        (1, 5, r"a --config\.mesh\.context that divides 64"),
        (1, 5, r"; or leave the choice to --config\.mesh=auto"),
    ],
)
def test_a_run_continues_on_devices_over_which_its_batches_divide(
    divisor: int, length_divisor: int, message: str
) -> None:
    packed = config(batching="pack")
    shapes = Planner([dataset()], packed, seed=0).shapes
    assert Planner([dataset()], packed, seed=0, divisor=8, length_divisor=2, shapes=shapes).shapes == shapes
    with pytest.raises(ValueError, match=message):
        Planner([dataset()], packed, seed=0, divisor=divisor, length_divisor=length_divisor, shapes=shapes)


def test_packed_rows_that_do_not_divide_over_the_devices_are_refused_with_what_would() -> None:
    with pytest.raises(ValueError, match=r"batch_tokens=1024 .* in multiples of 3 .* to 960 or 1152"):
        Planner([dataset()], config(batching="pack"), seed=0, divisor=3)
