"""Daily prices as files have them: date, open, high, low, close, adjusted close and volume of every ticker.

One file with a column `ticker`, or a folder of files, of which those without that column hold one ticker each and are
named after it (`AAPL.csv`, `BRK.B.csv.gz`). Not for cleaning (`price_cleaning`): rows are in the order of the file,
doubled or missing.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from jaxformer.data.series.table import Table, read_table, table_paths

COLUMNS = ("open", "high", "low", "close", "adj_close", "volume")
OPEN, HIGH, LOW, CLOSE, ADJ_CLOSE, VOLUME = range(len(COLUMNS))
PRICE_COLUMNS = ("date", *COLUMNS)
PRICES = slice(OPEN, ADJ_CLOSE + 1)
"""The columns that are prices, of which none may be 0."""


@dataclasses.dataclass(frozen=True)
class PriceHistory:
    """The days of one ticker.

    Attributes:
      dates: datetime64[D] [days].
      values: float64 [days, 6], the `COLUMNS`, prices in the currency of the file; nan where a cell was empty.
    """

    dates: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.dates)


def read_prices(path: str | os.PathLike[str]) -> dict[str, PriceHistory]:
    """The rows of every ticker, tickers in alphabetical order, rows in the order of the files.

    Args:
      path: a CSV file with the columns date, ticker, open, high, low, close, adj_close, volume, or a folder of many.

    Raises:
      ValueError: a column that is missing, a cell that is neither number nor date, or a date with a time of day (row
        and column are named), a ticker without a name.
      OSError: a file cannot be read.
    """
    paths, many = table_paths(path), Path(path).is_dir()
    pieces: dict[str, list[PriceHistory]] = {}
    for file in paths:
        table = read_table(file, required=PRICE_COLUMNS)
        own = file.name.removesuffix(".gz").removesuffix(".csv")
        for ticker, history in histories_of(table, single=own if many else ""):
            pieces.setdefault(ticker, []).append(history)
    return {ticker: _joined(pieces[ticker]) for ticker in sorted(pieces)}


def histories_of(table: Table, single: str = "") -> list[tuple[str, PriceHistory]]:
    """The rows of a table by ticker; `single`: the ticker of a table without a column for it."""
    dates = table.days("date")
    values = np.stack([table.numbers(name) for name in COLUMNS], axis=1)
    if "ticker" not in table.columns:
        if not single:
            raise ValueError(
                f"{table.path} has no column 'ticker': add one, or give a folder of files named after their tickers"
            )
        return [(single, PriceHistory(dates, values))]
    tickers = np.array([cell.strip() for cell in table.columns["ticker"]])
    check_named(table, tickers)
    found = []
    for ticker in np.unique(tickers):
        own = tickers == ticker
        found.append((str(ticker), PriceHistory(dates[own], values[own])))
    return found


def check_named(table: Table, tickers: np.ndarray) -> None:
    """Refuses a row of `table` whose ticker is empty.

    Raises:
      ValueError: naming the row.
    """
    if (tickers == "").any():
        row = table.rows[int((tickers == "").argmax())]
        raise ValueError(f"{table.path}, row {row}, column 'ticker': expected a name, got an empty cell: fill it in")


def _joined(pieces: list[PriceHistory]) -> PriceHistory:
    if len(pieces) == 1:
        return pieces[0]
    return PriceHistory(
        np.concatenate([piece.dates for piece in pieces]), np.concatenate([piece.values for piece in pieces])
    )
