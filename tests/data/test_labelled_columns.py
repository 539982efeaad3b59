"""Columns of labelled texts without a known header: what is read, and what is refused and why."""

from __future__ import annotations

import itertools

import pytest

from jaxformer.data.labelled_text import read_table


def write(path, *rows, separator="\t"):
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    return path


def opinions(count, labels=("0", "1")):
    return [(label, f"film number {i}") for i, label in zip(range(count), itertools.cycle(labels), strict=False)]


@pytest.mark.parametrize("count", [4, 300])
def test_an_unknown_header_is_refused_and_no_class(tmp_path, count):
    with pytest.raises(ValueError, match="looks like a header") as refused:
        read_table(write(tmp_path / "a.tsv", ("target", "tweet"), *opinions(count)))
    message = str(refused.value)
    assert f"the first line of {tmp_path / 'a.tsv'} looks like a header: 'target' is the label of no other" in message
    assert "call the column of labels label or labels or sentiment" in message
    assert "texts sentence or text or review" in message
    assert "put a line `label<TAB>text` above it" in message


def test_a_first_record_with_a_label_of_its_own_is_read_below_a_header(tmp_path):
    rows = [("odd", "a film"), *opinions(10)]
    with pytest.raises(ValueError, match="put a line `label,text` above it"):
        read_table(write(tmp_path / "a.csv", *rows, separator=","))
    assert len(read_table(write(tmp_path / "a.csv", ("label", "text"), *rows, separator=",")).records) == 11


@pytest.mark.parametrize(
    "rows",
    [
        [("target", "tweet"), *opinions(3)],  # too few to tell
        [("odd", "a film"), *opinions(10), ("rare", "another")],  # rare labels are not of the first row alone
        [(" Pos", "a film"), *opinions(10, ("pos", "neg"))],
        [(str(i), f"film {i}") for i in range(19)],
        [*[(str(i), f"film {i}") for i in range(18)], ("0", "more"), ("1", "of it")],
    ],
)
def test_what_may_be_labels_is_read(tmp_path, rows):
    assert len(read_table(write(tmp_path / "a.tsv", *rows)).records) == len(rows)


def test_texts_in_the_place_of_labels_are_refused(tmp_path):
    rows = [("review_text", "rating"), *[(text, label) for label, text in opinions(20)], ("film number 3", "1")]
    with pytest.raises(ValueError, match="looks like texts") as refused:
        read_table(write(tmp_path / "a.csv", *rows, separator=","))
    message = str(refused.value)
    assert "a.csv looks like texts, not labels: 20 of 22 lines have one that no other line has" in message
    assert "'review_text' is the first: call the column of labels label or" in message
    read_table(write(tmp_path / "a.csv", ("text", "label"), *rows[1:], separator=","))


@pytest.mark.parametrize(
    ("header", "doubled"),
    [(("label", "text", "label"), "label"), (("Sentence", "label", "sentence "), "sentence")],
)
def test_a_column_that_is_named_twice_is_refused(tmp_path, header, doubled):
    for name, separator in (("a.tsv", "\t"), ("a.csv", ",")):
        path = write(tmp_path / name, header, ("1", "good", "0"), separator=separator)
        with pytest.raises(ValueError, match=rf"{name} names the column '{doubled}' twice: rename one of them"):
            read_table(path)
    other = write(tmp_path / "a.tsv", ("label", "text", "id", "id"), ("1", "good", "7", "8"))
    assert read_table(other).records[0].text == "good"  # only what is read must be told apart


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("a.csv", "1;good", "label,text, with a comma between them, as in .csv, found 1; its first line has semico"),
        ("a.tsv", "1;good", "has semicolons, which separate nothing in such a file: write a tab for each"),
        ("a.csv", "a warm film", "found 1; its first line has no comma: put a label and a comma before each text"),
        ("a.tsv", "1,good", "label<TAB>text, with a tab between them, as in all files but .csv, found 1; its fir"),
        ("a.csv", "1,good,more; or less", "found 3; give each record as a label and a text, or name all columns"),
    ],
)
def test_another_separator_is_named(tmp_path, name, line, message):
    (tmp_path / name).write_text(line + "\n")
    with pytest.raises(ValueError, match=rf"{name}, line 1: expected 2 columns, .*{message}"):
        read_table(tmp_path / name)
