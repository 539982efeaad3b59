"""Rows of CSV: numbered by where they begin, and refused by that number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jaxformer.data.csv_rows import csv_rows

NAME = Path("a.csv")


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_row_has_the_number_of_its_first_line(end):
    lines = [line + end for line in ("a,b", "", '1,"two', 'lines"', "2,x")]
    assert list(csv_rows(lines, NAME)) == [(1, ["a", "b"]), (2, []), (3, ["1", "two\nlines"]), (5, ["2", "x"])]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a", "b\rc"], "a.csv, the row that begins in line 2: new-line character seen in unquoted field: commas"),
        (['"label";"text"'], "a.csv, the row that begins in line 1: ',' expected after '\"': commas separate cells"),
        (["a", '"b', "c"], "a.csv, the row that begins in line 2: unexpected end of data"),
    ],
)
def test_what_is_no_csv_is_refused_by_the_line_of_its_row(lines, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        list(csv_rows(lines, NAME))
