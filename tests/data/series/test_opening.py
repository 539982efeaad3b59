"""What a configuration means by its data: formats told apart, and what is no table refused with what to do."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pytest

from jaxformer.config import DataConfig, SeriesConfig
from jaxformer.data.series.generator import generated_prices
from jaxformer.data.series.opening import least_days, open_panel, panel_of_table, required_columns
from jaxformer.data.series.panel import PANEL_COLUMNS
from jaxformer.data.series.prices import PRICE_COLUMNS
from jaxformer.data.series.table import parse_table

FEATURES = [",".join(PANEL_COLUMNS)] + [
    f"2016-01-{day:02},AAA,{','.join(['0.5'] * 11)},1,{10 + day}" for day in range(1, 15)
]


def _open(path):
    return open_panel(DataConfig(source="files", path=str(path)), SeriesConfig(window=2))[0]


def _prices(names):
    lines = [",".join([*PRICE_COLUMNS, "ticker"])]
    histories = generated_prices(num_tickers=len(names), num_days=60, seed=1)
    for name, history in zip(names, histories.values(), strict=True):
        for date, row in zip(history.dates, history.values, strict=True):
            lines.append(",".join([str(date), *map(repr, map(float, row)), name]))
    return lines


@pytest.mark.parametrize("change", [str, str.upper, lambda line: ",".join(f'"{cell}"' for cell in line.split(","))])
def test_features_are_known_by_their_columns_quoted_or_in_capitals(tmp_path, change):
    path = tmp_path / "features.csv"
    path.write_text("\n".join([change(FEATURES[0]), *FEATURES[1:]]) + "\n")
    panel = _open(path)
    assert panel.tickers == ("AAA",)
    assert panel.movements.sum() == 14
    assert required_columns([name.lower() for name in PANEL_COLUMNS]) == PANEL_COLUMNS


def test_a_folder_may_hold_one_file_of_features_and_not_two(tmp_path):
    (tmp_path / "a.csv").write_text("\n".join(FEATURES) + "\n")
    assert len(_open(tmp_path).dates) == 14
    (tmp_path / "b.csv").write_text("\n".join(FEATURES) + "\n")
    with pytest.raises(ValueError, match="a folder of 2 files, of which the first holds features: join them"):
        _open(tmp_path)


def test_a_damaged_gzip_file_is_refused_by_name(tmp_path):
    path = tmp_path / "prices.csv.gz"
    whole = bytearray(gzip.compress("\n".join(_prices(["A", "B"])).encode()))
    whole[200:400] = bytes(200)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"prices\.csv\.gz cannot be unpacked"):
        _open(path)


def test_tickers_that_differ_in_capitals_alone_are_pointed_out(tmp_path, caplog):
    path = tmp_path / "prices.csv"
    path.write_text("\n".join(_prices(["AAPL", "aapl", "B"])) + "\n")
    with caplog.at_level(logging.WARNING):
        assert _open(path).tickers == ("AAPL", "B", "aapl")
    assert "differ in capitals alone" in caplog.text
    assert "aapl" in caplog.text


def test_what_is_cleaned_of_standard_input_is_told(caplog):
    lines = _prices(["A", "B"])
    with caplog.at_level(logging.WARNING):
        clean = panel_of_table(parse_table(lines, "the input", PRICE_COLUMNS), SeriesConfig(window=2))
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        doubled = panel_of_table(parse_table([*lines, lines[-1]], "the input", PRICE_COLUMNS), SeriesConfig(window=2))
    assert "the input was cleaned" in caplog.text
    assert "the first row counts)" in caplog.text
    np.testing.assert_array_equal(clean.features, doubled.features)


@pytest.mark.parametrize("kind", ["prices", "features"])
@pytest.mark.parametrize("market_days", [1, 2])
def test_the_fewest_days_of_a_market_are_those_that_are_told(kind, market_days):
    series = SeriesConfig(window=3, market_days=market_days)
    least = least_days(series)[kind == "features"]
    history = generated_prices(num_tickers=1, num_days=60, seed=1)["T00"]
    lines, columns = _prices(["A"]), PRICE_COLUMNS
    if kind == "features":
        columns = PANEL_COLUMNS
        cells = ",".join(["0.5"] * 11)
        rows = zip(history.dates, history.values[:, 3], strict=True)
        lines = [FEATURES[0], *(f"{date},A,{cells},1,{close}" for date, close in rows)]
    for days in (least - 1, least):
        panel = panel_of_table(parse_table(lines[: 1 + days], "the input", columns), series)
        assert np.isfinite(panel.features[-3:]).all() == (days == least)


def test_a_configuration_says_what_a_rise_is_and_how_short_a_history_may_be(tmp_path):
    path = tmp_path / "prices.csv"
    whole = _prices(["A"])
    path.write_text("\n".join(whole) + "\n")
    assert (_open(path).movements != 0).sum() > 10
    assert not open_panel(
        DataConfig(source="files", path=str(path)), SeriesConfig(window=2, rise=90.0, fall=-90.0)
    )[0].movements.any()
    path.write_text("\n".join(whole[:33]) + "\n")
    assert len(_open(path).dates) == 32
    path.write_text("\n".join(whole[:32]) + "\n")
    with pytest.raises(ValueError, match="none of 1 tickers has the 32 days that one window and its features need"):
        _open(path)
