"""The rows of CSV text, with what is wrong in them said by line. Not for what the cells mean."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from jaxformer.data.text import LONGEST_LINE


def csv_rows(lines: Iterable[str], path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each row's first line, from 1, and its cells; none for an empty line.

    Args:
      lines: with or without their ends.
      path: of the file, for messages.

    Raises:
      ValueError: for quotes or ends of lines that are none of CSV.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))  # 131,072 otherwise
    reader = csv.reader((line.removesuffix("\n") + "\n" for line in lines), strict=True)
    start = 1
    try:
        for row in reader:
            yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        what = str(error).partition(" - ")[0]
        raise ValueError(
            f"{path}, the row that begins in line {start}: {what}: commas separate cells, a cell that begins with a "
            'quote must end with one, and hold others doubled (""), and lines end in LF or CRLF: mend it, or save the '
            "file again as CSV"
        ) from None
