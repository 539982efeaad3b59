"""Training, validation and test as periods of time, one after another: no day of a later one is in an earlier one.

Not for windows, whose inputs may reach back before their period (`windows`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "validation", "test")
Periods = dict[str, tuple[int, int]]
"""Name of a split -> its rows [first, last)."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def split_rows(dates: np.ndarray, split: str) -> Periods:
    """The rows of training, validation and test.

    Args:
      dates: datetime64 [rows], ascending.
      split: three numbers with commas between them, rows (`8640,2880,2880`) or shares (`0.7,0.1,0.2`), one period after
        another from the first row, what is left over not being used; or two dates (`2015-01-02,2016-01-04`), on which
        validation and test begin.

    Raises:
      ValueError: for anything else, for periods without rows, and for more rows than there are.
    """
    parts = [part.strip() for part in split.split(",")]
    if len(parts) == 2 and all(_DATE.fullmatch(part) for part in parts):
        return _by_date(dates, split, parts)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(0 < number < np.inf for number in numbers):
        raise ValueError(
            f"series.split={split!r} is neither three numbers above 0, such as 8640,2880,2880 or 0.7,0.1,0.2, nor two "
            "dates, such as 2015-01-02,2016-01-04"
        )
    shares = sum(numbers) <= 1 + 1e-9
    if not shares and any(number != int(number) for number in numbers):
        raise ValueError(f"series.split={split!r} has shares that sum to more than 1: lower one of them")
    sizes = np.floor(np.array(numbers) * len(dates) + 1e-9) if shares else np.array(numbers)
    ends = np.cumsum(sizes).astype(int)
    if ends[-1] > len(dates):
        raise ValueError(
            f"series.split={split!r} needs {ends[-1]:,} rows, but there are {len(dates):,}: lower the numbers, or give "
            "shares such as 0.7,0.1,0.2"
        )
    return _periods(split, [0, *ends.tolist()])


def borders_of(dates: np.ndarray, periods: Periods) -> list[str]:
    """The dates on which validation and test begin, and that after the test if there is one: what a run remembers."""
    rows = [periods["validation"][0], *periods["test"]]
    return [str(dates[row]) for row in rows if row < len(dates)]


def held_out(dates: np.ndarray, borders: Sequence[str]) -> Periods:
    """The validation and test period in any rows, by the borders of the run: no day of its training is in them.

    Args:
      dates: datetime64 [rows], ascending.
      borders: of `borders_of`.

    Returns:
      Those of the two that have a row.

    Raises:
      ValueError: if neither has one.
    """
    rows = [*np.searchsorted(dates, np.array(borders, "datetime64[s]")).tolist(), len(dates)][:3]
    pairs = zip(SPLITS[1:], itertools.pairwise(rows), strict=True)
    found = {name: (first, last) for name, (first, last) in pairs if first < last}
    if not found:
        end = f" and before {borders[2]}" if len(borders) > 2 else ""
        raise ValueError(
            f"the data is from {dates[0]} to {dates[-1]}, but the run was trained to be scored from {borders[0]} "
            f"on{end}: name a file with such days with --config.data.path"
        )
    return found


def _by_date(dates: np.ndarray, split: str, parts: list[str]) -> Periods:
    try:
        first, second = (np.datetime64(part) for part in parts)
    except ValueError as error:
        raise ValueError(f"series.split={split!r} has a date that the calendar lacks: {error}") from None
    if not first < second:
        raise ValueError(f"series.split={split!r}: validation begins before the test, so the earlier date comes first")
    borders = np.searchsorted(dates, [first, second]).tolist()
    return _periods(f"{split} (the data is from {dates[0]} to {dates[-1]})", [0, *borders, len(dates)])


def _periods(split: str, borders: list[int]) -> Periods:
    found = dict(zip(SPLITS, itertools.pairwise(borders), strict=True))
    for name, (first, last) in found.items():
        if first >= last:
            raise ValueError(f"series.split={split} leaves no row for {name}: choose other periods")
    return found
