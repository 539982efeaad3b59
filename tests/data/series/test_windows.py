"""Windows: their counts are those of the literature, and nothing in them lies ahead."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from jaxformer.data.series.datasets import PriceStatistics, WindowRecords, price_windows, series_windows, slices
from jaxformer.data.series.generator import generated_prices, generated_series
from jaxformer.data.series.multivariate import read_series
from jaxformer.data.series.panel import panel_of_prices, read_features
from jaxformer.data.series.price_cleaning import clean_prices
from jaxformer.data.series.prices import CLOSE, PriceHistory
from jaxformer.data.series.splitting import split_rows
from jaxformer.data.series.standardize import Standardizer
from jaxformer.data.series.windows import FORECAST, MOVEMENT, RETURN, Patching, SeriesWindows
from jaxformer.evaluation.baselines import LinearClassifier
from tests.data.series.made import random_panel

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_data = [pytest.mark.data, pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")]
WINDOW = 4


def _windows(panel, split="0.6,0.2,0.2"):
    periods = split_rows(panel.dates, split)
    statistics = PriceStatistics.fit(panel, periods, tails=0.01)
    return statistics, price_windows(panel, statistics, periods, window=WINDOW)


def test_a_window_holds_the_days_before_its_target():
    panel = random_panel()
    statistics, found = _windows(panel)
    windows = found["validation"]
    batch = windows.batch(np.arange(len(windows)))
    number = 7
    day, ticker = windows.targets[number]
    np.testing.assert_array_equal(
        batch.inputs.values[number], statistics.features.apply(panel.features[day - WINDOW : day, ticker])
    )
    assert windows.as_of([number])[0] == panel.dates[day - 1]
    assert windows.tickers([number]) == [panel.tickers[ticker]]
    returns, movement = batch.labels[RETURN], batch.labels[MOVEMENT]
    np.testing.assert_allclose(
        returns.values[number, 0], panel.returns[day, ticker] / statistics.return_deviation, rtol=1e-6
    )
    np.testing.assert_array_equal(movement.weights[:, 0], windows.movements() != 0)
    np.testing.assert_array_equal(movement.values[:, 0] * movement.weights[:, 0], windows.movements() > 0)
    assert (batch.inputs.segment_ids == 1).all()
    assert batch.inputs.positions[0].tolist() == [3, 2, 1, 0]  # the last day is position 0


def test_targets_of_a_split_lie_in_its_period():
    panel = random_panel()
    periods = split_rows(panel.dates, "0.6,0.2,0.2")
    for name, windows in _windows(panel)[1].items():
        first, last = periods[name]
        days = windows.targets[:, 0]
        assert ((days >= first) & (days < last)).all()
    assert _windows(panel)[1]["train"].targets[0, 0] == 29 + WINDOW  # the first day with features is row 29


def test_a_target_is_left_out_only_where_neither_movement_nor_return_is_known():
    panel = random_panel()
    movements, returns = np.ones_like(panel.movements), panel.returns.copy()
    movements[100, 0] = movements[101, 1] = movements[102, 2] = 0
    returns[101, 1] = returns[103, 0] = np.nan
    statistics, _ = _windows(panel)
    panel = dataclasses.replace(panel, movements=movements, returns=returns)
    windows = statistics.windows(panel, window=WINDOW, days=(100, 104))
    there = {tuple(target) for target in windows.targets.tolist()}
    assert {(day, ticker) for day in range(100, 104) for ticker in range(3)} - there == {(101, 1)}


def test_the_day_after_the_last_can_be_predicted():
    panel = random_panel()
    statistics, _ = _windows(panel)
    end = len(panel.dates)
    windows = statistics.windows(panel, window=WINDOW, days=(end, end + 1), labelled=False)
    assert len(windows) == len(panel.tickers)
    batch = windows.batch(np.arange(3))
    assert (windows.as_of(np.arange(3)) == panel.dates[-1]).all()
    assert not batch.labels[MOVEMENT].weights.any()
    assert not batch.labels[RETURN].weights.any()
    assert windows.movements().tolist() == [0, 0, 0]
    assert np.isnan(windows.returns()).all()


def _chain(histories):
    """From rows as a file has them to everything that a model sees, and the predictions of one that was fitted."""
    prices, _ = clean_prices(histories, min_days=40)
    panel = panel_of_prices(prices).with_market(3, settled=40)
    periods = split_rows(panel.dates, "2010-08-02,2010-10-01")
    statistics = PriceStatistics.fit(panel, periods, tails=0.01)
    train = statistics.windows(panel, window=WINDOW, days=periods["train"])
    scored = np.flatnonzero(train.movements())
    model = LinearClassifier.fit(
        train.batch(scored).inputs.values, train.movements()[scored].astype(float), ridge=10.0
    )
    every = statistics.windows(panel, window=WINDOW, days=(0, len(panel.dates) + 1), labelled=False)
    batch = every.batch(np.arange(len(every)))
    return statistics, every, batch, model(batch.inputs.values)


def _other_future(histories, last_day, random):
    """The same rows up to `last_day`; after it other prices, a split, missing days and a doubled one, in disorder."""
    changed = {}
    for number, (ticker, history) in enumerate(histories.items()):
        later = history.dates > last_day
        values = history.values.copy()
        values[later] *= np.exp(random.normal(size=(later.sum(), 1)))
        if number % 2:
            values[later, : CLOSE + 1] /= 3.0  # a split on the first of the later days, too
        order = np.concatenate([np.flatnonzero(~later), random.permutation(np.flatnonzero(later))])
        order = order[random.uniform(size=len(order)) < np.where(later[order], 0.7, 1.0)]
        order = np.concatenate([order, order[-1:]])
        changed[ticker] = PriceHistory(history.dates[order], values[order])
    return changed


@pytest.mark.parametrize("last_day", ["2010-07-30", "2010-09-15", "2010-11-01"])
@pytest.mark.parametrize("future", ["another", "none"])
def test_nothing_that_happens_later_changes_anything_before(last_day, future):
    """No look-ahead: inputs, statistics and predictions up to a day are the same, whatever comes after."""
    last = np.datetime64(last_day)
    histories = generated_prices(num_tickers=6, num_days=260)
    # T01 has no row on the last three days: they are filled in if a later one follows.
    there = (histories["T01"].dates <= last - np.timedelta64(3)) | (histories["T01"].dates > last)
    histories["T01"] = PriceHistory(histories["T01"].dates[there], histories["T01"].values[there])
    if future == "none":
        others = {
            ticker: PriceHistory(history.dates[history.dates <= last], history.values[history.dates <= last])
            for ticker, history in histories.items()
        }
        if last < np.datetime64("2010-10-01"):  # the test period would be empty: one day is there, and is not compared
            others["T00"] = PriceHistory(
                *(np.concatenate([getattr(others["T00"], side), getattr(histories["T00"], side)[-80::79]])
                  for side in ("dates", "values"))
            )  # fmt: skip
    else:
        others = _other_future(histories, last, np.random.default_rng(3))
    statistics, windows, batch, predicted = _chain(histories)
    other_statistics, other_windows, other_batch, other_predicted = _chain(others)
    assert dataclasses.asdict(statistics.features).keys() == {"mean", "deviation", "low", "high"}
    for name in ("features", "returns"):
        assert getattr(statistics, name).to_dict() == getattr(other_statistics, name).to_dict()
    early, other_early = (w.as_of(np.arange(len(w))) <= last for w in (windows, other_windows))
    assert early.sum() > 500
    np.testing.assert_array_equal(windows.targets[early], other_windows.targets[other_early])
    np.testing.assert_array_equal(batch.inputs.values[early], other_batch.inputs.values[other_early])
    np.testing.assert_allclose(predicted[early], other_predicted[other_early], rtol=1e-12)  # sums of another order
    if future == "another":  # and the test can fail: later inputs do differ
        late, other_late = (batch.inputs.values[~early], other_batch.inputs.values[~other_early])
        assert late.shape != other_late.shape or not np.array_equal(late, other_late)


def test_the_market_is_the_mean_return_of_all_that_are_known():
    panel = random_panel()
    returns = panel.returns.copy()
    returns[50, 0] = np.nan
    returns[60] = np.nan
    found = dataclasses.replace(panel, returns=returns).with_market(3).features[..., -3:]
    means = [np.nanmean(returns[day]) for day in (49, 50, 51)]
    np.testing.assert_allclose(found[51], np.broadcast_to(means[::-1], (3, 3)), rtol=1e-6)  # the day itself comes first
    assert means[1] == pytest.approx(returns[50, 1:].mean())
    np.testing.assert_array_equal(np.isnan(found[60:64, 0]), np.eye(4, 3, dtype=bool))
    assert panel.with_market(0) is panel


@pytest.mark.parametrize("gap", [0, 5, 28])
@pytest.mark.parametrize("rows", [30, 33])
def test_the_past_of_the_market_does_not_hang_on_how_long_a_ticker_is_traded(rows, gap):
    """A ticker of fewer rows than a window and its features need is left out; with more rows it must change no past.

    It has none for `gap` days after its first ten, which are filled in: its averages are known before it has so many.
    """
    histories = generated_prices(num_tickers=4, num_days=140)
    every, least = histories["T03"], 30 + WINDOW
    kept = np.r_[40:50, 50 + gap : 140]
    late = PriceHistory(every.dates[kept], every.values[kept])

    def market(end):
        histories["T03"] = PriceHistory(late.dates[:end], late.values[:end])
        prices, _ = clean_prices(histories, min_days=least)
        panel = panel_of_prices(prices).with_market(1, settled=least)
        return len(panel.tickers), panel.features[:, 0, -1]

    (without, short), (several, long) = market(rows), market(len(late))
    assert (without, several) == (3, 4)
    first = 40 + gap + least - 1  # the day of its row `least`, from which on it counts
    np.testing.assert_array_equal(short[:first], long[:first])
    assert short[first] != long[first]


def test_forecasting_does_not_look_ahead():
    series = generated_series(num_rows=600)
    periods = split_rows(series.dates, "0.6,0.2,0.2")
    patching, border = Patching(24, 8, 4), periods["test"][0] + 40
    changed = dataclasses.replace(series, values=series.values.copy())
    changed.values[border:] = np.random.default_rng(0).normal(size=changed.values[border:].shape)

    def windows(one):
        units = Standardizer.fit(one.values[slice(*periods["train"])], tails=0.01)
        return units, series_windows(one, units, periods, patching, horizon=12)

    (units, found), (other_units, other) = windows(series), windows(changed)
    assert units.to_dict() == other_units.to_dict()
    for name, one in found.items():
        batch, other_batch = (w[name].batch(np.arange(len(one))) for w in (found, other))
        early = np.repeat(one.starts <= border, one.num_channels)  # pasts that end before the border
        np.testing.assert_array_equal(batch.inputs.values[early], other_batch.inputs.values[early])
        assert early.all() or not np.array_equal(batch.inputs.values[~early], other_batch.inputs.values[~early])


def test_outliers_are_winsorised_in_pasts_and_not_in_targets():
    series = generated_series(num_rows=600)
    periods = split_rows(series.dates, "0.6,0.2,0.2")
    row = periods["test"][0] + 30
    series.values[row, 0] = 1e6
    units = Standardizer.fit(series.values[slice(*periods["train"])], tails=0.01)
    windows = series_windows(series, units, periods, Patching(24, 8, 4), horizon=12)["test"]
    channel, (first,) = windows.num_channels, np.flatnonzero(windows.starts == row)
    wanted = (1e6 - units.mean[0]) / units.deviation[0]
    assert windows.batch([first * channel]).labels[FORECAST].values[0, 0] == pytest.approx(wanted)
    assert windows.past([(first + 1) * channel])[0, -1] < 10


def test_forecasting_windows_by_hand():
    values = np.arange(40, dtype=np.float32).reshape(20, 2)
    observed = np.ones((20, 2), bool)
    observed[11, 1] = False
    windows = SeriesWindows(values, observed, Patching(6, 4, 2), horizon=3, rows=(10, 16))
    assert windows.starts.tolist() == [10, 11, 12, 13]
    assert len(windows) == 8
    batch = windows.batch([3])  # window 1 of channel 1: past rows 5 to 10, future rows 11 to 13
    past = [11.0, 13, 15, 17, 19, 21]
    assert windows.past([3])[0].tolist() == past
    assert batch.inputs.values[0].tolist() == [past[:4], past[2:], [*past[4:], 21, 21]]
    assert batch.labels[FORECAST].values[0].tolist() == [23, 25, 27]
    assert batch.labels[FORECAST].weights[0].tolist() == [0, 1, 1]
    # The first windows of a series begin where a whole past lies before them.
    assert SeriesWindows(values, observed, Patching(6, 4, 2), horizon=3, rows=(0, 10)).starts.tolist() == [6, 7]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Patching(6, 8, 2), "patches of 8 steps, 2 apart, do not fit a past of 6"),
        (lambda: Patching(9, 4, 2), "leave 1 of 9 steps over: set --config.series.window=8 or 10"),
        (lambda: _windows(random_panel(days=60), "0.5,0.3,0.2"), "the train period has 30 days, of which none has"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_records_are_batches_with_empty_rows():
    windows = _windows(random_panel())[1]["test"]
    records = WindowRecords(windows)
    assert records.source_lengths.tolist() == [WINDOW] * len(windows)
    part = records.copy(np.array([2, 9]), np.array([3, 1]))
    assert part.numbers.tolist() == [2, 3, 4, 9]
    batch = part.assemble(np.array([0, 3]), np.array([0, 2]), (4, WINDOW + 2, 0), 4)
    wanted = windows.batch([2, 9])
    np.testing.assert_array_equal(batch.inputs.values[[0, 2], :WINDOW], wanted.inputs.values)
    assert batch.inputs.segment_ids[[0, 2]].tolist() == [[1] * WINDOW + [0, 0]] * 2
    np.testing.assert_array_equal(batch.labels[RETURN].values[[0, 2]], wanted.labels[RETURN].values)
    for empty in (1, 3):
        assert not batch.inputs.segment_ids[empty].any()
        assert not any(one.weights[empty].any() for one in batch.labels.values())
    assert records.checksum() != part.checksum()
    assert [part.tolist() for part in slices(5, 2)] == [[0, 1], [2, 3], [4]]


def test_some_records_of_some_are_those_and_no_others():
    windows = _windows(random_panel())[1]["test"]
    some = WindowRecords(windows).take(np.array([9, 5, 7])).take(np.array([2, 0]))
    assert some.numbers.tolist() == [7, 9]
    batch, wanted = some.assemble(np.array([1]), np.array([0]), (1, WINDOW, 0), 1), windows.batch([9])
    np.testing.assert_array_equal(batch.inputs.values, wanted.inputs.values)
    np.testing.assert_array_equal(batch.labels[RETURN].values, wanted.labels[RETURN].values)


def test_the_checksum_of_records_sees_inputs_and_labels_of_the_first_and_the_last():
    series = generated_series(num_rows=1200)
    units = Standardizer.fit(series.values)
    patching = Patching(24, 8, 4)

    def checksum(values=series.values, targets=series.values, numbers=None):
        windows = SeriesWindows(
            units.scaled(values), series.observed, patching, horizon=2, rows=(24, 1200), targets=units.scaled(targets)
        )
        return WindowRecords(windows, numbers).checksum()

    other = series.values.copy()
    other[-4:] += 1.0
    plain = checksum()
    assert plain == checksum()
    assert plain != checksum(values=other)
    assert plain != checksum(targets=other)
    assert checksum(numbers=np.arange(5)) != checksum(numbers=np.arange(5, 10))


def test_a_channel_that_begins_late_is_refused():
    series = generated_series(num_rows=300)
    series.values[:3, 1] = np.nan
    periods = split_rows(series.dates, "0.6,0.2,0.2")
    with pytest.raises(ValueError, match="channel 'channel_1' has no value at the beginning of the series"):
        series_windows(series, Standardizer.fit(series.values), periods, Patching(24, 8, 4), horizon=12)


def test_the_unit_of_returns_is_of_training_without_outliers():
    panel = random_panel()
    periods = split_rows(panel.dates, "0.6,0.2,0.2")
    returns = panel.returns.copy()

    def unit():
        changed = dataclasses.replace(panel, returns=returns)
        return PriceStatistics.fit(changed, periods, tails=0.01).return_deviation

    plain = unit()
    returns[-10:] *= 100  # of the test
    assert unit() == plain
    returns[40, 0] = 1e4
    assert unit() < 2 * plain


@pytest.mark.parametrize("_", [pytest.param(0, marks=needs_data)])
def test_the_published_numbers_of_windows(_):
    panel = read_features(SHARED / "stocks_kdd17" / "features11.csv.gz")
    _, found = _windows(panel, "2015-01-02,2016-01-04")
    movements = found["test"].movements()
    assert (int((movements > 0).sum()), int((movements < 0).sum())) == (3910, 3488)  # together 7,398
    series, _ = read_series(SHARED / "ett" / "ETTh1.csv")
    periods = split_rows(series.dates, "8640,2880,2880")
    units = Standardizer.fit(series.values[:8640])
    windows = series_windows(series, units, periods, Patching(96, 16, 8), horizon=96)
    assert {name: len(one.starts) for name, one in windows.items()} == {"train": 8449, "validation": 2785, "test": 2785}
