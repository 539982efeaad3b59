"""The axes of a sweep's picture: where values lie, and which of them are written down."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import colormaps

from jaxformer.training.sweep import picture
from jaxformer.training.sweep.outcomes import FINAL, Results
from jaxformer.training.sweep.picture import Scale


def test_numbers_lie_by_size_and_by_their_logarithm_over_a_decade():
    assert [Scale([1, 2, 5]).height(value) for value in (1, 2, 5)] == pytest.approx([0, 0.25, 1])
    assert [Scale([0.001, 0.01, 0.1]).height(value) for value in (0.001, 0.01, 0.1)] == pytest.approx([0, 0.5, 1])
    assert [Scale(["adam", "sgd", "lion"]).height(value) for value in ("adam", "sgd", "lion")] == [0, 0.5, 1]
    assert Scale([7]).height(7) == 0.5


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([], []),
        ([7], [7]),
        ([0.5, 0.51, 0.512, 1.5], [0.5, 1.5]),  # the two between would lie on the lower end, or beside it
        ([0.0, 0.5, 0.51, 1.0], [0.0, 0.5, 1.0]),
        ([0.0, 0.98, 1.0], [0.0, 1.0]),
        (list(range(10)), [0, 1, 3, 4, 5, 6, 8, 9]),
        (["sgd", "adam"], ["sgd", "adam"]),
    ],
)
def test_values_are_written_down_where_none_covers_another(values, written):
    assert Scale(values).ticks() == written


@pytest.mark.parametrize(("lower", "best"), [(True, 1.0), (False, 3.0)])
def test_the_best_trial_has_the_bright_end_of_the_palette(lower, best):
    trials = [SimpleNamespace(state="finished", final=score) for score in (1.0, 2.0, 3.0)]
    results = Results("validation/x", lower, FINAL, trials, [])
    brightness = {trial.final: np.mean(picture._colour(results, trial)[:3]) for trial in trials}
    assert sorted(brightness, key=brightness.get) == ([3.0, 2.0, 1.0] if lower else [1.0, 2.0, 3.0])
    assert picture._colour(results, trials[int(best) - 1]) == colormaps["viridis"](0.9)
    assert picture._colour(results, SimpleNamespace(state="failed", final=None)) == "#BBBBBB"
