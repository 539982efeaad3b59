"""Prices: read from one file or many, cleaned with every rule counted, turned into the published features."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from jaxformer.data.series.features import NAMES, day_features, movements
from jaxformer.data.series.panel import FEATURE_COLUMNS, panel_of_prices, read_features
from jaxformer.data.series.price_cleaning import PriceReport, clean_prices
from jaxformer.data.series.prices import ADJ_CLOSE, CLOSE, COLUMNS, VOLUME, PriceHistory, read_prices
from tests.data.series.made import aligned, random_prices

KDD17 = Path(__file__).parents[4] / "shared" / "data" / "stocks_kdd17"
needs_kdd17 = [pytest.mark.data, pytest.mark.skipif(not KDD17.exists(), reason="../shared/data is not here")]

HEADER = "date,ticker," + ",".join(COLUMNS)


def _history(dates, closes, adjusted=None):
    closes = np.asarray(closes, float)
    values = np.stack([closes, closes * 1.1, closes * 0.9, closes, closes if adjusted is None else adjusted, closes], 1)
    return PriceHistory(np.array(dates, "datetime64[D]"), values)


def _days(*days):
    return [f"2016-01-{day:02d}" for day in days]


def test_one_file_or_many_of_one_ticker_each(tmp_path):
    rows = ["2016-01-04,B,1,2,0.5,1.5,1.5,100", "2016-01-04,A,3,4,2,3.5,3.5,50", "2016-01-05,B,2,3,1,2,2,10"]
    (tmp_path / "all.csv").write_text("\n".join([HEADER, *rows]))
    one = read_prices(tmp_path / "all.csv")
    folder = tmp_path / "many"
    folder.mkdir()
    for ticker in "AB":
        own = [row.replace(f",{ticker},", ",") for row in rows if f",{ticker}," in row]
        (folder / f"{ticker}.csv").write_text("\n".join([HEADER.replace("ticker,", ""), *own]))
    many = read_prices(folder)
    assert list(one) == list(many) == ["A", "B"]
    for ticker in "AB":
        np.testing.assert_array_equal(one[ticker].dates, many[ticker].dates)
        np.testing.assert_array_equal(one[ticker].values, many[ticker].values)
    assert one["B"].values[1].tolist() == [2, 3, 1, 2, 2, 10]


def test_files_are_named_after_their_tickers_dots_and_all(tmp_path):
    text = "\n".join([HEADER.replace("ticker,", ""), "2016-01-04,1,2,0.5,1.5,1.5,100"])
    (tmp_path / "BRK.A.csv").write_text(text)
    assert list(read_prices(tmp_path)) == ["BRK.A"]  # a folder of one file is a folder
    (tmp_path / "BRK.B.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert {ticker: len(history) for ticker, history in read_prices(tmp_path).items()} == {"BRK.A": 1, "BRK.B": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([HEADER, "2016-01-04,B,1,2,0.5,1,1.5,100", "2016-01-04 09:31:00,B,1,2,0.5,1,1.5,100"],
         "row 3, column 'date': expected a day, got '2016-01-04 09:31:00' with a time"),
        ([HEADER.replace("adj_close", "adjusted"), "2016-01-04,B,1,2,0.5,1.5,1.5,100"], "has no column 'adj_close'"),
        ([HEADER, "2016-01-04,B,1,2,0.5,a,1.5,100"], "row 2, column 'close': expected a number, got 'a'"),
        ([HEADER, "2016-01-04,,1,2,0.5,1,1.5,100"], "row 2, column 'ticker': expected a name"),
        ([HEADER.replace("ticker,", ""), "2016-01-04,1,2,0.5,1,1.5,100"], "has no column 'ticker': add one"),
    ],
)
def test_bad_files_are_refused(tmp_path, rows, message):
    (tmp_path / "all.csv").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_prices(tmp_path / "all.csv")


def test_every_rule_of_cleaning_is_counted():
    bad = _history(_days(4, 5, 6, 7, 8, 11), [10, 11, 12, 13, 14, 15])
    bad.values[1, CLOSE] = np.nan
    bad.values[2, 2] = 0.0  # the low
    bad.values[3, VOLUME] = -1.0
    histories = {
        "doubled": _history(_days(4, 6, 5, 5, 7, 8, 11), [1, 3, 2, 9, 4, 5, 6]),
        "bad": bad,
        "gap": _history(_days(5, 6, 11), [5, 6, 7]),
        "short": _history(_days(4), [1]),
    }
    prices, report = clean_prices(histories, min_days=2)
    assert report == PriceReport(
        read=17, duplicates=1, missing_cells=1, not_positive=2, short_rows=1, disordered=1, missing_days=2 + 3,
        tickers=4, short_tickers=1,
    )  # fmt: skip
    assert report.kept == 12
    assert "splits" not in report.table()
    assert prices.tickers == ("doubled", "bad", "gap")
    assert prices.dates.astype(str).tolist() == _days(4, 5, 6, 7, 8, 11)
    assert prices.values[:, 0, CLOSE].tolist() == [1, 2, 3, 4, 5, 6]  # of a doubled date the first row counts
    assert prices.values[1:4, 1, CLOSE].tolist() == [10, 10, 10]
    np.testing.assert_array_equal(prices.values[:, 2, CLOSE], [np.nan, 5, 6, 6, 6, 7])
    np.testing.assert_array_equal(prices.values[3, 2], [6, 6, 6, 6, 6, 0])  # the price stood still
    assert prices.observed[:, 2].tolist() == [False, True, True, False, False, True]
    # Neither a day that was filled in nor the day after it is scored.
    panel = panel_of_prices(prices)
    np.testing.assert_array_equal(np.isfinite(panel.returns[:, 2]), [0, 0, 1, 0, 0, 0])
    # Nor has it features: whether it is filled in depends on a later day.
    np.testing.assert_array_equal(np.isfinite(panel.features[:, 2, 0]), prices.observed[:, 2])


def test_no_ticker_left_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"none of 1 tickers has the 40 days .*the longest has 2 rows"):
        clean_prices({"A": _history(_days(4, 5), [1, 2])}, min_days=40)


def test_the_calendar_does_not_tell_which_tickers_go_on_being_traded():
    long = _history(_days(4, 5, 7, 8, 11, 12), [1, 2, 3, 4, 5, 6])
    other = _history(_days(6, 7, 8, 11), [7, 8, 9, 10])  # alone on the 6th
    found = []
    for rows in (2, 4):
        ends = PriceHistory(other.dates[:rows], other.values[:rows])
        prices, _ = clean_prices({"long": long, "other": ends}, min_days=4)
        assert len(prices.tickers) == rows // 2
        found.append((prices.dates.astype(str).tolist(), prices.observed[:, 0].tolist()))
    assert found[0] == found[1] == (_days(4, 5, 6, 7, 8, 11, 12), [True, True, False, True, True, True, True])


def test_prices_after_a_split_are_carried_on_and_the_past_stays_as_it_is():
    plain = [100.0, 102.0, 51.0, 52.0]  # two for one on the third day
    prices, report = clean_prices({"A": _history(_days(4, 5, 6, 7), plain, [50, 51, 51, 52])}, min_days=2)
    assert report.splits == 1
    assert prices.values[:, 0, CLOSE].tolist() == [100, 102, 102, 104]
    assert prices.values[:, 0, ADJ_CLOSE].tolist() == [50, 51, 51, 52]
    assert prices.values[:, 0, VOLUME].tolist() == [100, 102, 25.5, 26]
    dividend = _history(_days(4, 5), [100, 100], [98, 100])
    assert clean_prices({"A": dividend}, min_days=2)[1].splits == 0


def test_features_by_hand():
    values = random_prices(40, 1)
    values[..., ADJ_CLOSE] *= np.linspace(0.8, 1.0, 40)[:, None]  # dividends
    found = day_features(values)[:, 0].astype(float)
    opened, high, low, close, adjusted, _ = values[:, 0].T
    day = 35
    wanted = [
        opened[day] / close[day] - 1,
        high[day] / close[day] - 1,
        low[day] / close[day] - 1,
        close[day] / close[day - 1] - 1,
        adjusted[day] / adjusted[day - 1] - 1,
        *(sum(adjusted[day - i] for i in range(days)) / days / adjusted[day] - 1 for days in (5, 10, 15, 20, 25, 30)),
    ]
    np.testing.assert_allclose(found[day], 100 * np.array(wanted), rtol=1e-5)
    assert np.isnan(found[28]).any()
    assert np.isfinite(found[29:]).all()
    np.testing.assert_allclose(day_features(values[:30])[29, 0], found[29], rtol=1e-6)


def test_movements_have_the_published_borders():
    assert movements(np.array([0.55, 0.5499, 0.0, -0.4999, -0.5, np.nan])).tolist() == [1, 0, 0, 0, -1, 0]
    assert movements(np.array([0.1, -0.1]), rise=0.0, fall=-0.05).tolist() == [1, -1]
    with pytest.raises(ValueError, match="a rise must begin above a fall"):
        movements(np.zeros(1), rise=-1.0, fall=0.0)


ROW = "2016-01-04,A," + ",".join("0.5" for _ in NAMES) + ",1,10.0"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW.replace(",1,", ",2,"), "row 3, column 'label': expected 1 (rise), -1 (fall) or 0 (not scored), got '2'"),
        (ROW.replace("0.5", "", 1), "row 3, column 'f0': a feature is missing"),
        (ROW, "ticker 'A' has 2016-01-04 more than once (first in row 2)"),
        (ROW.replace(",A,", ", ,"), "row 3, column 'ticker': expected a name, got an empty cell"),
        (ROW.replace("10.0", "0"), "row 3, column 'adj_close': expected a price above 0, got '0'"),
    ],
)
def test_bad_features_are_refused(tmp_path, row, message):
    path = tmp_path / "features.csv"
    path.write_text("\n".join([",".join(("date", "ticker", *FEATURE_COLUMNS, "label", "adj_close")), ROW, row]))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_features(path)


def test_features_of_every_ticker_and_day_are_read(tmp_path):
    path = tmp_path / "features.csv"
    header = ",".join(("date", "ticker", *FEATURE_COLUMNS, "label", "adj_close"))
    rows = [
        ROW.replace("04,A", f"0{4 + day},{ticker}").replace("10.0", f"{10 * (1 + day)}").replace("0.5", f"{i}.5", 1)
        for day in range(2)
        for i, ticker in enumerate("ABC")
    ]
    path.write_text("\n".join([header, *reversed(rows)]))
    panel = read_features(path)
    assert panel.tickers == ("A", "B", "C")
    assert panel.features[:, :, 0].tolist() == [[0.5, 1.5, 2.5]] * 2
    assert panel.returns[1].tolist() == [100.0] * 3


def test_what_a_rise_and_a_fall_are_may_be_said():
    prices = aligned(random_prices(40, 2))
    panel = panel_of_prices(prices, rise=3.0, fall=-3.0)
    known = np.isfinite(panel.returns)
    assert ((panel.movements == 1) == (known & (panel.returns >= 3))).all()
    assert ((panel.movements == -1) == (known & (panel.returns <= -3))).all()
    assert set(panel.movements.ravel()) == {-1, 0, 1}


@pytest.mark.parametrize("_", [pytest.param(0, marks=needs_kdd17)])
def test_our_features_and_labels_are_the_published_ones(_):
    """All 124,450 labels, and 10 of 11 features to 1e-5 per cent; the plain close differs on the 12 days of a split."""
    prices, report = clean_prices(read_prices(KDD17 / "ohlcv.csv.gz"), min_days=60)
    ours, published = panel_of_prices(prices), read_features(KDD17 / "features11.csv.gz")
    assert (report.splits, report.read, report.kept) == (12, 125_900, 125_900)
    assert ours.tickers == published.tickers
    rows = np.searchsorted(ours.dates, published.dates)
    np.testing.assert_array_equal(ours.movements[rows], published.movements)
    difference = np.abs(ours.features[rows] - published.features)
    assert difference[..., [0, 1, 2, *range(4, 11)]].max() < 1e-5
    assert (difference[..., 3] > 1e-4).sum() == 12
    assert (published.movements[published.before("2016-01-01") :] != 0).sum() == 7398
