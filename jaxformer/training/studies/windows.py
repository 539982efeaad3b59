"""What studies of prices and of series share: splits of windows, and text that is CSV.

Not for what the windows hold (`data.series`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.data.series.datasets import WindowRecords
from jaxformer.data.series.splitting import Periods, held_out, split_rows
from jaxformer.data.series.table import Table, column_names, parse_table
from jaxformer.training.studies.records import LabelledFacts, Split

STANDARD_INPUT = "the input"


@dataclasses.dataclass(frozen=True)
class WindowSplit(Split):
    """A split of windows; `raw` are their numbers.

    Attributes:
      windows: `PriceWindows` or `SeriesWindows`.
    """

    windows: Any = None

    @classmethod
    def of(cls, windows: Any) -> WindowSplit:
        """All of `windows`."""
        records: Any = WindowRecords(windows)
        return cls(records, records.numbers, windows)

    @property
    def numbers(self) -> np.ndarray:
        """int [n], of the windows of this split."""
        return np.asarray(self.raw)


def table_of(lines: Iterable[str], required: Any = ()) -> Table:
    """The table that standard input holds; `required`: column names, or what finds them from those that there are.

    Raises:
      ValueError: naming row and column.
    """
    rows = list(lines)
    if rows:
        rows[0] = rows[0].removeprefix("\ufeff")
    wanted = required(column_names(rows, Path(STANDARD_INPUT))) if callable(required) else required
    return parse_table(rows, STANDARD_INPUT, wanted)


def evaluation_periods(dates: np.ndarray, facts: LabelledFacts, split: str) -> Periods:
    """Validation and test of a trained run, by the borders that it remembers.

    A run that began before borders were kept applies `split` to whatever `dates` there are.

    Raises:
      ValueError: for dates of which none is in either.
    """
    if borders := facts.values.get("borders"):
        return held_out(dates, borders)
    return {name: rows for name, rows in split_rows(dates, split).items() if name != "train"}


def csv_number(value: float) -> str:
    """Six digits; empty for nan."""
    return "" if np.isnan(value) else f"{value:.6g}"


def check_length(max_length: int, positions: int) -> None:
    """Refuses a `data.max_length` that is not the length of the windows.

    Raises:
      ValueError: with the one that is.
    """
    if max_length != positions:
        raise ValueError(
            f"data.max_length={max_length}, but every window has {positions} positions: set "
            f"--config.data.max_length={positions}"
        )
