"""Features, returns and movements of several tickers on one calendar: from prices, or from a file of features.

Row t says what is known when day t has closed, and what happened on it. Not for windows (`windows`), which put the one
before the other.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from jaxformer.data.series.features import FALL, NAMES, RISE, day_features, day_returns, movements
from jaxformer.data.series.price_cleaning import AlignedPrices
from jaxformer.data.series.prices import ADJ_CLOSE, check_named
from jaxformer.data.series.table import Table, read_table

FEATURE_COLUMNS = tuple(f"f{number}" for number in range(len(NAMES)))
PANEL_COLUMNS = ("date", "ticker", *FEATURE_COLUMNS, "label", "adj_close")


@dataclasses.dataclass(frozen=True)
class Panel:
    """Days of tickers.

    Attributes:
      dates: datetime64[D] [days], ascending.
      tickers: names.
      features: float32 [days, tickers, C], not standardised; nan where they are not known. The first are those of
        `features.NAMES`; others may follow (`with_market`).
      returns: float64 [days, tickers], in per cent of the day before; nan where they are not known.
      movements: int8 [days, tickers], +1, -1, or 0: not scored.
    """

    dates: np.ndarray
    tickers: tuple[str, ...]
    features: np.ndarray
    returns: np.ndarray
    movements: np.ndarray

    def before(self, date: np.datetime64 | str) -> int:
        """How many days lie before `date`."""
        return int(np.searchsorted(self.dates, np.datetime64(str(date), "D")))

    def with_market(self, days: int, *, settled: int = 1) -> Panel:
        """The same with what the market did among the features of every ticker (its global context: Yoo et al. 2021).

        That is the mean return of all tickers on the day itself and on those before it: C + `days` features in all.

        Args:
          days: how many returns; 0 for the panel as it is.
          settled: with so many rows of its own a ticker begins to count. Where short histories are left out of a panel,
            a ticker must count no earlier, or the past would hang on how long it goes on being traded.
        """
        if not days:
            return self
        rows = np.isfinite(self.features).any(axis=-1)  # days that were filled in have no features
        counts = np.isfinite(self.returns) & (rows.cumsum(axis=0) >= settled)
        total = np.where(counts, self.returns, 0.0).sum(axis=1)
        market = np.where(counts.any(axis=1), total / np.maximum(counts.sum(axis=1), 1), np.nan)
        lagged = np.full((len(market), days), np.nan, np.float32)
        for lag in range(min(days, len(market))):
            lagged[lag:, lag] = market[: len(market) - lag]
        beside = np.broadcast_to(lagged[:, None], (*self.returns.shape, days))
        return dataclasses.replace(self, features=np.concatenate([self.features, beside], axis=-1))


def panel_of_prices(prices: AlignedPrices, *, rise: float = RISE, fall: float = FALL) -> Panel:
    """The features of `prices`; days that were filled in have none and are not scored, nor are those after them.

    Whether a day without a row is filled in depends on whether a later row follows, so that such a day may be in no
    window and in no statistic: its price serves the averages of later days alone.
    """
    returns = day_returns(prices.values[..., ADJ_CLOSE])
    known = prices.observed.copy()
    known[1:] &= prices.observed[:-1]
    known[0] = False
    returns[~known] = np.nan
    features = day_features(prices.values)
    features[~prices.observed] = np.nan
    return Panel(prices.dates, prices.tickers, features, returns, movements(returns, rise=rise, fall=fall))


def read_features(path: str | os.PathLike[str]) -> Panel:
    """The panel in a CSV file with the columns date, ticker, f0 to f10, label and adj_close.

    The label of a row is the movement of its own day, as in the files of Feng et al. 2019.

    Raises:
      ValueError: a missing column, a cell that is no number or date, an empty one, a price that is not above 0, a label
        that is not 1, 0 or -1, a date that a ticker has twice; row and column are named.
      OSError: the file cannot be read.
    """
    return features_of(read_table(path, required=PANEL_COLUMNS))


def features_of(table: Table) -> Panel:
    """The panel in a table with the `PANEL_COLUMNS`; see `read_features`."""
    days = table.days("date")
    names = np.array([cell.strip() for cell in table.columns["ticker"]])
    check_named(table, names)
    columns = {name: _complete(table, name) for name in (*FEATURE_COLUMNS, "label", "adj_close")}
    if (impossible := columns["adj_close"] <= 0).any():
        place = int(impossible.argmax())
        raise ValueError(
            f"{table.path}, row {table.rows[place]}, column 'adj_close': expected a price above 0, got "
            f"{table.columns['adj_close'][place]!r}: leave out the row"
        )
    wrong = ~np.isin(columns["label"], (-1, 0, 1))
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(
            f"{table.path}, row {table.rows[place]}, column 'label': expected 1 (rise), -1 (fall) or 0 (not scored), "
            f"got {table.columns['label'][place]!r}"
        )
    dates, row = np.unique(days, return_inverse=True)
    tickers, column = np.unique(names, return_inverse=True)
    _check_once(table, row * len(tickers) + column)
    features = np.full((len(dates), len(tickers), len(NAMES)), np.nan, np.float32)
    features[row, column] = np.stack([columns[name] for name in FEATURE_COLUMNS], axis=1)
    adjusted = np.full((len(dates), len(tickers)), np.nan)
    adjusted[row, column] = columns["adj_close"]
    labels = np.zeros((len(dates), len(tickers)), np.int8)
    labels[row, column] = columns["label"]
    return Panel(dates, tuple(map(str, tickers)), features, day_returns(adjusted), labels)


def _complete(table: Table, name: str) -> np.ndarray:
    values = table.numbers(name)
    if np.isnan(values).any():
        row = table.rows[int(np.isnan(values).argmax())]
        raise ValueError(f"{table.path}, row {row}, column {name!r}: a feature is missing: leave out the row")
    return values


def _check_once(table: Table, keys: np.ndarray) -> None:
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    if (counts > 1).any():
        place = int(first[int((counts > 1).argmax())])
        raise ValueError(
            f"{table.path}: ticker {table.columns['ticker'][place]!r} has {table.columns['date'][place]} more than "
            f"once (first in row {table.rows[place]}): leave one row"
        )
