"""Which checkpoints stay, by their steps and scores alone."""

from __future__ import annotations

from jaxformer.training.retention import Retention, best_of, lower_is_better, regular_steps


def test_regular_steps_are_multiples_of_the_period_and_the_last():
    assert regular_steps([10, 13, 20, 25], 10) == [10, 20, 25]
    assert regular_steps([10, 13, 20, 25], 0) == [25]


def test_the_best_loss_is_the_lowest_and_ties_go_to_the_earliest():
    assert lower_is_better("validation/loss")
    assert not lower_is_better("validation/bleu")
    assert best_of({10: 2.0, 20: 1.0, 30: 1.0}, "validation/loss") == 20
    assert best_of({10: 2.0, 20: 3.0, 30: 3.0}, "validation/bleu") == 20
    assert best_of({10: float("nan"), 20: 3.0, 30: float("inf")}, "validation/loss") == 20


def test_the_newest_the_regular_and_the_best_stay():
    retention = Retention(keep=2, average=2, period=10, best_metric="validation/bleu")
    for step, bleu in ((10, 30.0), (20, 20.0), (25, 25.0)):
        retention.note(step, {"validation/bleu": bleu, "validation/loss": 0.0})
    assert retention.staying([10, 13, 20, 25, 30, 31, 34]) == {10, 30, 31, 34}  # 34, the last, counts as regular
    assert retention.best([13, 20, 25]) == [25]
    assert retention.best([13, 31]) == []


def test_without_averaging_and_without_scores_the_newest_stay_alone():
    retention = Retention(keep=2, average=1, period=10, best_metric="validation/bleu")
    retention.note(10, {"validation/loss": 1.0})
    assert retention.staying([10, 20, 31]) == {20, 31}
