"""Series of several channels in one CSV file: a column `date` and columns of numbers, one row a step.

Cleaning is counted, as that of prices: rows in order, one a step, steps and cells that are missing filled with the last
value that was known, and not scored. Not for windows and statistics (`windows`, `standardize`).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from jaxformer.data.series.table import Table, read_table

_MOST_MISSING = 10
"""As many steps as there are rows, times this, may be filled in; more is a mistake in the dates."""
_MOST_OFF_STEP = 0.05
"""Share of the rows that may lie between two steps; with more, what is filled in would stand for what was measured."""


@dataclasses.dataclass(frozen=True)
class MultivariateSeries:
    """Channels on a regular calendar.

    Attributes:
      dates: datetime64[s] [rows], ascending, one step apart.
      names: of the channels.
      values: float64 [rows, C]; nan before the first value of a channel that is known.
      observed: bool [rows, C], false where the value was filled in.
    """

    dates: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    observed: np.ndarray

    @property
    def step(self) -> np.timedelta64:
        """The time between rows."""
        return commonest_step(self.dates)


@dataclasses.dataclass
class SeriesReport:
    """How many rows were read, dropped, sorted and filled in.

    Attributes:
      read: rows read.
      duplicates: rows dropped: a date that was there already (the first row counts).
      disordered: rows whose date was before that of the row above it; they were sorted.
      off_step: rows dropped: not a whole number of steps after the first.
      missing_steps: steps between first and last row that have none.
      missing_cells: empty cells of rows that are there.
    """

    read: int = 0
    duplicates: int = 0
    disordered: int = 0
    off_step: int = 0
    missing_steps: int = 0
    missing_cells: int = 0

    @property
    def changes(self) -> int:
        """Rows dropped or sorted, steps and cells filled in."""
        return self.duplicates + self.disordered + self.off_step + self.missing_steps + self.missing_cells

    def table(self) -> str:
        """The report as plain text, one rule a line."""
        rows = [
            ("rows read", self.read),
            ("dropped: a date that was there already", self.duplicates),
            ("dropped: between two steps", self.off_step),
            ("sorted: a date before that of the row above", self.disordered),
            ("filled in: steps without a row (not scored)", self.missing_steps),
            ("filled in: empty cells (not scored)", self.missing_cells),
        ]
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {count:>9,}" for label, count in rows)


def commonest_step(dates: np.ndarray) -> np.timedelta64:
    """The commonest time between ascending dates; of several, the shortest.

    Raises:
      ValueError: for fewer than two dates.
    """
    if len(dates) < 2:
        raise ValueError(f"a series needs two rows or more to have a step, got {len(dates)}")
    steps, counts = np.unique(np.diff(dates), return_counts=True)
    return steps[int(counts.argmax())]


def read_series(path: str | os.PathLike[str], channels: Sequence[str] = ()) -> tuple[MultivariateSeries, SeriesReport]:
    """The series in a CSV file, cleaned, and what was cleaned.

    Args:
      path: of the file, plain or `.gz`.
      channels: columns to read, in this order; empty for all but `date`.

    Raises:
      ValueError: a missing column, a cell that is no number or date (row and column are named), a column without a
        number, dates of no regular step, which more than a twentieth of the rows do not keep.
      OSError: the file cannot be read.
    """
    return series_of(read_table(path, required=("date", *channels)), channels)


def series_of(table: Table, channels: Sequence[str] = ()) -> tuple[MultivariateSeries, SeriesReport]:
    """The series in a table; see `read_series`."""
    path = table.path
    names = tuple(channels) or tuple(name for name in table.columns if name != "date")
    if not names:
        raise ValueError(f"{path} has no column beside 'date': a series needs one channel or more")
    report = SeriesReport(read=len(table))
    dates, values = table.dates("date"), np.stack([table.numbers(name) for name in names], axis=1)
    report.disordered = int((np.diff(dates) < np.timedelta64(0)).sum())
    dates, first = np.unique(dates, return_index=True)
    report.duplicates = len(values) - len(dates)
    values = values[first]
    if len(dates) < 2:
        raise ValueError(f"{path} has {len(dates)} date: a series needs two or more")
    for column, name in enumerate(names):
        if np.isnan(values[:, column]).all():
            raise ValueError(f"{path}, column {name!r}: every cell is empty: remove the column")
    return _regular(dates, names, values, report, path), report


def _regular(
    dates: np.ndarray, names: tuple[str, ...], values: np.ndarray, report: SeriesReport, path: str | os.PathLike[str]
) -> MultivariateSeries:
    step = commonest_step(dates)
    places, remainder = np.divmod(dates - dates[0], step)
    places, on_step = places.astype(int), remainder == np.timedelta64(0)
    total = int(places[-1]) + 1
    if total > _MOST_MISSING * len(dates):
        raise ValueError(
            f"{path}: from {dates[0]} to {dates[-1]} there are {total:,} steps of {step}, but {len(dates):,} rows: the "
            "dates have no regular step"
        )
    report.off_step = int((~on_step).sum())
    if report.off_step > _MOST_OFF_STEP * len(dates):
        raise ValueError(
            f"{path}: {report.off_step:,} of {len(dates):,} rows do not lie a whole number of steps of {step} after "
            f"the first, {dates[0]}: the dates have no regular step; remove the first rows if they are the odd ones, "
            "or give rows at equal distances (months have none: number them by days that have)"
        )
    places, values = places[on_step], values[on_step]
    report.missing_steps = total - len(places)
    report.missing_cells = int(np.isnan(values).sum())
    filled = np.full((total, len(names)), np.nan)
    filled[places] = values
    observed = ~np.isnan(filled)
    # The row of the last value that was known, -1 for none yet.
    last = np.maximum.accumulate(np.where(observed, np.arange(total)[:, None], -1), axis=0)
    carried = np.take_along_axis(filled, np.maximum(last, 0), axis=0)
    return MultivariateSeries(
        dates[0] + step * np.arange(total), names, np.where(last >= 0, carried, np.nan), observed
    )


def write_series(path: str | os.PathLike[str], series: MultivariateSeries) -> None:
    """Writes `series` as a CSV file that `read_series` reads.

    Raises:
      OSError: the file cannot be written.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(",".join(("date", *series.names)) + "\n")
        for date, row in zip(series.dates, series.values, strict=True):
            cells = ("" if np.isnan(value) else repr(float(value)) for value in row)
            file.write(",".join((str(date).replace("T", " "), *cells)) + "\n")
