"""What a configuration means by its data: the panel of prices or the series that it names, cleaned, with a report.

Formats are told apart by the columns of a file. Not for windows (`datasets`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from jaxformer.config import DataConfig, SeriesConfig
from jaxformer.data.series.features import HISTORY
from jaxformer.data.series.generator import generated_prices, generated_series
from jaxformer.data.series.multivariate import MultivariateSeries, SeriesReport, read_series
from jaxformer.data.series.panel import PANEL_COLUMNS, Panel, features_of, panel_of_prices
from jaxformer.data.series.price_cleaning import PriceReport, clean_prices
from jaxformer.data.series.prices import PRICE_COLUMNS, PriceHistory, histories_of, read_prices
from jaxformer.data.series.table import Table, column_names, read_table, table_paths
from jaxformer.data.text import open_text
from jaxformer.paths import expanded

_LOGGER = logging.getLogger(__name__)
PRICE_DAYS, SERIES_ROWS = 1500, 4000
"""Days and rows that are generated where the configuration does not say how many."""


def check_source(data: DataConfig, kind: str) -> None:
    """Refuses sources that prices and series do not come from, before anything is read.

    Raises:
      ValueError: with what to set.
    """
    if data.source == "tfds":
        raise ValueError(
            f"data.source=tfds is for text, and task.kind={kind}: set --config.data.source=files, or bundled"
        )
    if data.source == "files" and not data.path:
        raise ValueError("data.source=files needs a CSV file or a folder of them: set --config.data.path=FILE")
    if data.source == "files" and data.num_examples:
        raise ValueError(
            f"data.num_examples={data.num_examples} is how much is generated, and data.source=files: set 0, and choose "
            "periods with --config.series.split"
        )


def open_panel(data: DataConfig, series: SeriesConfig) -> tuple[Panel, str]:
    """The panel, and what cleaning found.

    Raises:
      ValueError: for files that hold something else, naming row and column.
      OSError: a file cannot be read.
    """
    if data.source == "bundled":
        generated = generated_prices(num_days=data.num_examples or PRICE_DAYS, seed=data.seed)
        return _told(*_cleaned(generated, series))
    path = expanded(data.path)
    if holds_features(first_columns(path)):
        files = table_paths(path)
        if len(files) > 1:
            raise ValueError(
                f"{path} is a folder of {len(files)} files, of which the first holds features: join them into one file "
                "under one line of names, and give that as --config.data.path"
            )
        panel = features_of(read_table(files[0], required=PANEL_COLUMNS))
        return _of_features(panel, series), features_report(panel)
    return _told(*_cleaned(read_prices(path), series))


def panel_of_table(table: Table, series: SeriesConfig) -> Panel:
    """The panel of a table that is not a file, such as standard input; what cleaning found is told in a warning."""
    if holds_features(list(table.columns)):
        return _of_features(features_of(table), series)
    panel, report = _cleaned(dict(sorted(histories_of(table))), series)
    if report.changes:
        _LOGGER.warning("%s was cleaned:\n%s", table.path, report.table())
    return panel


def holds_features(columns: list[str]) -> bool:
    """Whether a table has features already, and not prices."""
    return "f0" in columns or ("label" in columns and "open" not in columns)


def required_columns(columns: list[str]) -> tuple[str, ...]:
    """The columns that a table of prices, or of features, must have."""
    return PANEL_COLUMNS if holds_features(columns) else PRICE_COLUMNS


def first_columns(path: Path) -> list[str]:
    """The names of the columns of a file, or of the first file of a folder."""
    first = table_paths(path)[0]
    with open_text(first) as file:
        return column_names(file, first)


def features_report(panel: Panel) -> str:
    """Of a file of features there is nothing to clean: what is there."""
    scored = int((panel.movements != 0).sum())
    return f"days  {len(panel.dates):,}\ntickers  {len(panel.tickers):,}\nscored days of tickers  {scored:,}"


def least_days(series: SeriesConfig) -> tuple[int, int]:
    """Days that a first prediction needs, without a gap: of prices, and of a file of features."""
    days = series.window
    if series.market_days:
        days += series.window + series.market_days - 1  # a market of tickers that are settled, on so many days
    return HISTORY - 1 + days, days


def _of_features(panel: Panel, series: SeriesConfig) -> Panel:
    # As if its rows had been made from prices; the first HISTORY - 1 are missing.
    return panel.with_market(series.market_days, settled=series.window + 1)


def _told(panel: Panel, report: PriceReport) -> tuple[Panel, str]:
    return panel, report.table()


def _warn_of_case(tickers: Iterable[str]) -> None:
    """Says so where names of tickers differ in nothing but capitals."""
    counts = Counter(map(str.casefold, tickers))
    if doubled := sorted(name for name, count in counts.items() if count > 1):
        _LOGGER.warning(
            "tickers that differ in capitals alone are taken for different ones: %s, in both; write each in one way if "
            "they are the same", ", ".join(doubled[:5]),
        )  # fmt: skip


def _cleaned(histories: dict[str, PriceHistory], series: SeriesConfig) -> tuple[Panel, PriceReport]:
    _warn_of_case(histories)
    least = HISTORY + series.window
    prices, report = clean_prices(histories, min_days=least)
    panel = panel_of_prices(prices, rise=series.rise, fall=series.fall)
    return panel.with_market(series.market_days, settled=least), report


def open_series(data: DataConfig) -> tuple[MultivariateSeries, SeriesReport]:
    """The series, and what cleaning found.

    Raises:
      ValueError: for a folder, or a file that holds something else, naming row and column.
      OSError: a file cannot be read.
    """
    if data.source == "bundled":
        found = generated_series(num_rows=data.num_examples or SERIES_ROWS, seed=data.seed)
        return found, SeriesReport(read=len(found.values))
    path = expanded(data.path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: a series is one CSV file, name it with --config.data.path=FILE")
    return read_series(path)
