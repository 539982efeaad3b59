"""Scores of numbers, quantiles and movements, and baselines: against scikit-learn and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from jaxformer.data.series.datasets import series_windows, slices
from jaxformer.data.series.multivariate import read_series
from jaxformer.data.series.splitting import split_rows
from jaxformer.data.series.standardize import Standardizer
from jaxformer.data.series.windows import Patching
from jaxformer.evaluation.baselines import LinearClassifier, LinearForecast, repeat_last, repeat_season
from jaxformer.evaluation.forecasting import (
    coverage,
    estimate,
    mean_absolute_error,
    mean_squared_error,
    pinball_loss,
)
from jaxformer.evaluation.movement import daily_error, hit_rates

ETT = Path(__file__).parents[3] / "shared" / "data" / "ett" / "ETTh1.csv"


@pytest.fixture
def numbers():
    random = np.random.default_rng(0)
    return random.normal(size=(30, 4)), random.normal(size=(30, 4)), random.integers(0, 3, (30, 4)).astype(float)


def test_errors_are_those_of_scikit_learn(numbers):
    metrics = pytest.importorskip("sklearn.metrics")
    forecast, actual, weights = numbers
    flat = [x.ravel() for x in numbers]
    for ours, theirs in (
        (mean_squared_error, metrics.mean_squared_error),
        (mean_absolute_error, metrics.mean_absolute_error),
    ):
        assert ours(forecast, actual) == pytest.approx(theirs(flat[1], flat[0]))
        assert ours(forecast, actual, weights) == pytest.approx(theirs(flat[1], flat[0], sample_weight=flat[2]))
    for level in (0.1, 0.5, 0.9):
        wanted = metrics.mean_pinball_loss(flat[1], flat[0], alpha=level, sample_weight=flat[2])
        assert pinball_loss(forecast, actual, level, weights) == pytest.approx(wanted)


def test_what_is_not_scored_may_be_anything():
    actual, weights = np.array([1.0, np.nan]), np.array([1.0, 0.0])
    assert mean_squared_error(np.array([3.0, 5.0]), actual, weights) == 4.0
    assert coverage(np.array([0.0, 0.0]), np.array([1.0, 1.0]), actual, weights) == 1.0


def test_coverage_by_hand():
    low, high = np.zeros(5), np.array([1.0, 1.0, 1.0, 1.0, 0.5])
    actual = np.array([-0.1, 0.0, 0.5, 1.0, 0.6])
    assert coverage(low, high, actual) == pytest.approx(3 / 5)
    assert coverage(low, high, actual, np.array([2.0, 1.0, 0.0, 1.0, 1.0])) == pytest.approx(2 / 5)


def test_a_mean_over_seeds_has_the_standard_error_of_the_mean():
    found = estimate([1.0, 2.0, 3.0, 6.0])
    assert found.mean == 3.0
    assert found.error == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3) / 2)
    assert str(found) == "3.0000 +- 1.0801 (n=4)"
    assert math.isnan(estimate([1.0]).error)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda: mean_squared_error(np.zeros(3), np.zeros((3, 1))), "must have one shape"),
        (lambda: mean_squared_error(np.zeros((2, 3)), np.zeros((2, 3)), np.ones(3)), "must have one shape"),
        (lambda: mean_absolute_error(np.zeros(3), np.zeros(3), np.zeros(3)), "every weight is 0"),
        (lambda: pinball_loss(np.zeros(3), np.zeros(3), 1.0), "must be between 0 and 1, got 1.0"),
        (lambda: estimate([]), "no score"),
        (lambda: hit_rates(np.zeros(2), np.zeros(3), np.zeros(3)), "must be lists of one length"),
        (lambda: daily_error(np.zeros(0), np.zeros(0), np.zeros(0)), "not empty"),
        (lambda: repeat_season(np.zeros((1, 3)), 5, 4), "does not fit a past of 3"),
        (lambda: LinearForecast.fit([]), "needs training windows"),
        (lambda: LinearClassifier.fit(np.zeros((2, 1)), np.ones(2), ridge=1.0), "has 2 rises and 0 falls"),
    ],
)
def test_what_cannot_be_scored_is_refused(score, message):
    with pytest.raises(ValueError, match=message):
        score()


def test_hit_rates_by_hand():
    days, shares = hit_rates(np.array([1, 0, 1, 1]), np.array([1, 1, 1, 1]), np.array([3, 1, 3, 2]))
    assert days.tolist() == [1, 2, 3]
    np.testing.assert_allclose(shares, [0, 1 / 2, 3 / 4])


def test_the_error_of_an_accuracy_is_that_of_days():
    """Each of 400 days hits or misses with all 50 predictions: there are 400 draws, not 20,000."""
    random = np.random.default_rng(0)
    hits = random.integers(0, 2, 400)
    days = np.repeat(np.arange(400), 50)
    found = daily_error(np.repeat(hits, 50), np.ones(20_000, int), days)
    assert found == pytest.approx(hits.std(ddof=1) / math.sqrt(400), rel=1e-6)
    alone = daily_error(hits, np.ones(400, int), np.arange(400))
    assert alone == pytest.approx(found)
    assert math.isnan(daily_error(hits, hits, np.zeros(400)))


def test_repetition_by_hand():
    past = np.array([[1.0, 2.0, 3.0]])
    assert repeat_last(past, 2).tolist() == [[3, 3]]
    assert repeat_season(past, 5, 2).tolist() == [[2, 3, 2, 3, 2]]


@pytest.mark.parametrize("relative", [False, True])
def test_least_squares_find_a_linear_law(relative):
    random = np.random.default_rng(0)
    past = random.normal(size=(500, 6))
    law = random.normal(size=(6, 3))
    law += relative * (1 - law.sum(axis=0)) / 6  # of relative steps, the last is carried on as it is
    future = past @ law + (0 if relative else 2.0)
    found = LinearForecast.fit([(past[:200], future[:200]), (past[200:], future[200:])], relative=relative)
    np.testing.assert_allclose(found(past), future, atol=1e-8)
    shrunk = LinearForecast.fit([(past, future)], ridge=1e6, relative=relative)
    assert np.abs(shrunk.kernel).max() < 0.01


def test_a_linear_classifier_counts_both_classes_alike():
    random = np.random.default_rng(0)
    signs = np.where(random.uniform(size=3000) < 0.9, 1.0, -1.0)
    inputs = signs[:, None, None] * np.array([[0.3, 0.0]]) + random.normal(size=(3000, 1, 2))
    found = LinearClassifier.fit(inputs, signs, ridge=1.0)
    share = (found(inputs) > 0)
    assert 0.55 < share[signs > 0].mean() < 0.68
    assert 0.55 < (~share[signs < 0]).mean() < 0.68
    assert abs(found.weights[1]) < 0.2 * found.weights[0]


@pytest.mark.data
def test_the_published_baselines_of_etth1():
    """Repeat-last 1.294 / .713 and least squares .383 / .392: the whole protocol is that of the literature."""
    if not ETT.exists():
        pytest.skip("../shared/data is not here")
    series, _ = read_series(ETT)
    periods = split_rows(series.dates, "8640,2880,2880")
    units = Standardizer.fit(series.values[: periods["train"][1]])
    windows = series_windows(series, units, periods, Patching(96, 16, 8), horizon=96)
    train, test = windows["train"], windows["test"]
    linear = LinearForecast.fit(
        ((train.past(part), train.future(part)) for part in slices(len(train), 8192)), relative=True
    )
    every = np.arange(len(test))
    actual = test.future(every)
    for forecast, mse, mae in (
        (repeat_last(test.past(every), 96), 1.294, 0.713),
        (linear(test.past(every)), 0.383, 0.392),
    ):
        assert mean_squared_error(forecast, actual) == pytest.approx(mse, abs=6e-4)
        assert mean_absolute_error(forecast, actual) == pytest.approx(mae, abs=6e-4)
