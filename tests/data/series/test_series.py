"""Series of several channels: reading, cleaning, periods, units, and the generated ones."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from jaxformer.data.series.generator import REVERSION, generated_prices, generated_series
from jaxformer.data.series.multivariate import SeriesReport, read_series, write_series
from jaxformer.data.series.panel import panel_of_prices
from jaxformer.data.series.price_cleaning import clean_prices
from jaxformer.data.series.splitting import borders_of, held_out, split_rows
from jaxformer.data.series.standardize import Standardizer

ROWS = ["date,a,b"] + [f"2020-01-01 0{hour}:00:00,{hour},{10 * hour}" for hour in range(9)]


def _written(folder, rows):
    (folder / "series.csv").write_text("\n".join(rows))
    return folder / "series.csv"


def test_what_is_missing_is_filled_with_the_past_and_counted(tmp_path):
    rows = [*ROWS[:2], ROWS[3], ROWS[2], ROWS[2], "2020-01-01 04:00:00,,", "2020-01-01 04:30:00,7,7", *ROWS[6:]]
    rows += [f"2020-01-01 {hour:02d}:00:00,{hour},{10 * hour}" for hour in range(9, 24)]
    series, report = read_series(_written(tmp_path, rows))
    assert report == SeriesReport(read=25, duplicates=1, disordered=1, off_step=1, missing_steps=1, missing_cells=2)
    assert series.names == ("a", "b")
    assert series.step == np.timedelta64(3600, "s")
    assert series.values[:9].T.tolist() == [[0, 1, 2, 2, 2, 5, 6, 7, 8], [0, 10, 20, 20, 20, 50, 60, 70, 80]]
    assert series.observed[:9].T.tolist() == [[1, 1, 1, 0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 1, 1, 1, 1]]
    assert read_series(tmp_path / "series.csv", channels=("b",))[0].values[:6, 0].tolist() == [0, 10, 20, 20, 20, 50]
    assert "filled in: steps without a row (not scored)" in report.table()


@pytest.mark.parametrize(("whole", "refused"), [(19, False), (18, True)])
def test_one_row_in_twenty_may_lie_between_two_steps(tmp_path, whole, refused):
    rows = ["date,a", *(f"2020-01-01 {hour:02d}:00:00,{hour}" for hour in range(whole)), "2020-01-01 04:30:00,7"]
    if refused:
        with pytest.raises(ValueError, match="1 of 19 rows do not lie"):
            read_series(_written(tmp_path, rows))
    else:
        assert read_series(_written(tmp_path, rows))[1].off_step == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["date", "2020-01-01", "2020-01-02"], "has no column beside 'date'"),
        (ROWS[:2], "has 1 date: a series needs two or more"),
        ([*ROWS[:2], "2020-01-01 01:00:00,1,x"], "row 3, column 'b': expected a number, got 'x'"),
        (["date,a,b", "2020-01-01,1,", "2020-01-02,2,"], "column 'b': every cell is empty"),
        ([*ROWS[:3], "2020-01-01 01:00:01,1,1", "2020-01-01 01:00:02,1,1", "2021-01-01,1,1"], "have no regular step"),
        ([*ROWS[:4], "2020-01-03 00:00:00,1,1"], "there are 49 steps of 3600 seconds, but 4 rows: the dates have no"),
        (["date,a", *(f"{2000 + month // 12}-{month % 12 + 1:02d}-01,{month}" for month in range(48))],
         "of 48 rows do not lie a whole number of steps of 2678400 seconds after the first"),
        (["date,a", "2020-01-01 00:30:00,0", *(f"2020-01-01 {hour:02d}:00:00,{hour}" for hour in range(1, 24))],
         "23 of 24 rows do not lie"),
        (["day,a", "2020-01-01,1"], "has no column 'date': it has day, a"),
    ],
)
def test_bad_files_are_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_series(_written(tmp_path, rows))


DATES = np.datetime64("2020-01-01") + np.arange(100)


@pytest.mark.parametrize(
    ("split", "borders"),
    [
        ("0.7,0.1,0.2", (0, 70, 80, 100)),
        ("0.29,0.31,0.4", (0, 29, 60, 100)),  # 0.29 * 100 is less than 29
        ("0.55,0.34,0.11", (0, 55, 89, 100)),  # their sum is more than 1
        ("50,20,10", (0, 50, 70, 80)),
        ("2020-01-11,2020-01-31", (0, 10, 30, 100)),
    ],
)
def test_periods_follow_one_another(split, borders):
    found = split_rows(DATES, split)
    assert found == dict(zip(("train", "validation", "test"), itertools.pairwise(borders), strict=True))


@pytest.mark.parametrize(
    ("split", "borders", "validation", "test"),
    [
        ("0.7,0.1,0.2", ["2020-03-11", "2020-03-21"], (70, 80), (80, 120)),  # to the end of what there is
        ("50,20,10", ["2020-02-20", "2020-03-11", "2020-03-21"], (50, 70), (70, 80)),
    ],
)
def test_held_out_periods_are_found_again_in_longer_data(split, borders, validation, test):
    longer = np.datetime64("2020-01-01") + np.arange(120)
    assert borders_of(DATES, split_rows(DATES, split)) == borders
    assert held_out(longer, borders) == {"validation": validation, "test": test}
    assert held_out(longer[: test[0]], borders) == {"validation": validation}


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("0.7,0.3", "is neither three numbers above 0"),
        ("a,b,c", "is neither three numbers above 0"),
        ("50,-1,2", "is neither three numbers above 0"),
        ("0.7,0.3,0.2", "has shares that sum to more than 1"),
        ("90,20,10", "needs 120 rows, but there are 100"),
        ("0.001,0.5,0.4", "leaves no row for train"),
        ("2020-02-11,2020-01-31", "the earlier date comes first"),
        ("2020-02-30,2020-03-31", "has a date that the calendar lacks"),
        ("2021-01-01,2021-02-01", "leaves no row for validation"),
    ],
)
def test_other_periods_are_refused(split, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        split_rows(DATES, split)


def test_units_are_those_of_the_training_values_without_outliers():
    random = np.random.default_rng(0)
    values = np.stack([random.normal(5, 2, 1000), np.full(1000, 3.0)], axis=1)
    plain = Standardizer.fit(values)
    wanted = (values[:, 0] - values[:, 0].mean()) / values[:, 0].std()
    np.testing.assert_allclose(plain.apply(values)[:, 0], wanted, atol=1e-6)
    assert not plain.apply(values)[:, 1].any()  # a constant channel
    np.testing.assert_allclose(plain.restored(plain.apply(values)[:, 0], 0), values[:, 0], atol=1e-5)
    assert plain.num_outliers(values) == 0
    spoilt = values.copy()
    spoilt[0, 0], spoilt[1, 0] = 1e9, np.nan
    robust = Standardizer.fit(spoilt, tails=0.01)
    np.testing.assert_allclose([robust.mean[0], robust.deviation[0]], [5, 2], atol=0.2)
    assert robust.num_outliers(spoilt) == 20
    beside = np.full((3, 2), 1e9)
    assert (robust.num_outliers(beside), robust.num_outliers(beside, channels=1)) == (6, 3)
    assert robust.apply(np.array([[1e9, 3.0]]))[0, 0] < 4
    assert Standardizer.from_dict(robust.to_dict()).to_dict() == robust.to_dict()
    assert Standardizer.from_dict({name: list(map(str, x)) for name, x in plain.to_dict().items()}).high[0] == np.inf
    with pytest.raises(ValueError, match="channel 1 has no value in the training period"):
        Standardizer.fit(np.array([[1.0, np.nan]]))


@pytest.mark.parametrize("tails", [0.0, 0.01])
@pytest.mark.parametrize("value", [0.1, 0.3, 1e6 + 0.1, 0.0, -7.7])
def test_a_constant_channel_is_one_of_zeros_whatever_its_digits(value, tails):
    units = Standardizer.fit(np.array([[value]] * 999 + [[np.nan]]), tails=tails)
    assert units.deviation.tolist() == [1.0]
    assert units.scaled(np.array([[value], [value + 1.0]])).tolist() == [[0.0], [pytest.approx(1.0)]]


def test_generated_prices_obey_the_law_that_they_claim():
    histories = generated_prices(num_tickers=20, num_days=1500)
    prices, report = clean_prices(histories, min_days=60)
    assert (report.splits, report.duplicates, report.missing_cells, report.not_positive) == (2, 0, 0, 0)
    returns = panel_of_prices(prices).returns[2:]
    assert np.isfinite(returns).all()
    own = returns - returns.mean(axis=1, keepdims=True)
    lagged = np.mean([np.corrcoef(x[1:], x[:-1])[0, 1] for x in own.T])
    assert abs(lagged - REVERSION) < 0.05
    market = returns.mean(axis=1)
    assert np.corrcoef(np.abs(market[1:]), np.abs(market[:-1]))[0, 1] > 0.05  # calm and stormy times
    again = generated_prices(num_tickers=20, num_days=1500)
    assert all(np.array_equal(one.values, again[name].values) for name, one in histories.items())
    other = generated_prices(num_tickers=20, num_days=1500, seed=1)
    assert not np.array_equal(other["T00"].values, histories["T00"].values)


def test_a_generated_series_has_its_seasons_and_survives_a_file(tmp_path):
    series = generated_series(num_rows=1000)
    for channel in series.values.T:
        spectrum = np.abs(np.fft.rfft(channel[:984] - channel[:984].mean()))  # 41 days
        assert spectrum[41] == spectrum[20:].max()
    write_series(tmp_path / "series.csv", series)
    read, report = read_series(tmp_path / "series.csv")
    np.testing.assert_array_equal(read.values, series.values)
    np.testing.assert_array_equal(read.dates, series.dates)
    assert report == SeriesReport(read=1000)
