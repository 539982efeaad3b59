"""CSV files of numbers: what is wrong is said by row and column."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest

from jaxformer.data.series.table import parse_table, read_table, table_paths

TEXT = "date,ticker,close\n2016-01-04,AAA,1.5\n\n2016-01-05,AAA,\n2016-01-06,BBB,nan\n"


def _written(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_cells_are_numbers_dates_and_text(tmp_path):
    table = read_table(_written(tmp_path, TEXT), required=("date", "close"))
    assert len(table) == 3
    assert table.columns["ticker"] == ["AAA", "AAA", "BBB"]
    np.testing.assert_array_equal(table.numbers("close"), [1.5, np.nan, np.nan])
    assert table.dates().astype(str).tolist() == [f"2016-01-0{day}T00:00:00" for day in (4, 5, 6)]


def test_a_gzip_file_and_names_of_other_case_are_read(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(TEXT.replace("date", "Date").encode()))
    assert len(read_table(path, required=("date",)).dates()) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1.5", "1,5", "row 2: 4 cells, but the first line names 3 columns"),
        ("1.5", "one", "row 2, column 'close': expected a number, got 'one'"),
        ("nan", "inf", "row 5, column 'close': expected a number from -1e+15 to 1e+15, got 'inf'"),
        ("nan", "-1e300", "row 5, column 'close': expected a number from -1e+15 to 1e+15, got '-1e300'"),
        ("\n", "\r", "the row that begins in line 1: new-line character seen in unquoted field: commas separate cells"),
        ("2016-01-05", "05.01.2016", "row 4, column 'date': expected a date such as 2016-01-31"),
        ("2016-01-05", "2016-02-30", "row 4, column 'date': expected a date that the calendar has, got '2016-02-30'"),
        ("2016-01-05", "today", "row 4, column 'date': expected a date such as 2016-01-31"),
        ("close", "clos", "has no column 'close': it has date, ticker, clos; rename 'clos' to 'close'"),
        ("ticker", "close", "names the column 'close' twice"),
        (TEXT, "date,close\n", "has column names but no rows"),
        (TEXT, "", "is empty"),
    ],
)
def test_what_is_wrong_is_said_by_row_and_column(tmp_path, old, new, message):
    path = tmp_path / "table.csv"
    path.write_bytes(TEXT.replace(old, new).encode())

    def read():
        table = read_table(path, required=("date", "close"))
        return table.numbers("close"), table.dates()

    with pytest.raises(ValueError, match=re.escape(message)):
        read()


def test_a_folder_means_its_tables_by_name(tmp_path):
    for name in ("b.csv", "a.csv.gz", "notes.txt"):
        _written(tmp_path, TEXT, name)
    assert [path.name for path in table_paths(tmp_path)] == ["a.csv.gz", "b.csv"]
    assert table_paths(tmp_path / "b.csv") == [tmp_path / "b.csv"]
    with pytest.raises(FileNotFoundError, match="does not exist: give a CSV file or a folder"):
        table_paths(tmp_path / "c.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no file that ends in \.csv"):
        table_paths(tmp_path / "empty")


def test_a_cell_may_be_as_long_as_a_line(tmp_path):
    note = "x" * 200_000  # more than the module `csv` takes by itself
    assert read_table(_written(tmp_path, f"date,note\n2016-01-04,{note}\n")).columns["note"] == [note]


def test_columns_that_differ_in_capitals_alone_are_told_apart():
    lines = ["Date,T,t\n", "2020-01-01,1,2\n"]
    for required in (("date",), ("date", "T", "t"), ("date", "t")):
        table = parse_table(lines, "weather.csv", required)
        assert {name: table.columns[name] for name in ("T", "t")} == {"T": ["1"], "t": ["2"]}, required
    with pytest.raises(ValueError, match="names the column 'date' twice"):
        parse_table(["Date,DATE,t\n", "2020-01-01,2020-01-01,2\n"], "weather.csv", ("date",))
