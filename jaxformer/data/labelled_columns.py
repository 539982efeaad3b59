"""Which columns of a table of labelled texts hold labels and texts: as a header says, or the first and the second.

A header whose names are not known would be taken for a record, and texts for labels: what looks so is refused. Not for
files (`labelled_text`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_LABEL_COLUMNS = ("label", "labels", "sentiment", "class", "category", "polarity")
_TEXT_COLUMNS = ("sentence", "text", "review", "phrase", "content")
_FEWEST_BELOW_A_HEADER, _FEWEST_TEXTS = 5, 20
"""Rows from which on a first row is seen to be a header, and a first column to hold texts."""
_TEXTS = 0.9
"""More of the rows than this have a label of their own where the first column holds texts."""


class NoLabelsError(ValueError):
    """A table with a column of texts, and none of labels."""


class Columns(NamedTuple):
    """Where the columns of a table are.

    Attributes:
      label, text: their positions.
      width: how many columns there are.
      header: whether the first row names them.
    """

    label: int
    text: int
    width: int
    header: bool


def is_csv(path: Path) -> bool:
    """Whether commas separate the columns of a file of this name, not tabs."""
    return path.name.removesuffix(".gz").endswith(".csv")


def columns_of(path: Path, first: Sequence[str]) -> Columns:
    """The columns of the table in `path`, whose first row is `first`.

    Raises:
      NoLabelsError: if it is a header that names texts and no labels.
      ValueError: if it is one that names labels and no texts, or either of them twice.
    """
    cells = [cell.strip().casefold() for cell in first]
    label = next((cells.index(name) for name in _LABEL_COLUMNS if name in cells), None)
    text = next((cells.index(name) for name in _TEXT_COLUMNS if name in cells), None)
    if label is not None and text is not None:
        for name in (cells[label], cells[text]):
            if cells.count(name) > 1:
                raise ValueError(f"{path} names the column {name!r} twice: rename one of them in the first line")
        return Columns(label, text, len(cells), header=True)
    short = all(len(cell.split()) == 1 for cell in cells)
    if short and len(cells) > 1 and (label is not None or text is not None):
        columns = f"{path} has the columns {', '.join(first)}, and none of them is the"
        if label is None:
            raise NoLabelsError(
                f"{columns} label: call one {' or '.join(_LABEL_COLUMNS)}, or name a file that has labels; texts "
                "without any are for --mode=predict"
            )
        raise ValueError(f"{columns} text: call one {' or '.join(_TEXT_COLUMNS)}")
    return Columns(0, 1, 2, header=False)


def check_width(path: Path, number: int, row: Sequence[str], columns: Columns, first: Sequence[str]) -> None:
    """Refuses a row of another number of columns.

    Args:
      path: of the table.
      number: of the row's line.
      row: its cells.
      columns: of the table.
      first: its first row.

    Raises:
      ValueError: with the line, and what separates the columns of such a file.
    """
    if len(row) == columns.width:
        return
    expected = f"{path}, line {number}: expected {columns.width} columns"
    if columns.header:
        raise ValueError(f"{expected}, as the header has, found {len(row)}")
    separator, where = ("a comma", "in .csv") if is_csv(path) else ("a tab", "in all files but .csv")
    hint = "give each record as a label and a text, or name all columns in a header"
    if ";" in first[0]:
        hint = f"its first line has semicolons, which separate nothing in such a file: write {separator} for each"
    elif len(first) < 2:
        hint = f"its first line has no {separator.split()[1]}: put a label and {separator} before each text"
    raise ValueError(
        f"{expected}, {pattern(path)}, with {separator} between them, as {where}, found {len(row)}; {hint}"
    )


def pattern(path: Path) -> str:
    """What a line of a file of this name without a header looks like, and what a header may be."""
    return "label,text" if is_csv(path) else "label<TAB>text"


def check_labels(path: Path, labels: Sequence[str]) -> None:
    """Refuses a table without a known header whose labels look as if one had not been known.

    Args:
      path: of the table.
      labels: of all its rows, in their order.

    Raises:
      ValueError: if the first label stands in the first row alone and every other one in several, or if nearly every
        row has a label of its own.
    """
    counts = Counter(label.strip().casefold() for label in labels)
    once = sum(count == 1 for count in counts.values())
    remedy = (
        f"call the column of labels {' or '.join(_LABEL_COLUMNS)} and that of texts {' or '.join(_TEXT_COLUMNS)} in "
        f"its first line; if that is a record, put a line `{pattern(path)}` above it"
    )
    if len(labels) >= _FEWEST_BELOW_A_HEADER and once == 1 and counts[labels[0].strip().casefold()] == 1:
        raise ValueError(
            f"the first line of {path} looks like a header: {labels[0].strip()!r} is the label of no other line, and "
            f"all other labels stand in several: {remedy}"
        )
    if len(labels) >= _FEWEST_TEXTS and once > _TEXTS * len(labels):
        raise ValueError(
            f"the first column of {path} looks like texts, not labels: {once} of {len(labels)} lines have one that no "
            f"other line has, and {labels[0].strip()[:40]!r} is the first: {remedy}"
        )
