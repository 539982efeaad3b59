"""Tables of numbers and dates in CSV files, plain or `.gz`: every cell that is neither is refused by row and column.

An empty cell, or one that says `nan`, `na` or `null`, is a missing number, which the caller counts; anything else that
is no number is a mistake in the file. Not for what the columns mean.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxformer.config import nearest
from jaxformer.data.csv_rows import csv_rows
from jaxformer.data.text import read_lines

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.0+)?)?)?")
_MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-"})
LARGEST = 1e15
"""No number of a table may be further from 0: its square would be beyond float32, and all others nothing beside it."""


@dataclasses.dataclass(frozen=True)
class Table:
    """The cells of a CSV file.

    Attributes:
      path: of the file, for messages.
      columns: text by column name, in the order of the file.
      rows: the line number, from 1, of every row, for messages.
    """

    path: Path
    columns: dict[str, list[str]]
    rows: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    def numbers(self, name: str) -> np.ndarray:
        """The column `name` as float64 [rows], nan where the cell is missing.

        Raises:
          ValueError: for a cell that is no number, or one beyond `LARGEST`, naming row and column.
        """
        cells = self.columns[name]
        try:
            values = np.array(cells, np.float64)  # accepts what `float` does
        except ValueError:
            values = np.array([self._number(name, place) for place in range(len(cells))], np.float64)
        if (beyond := np.abs(values) > LARGEST).any():
            raise self._refused(name, int(beyond.argmax()), f"a number from {-LARGEST:g} to {LARGEST:g}")
        return values

    def _number(self, name: str, place: int) -> float:
        cell = self.columns[name][place].strip()
        if cell.lower() in _MISSING:
            return float("nan")
        try:
            return float(cell)
        except ValueError:
            raise self._refused(name, place, "a number") from None

    def dates(self, name: str = "date") -> np.ndarray:
        """The column `name` as datetime64[s] [rows].

        Raises:
          ValueError: for a cell that is no date as ISO 8601 writes it, naming row and column.
        """
        cells = [cell.strip() for cell in self.columns[name]]
        for place, cell in enumerate(cells):
            if not _DATE.fullmatch(cell):
                raise self._refused(name, place, "a date such as 2016-01-31 or 2016-01-31 18:00:00")
        try:
            return np.array(cells, "datetime64[s]")
        except ValueError:
            for place, cell in enumerate(cells):
                try:
                    np.datetime64(cell, "s")
                except ValueError:
                    raise self._refused(name, place, "a date that the calendar has") from None
            raise

    def days(self, name: str = "date") -> np.ndarray:
        """The column `name` as datetime64[D] [rows].

        Raises:
          ValueError: for a cell that is no date, or one with a time of day other than midnight, naming row and column.
        """
        dates = self.dates(name)
        days = dates.astype("datetime64[D]")
        if (timed := dates != days).any():
            place = int(timed.argmax())
            raise ValueError(
                f"{self.path}, row {self.rows[place]}, column {name!r}: expected a day, got "
                f"{self.columns[name][place]!r} with a time: give one row a day, with its date alone"
            )
        return days

    def _refused(self, name: str, place: int, wanted: str) -> ValueError:
        cell = self.columns[name][place]
        return ValueError(
            f"{self.path}, row {self.rows[place]}, column {name!r}: expected {wanted}, got {cell!r}: "
            "mend the cell, or leave it empty if the value is not known"
        )


def read_table(path: str | os.PathLike[str], required: Sequence[str] = ()) -> Table:
    """The table in a CSV file whose first line names its columns; columns of any order, and further ones, may stand.

    Args:
      path: of the file; read as gzip if it ends in `.gz`.
      required: columns that must be there.

    Raises:
      ValueError: no rows, a column that is missing or named twice, a row of another number of cells, quotes or ends of
        lines that are none of CSV; text that is not UTF-8.
      OSError: the file cannot be read.
    """
    return parse_table(read_lines(path), path, required)


def parse_table(lines: Iterable[str], name: str | os.PathLike[str], required: Sequence[str] = ()) -> Table:
    """The table in the lines of a CSV file; `name` is what messages call it. See `read_table`."""
    path = Path(name)
    rows_read = csv_rows(lines, path)
    _, first = next(rows_read, (1, []))
    written = [name.strip() for name in first]
    # Capitals make no difference, but where columns differ by nothing else.
    wanted_small = set(required) - set(written)
    header = [name.lower() if name.lower() in wanted_small and name not in required else name for name in written]
    if not header:
        raise ValueError(f"{path} is empty: expected a line of column names, and rows after it")
    for wanted in required:
        if wanted not in header:
            raise ValueError(f"{path} has no column {wanted!r}: it has {', '.join(header)}; {_rename(wanted, header)}")
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise ValueError(f"{path} names the column {doubled[0]!r} twice: rename one of them in the first line")
    cells, rows = [], []
    for number, row in rows_read:
        if not row:  # an empty line
            continue
        if len(row) != len(header):
            raise ValueError(
                f"{path}, row {number}: {len(row)} cells, but the first line names {len(header)} columns: mend the row"
            )
        cells.append(row)
        rows.append(number)
    if not cells:
        raise ValueError(f"{path} has column names but no rows: nothing can be learnt from it")
    return Table(path, dict(zip(header, map(list, zip(*cells, strict=True)), strict=True)), rows)


def column_names(lines: Iterable[str], path: Path) -> list[str]:
    """The names in the first of the lines of a CSV file, in small letters."""
    _, names = next(csv_rows(lines, path), (1, []))
    return [name.strip().lower() for name in names]


def _rename(name: str, header: Sequence[str]) -> str:
    near = nearest(name, header).partition("Did you mean ")[2].strip("'?\" ")
    return f"rename {near!r} to {name!r} in its first line?" if near else f"add one named {name!r}"


def table_paths(path: str | os.PathLike[str]) -> list[Path]:
    """The CSV files that `path` means: itself, or all `*.csv` and `*.csv.gz` in it, by name.

    Raises:
      OSError: there is no such file or folder.
      ValueError: a folder without tables.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: give a CSV file or a folder of them as --config.data.path")
        return [path]
    found = sorted(entry for entry in path.iterdir() if entry.name.endswith((".csv", ".csv.gz")))
    if not found:
        raise ValueError(f"{path} holds no file that ends in .csv or .csv.gz: name another as --config.data.path")
    return found
