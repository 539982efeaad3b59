"""Labelled texts: every kind of file and spelling, and every mistake in them."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pytest

from jaxformer.config import DataConfig
from jaxformer.data.bundled.opinions import OpinionCorpus
from jaxformer.data.classify import LABEL, TextEncoder, classified, prepare_texts
from jaxformer.data.labelled_text import LabelledText, LabelNames, TextSplit, open_texts, read_table
from jaxformer.types import BOS_ID, EOS_ID

ROWS = [LabelledText("1", "a warm film"), LabelledText("0", "dull , and long")]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def corpus(folder, train="", dev="1\ta warm film\n0\tdull\n"):
    words = ["warm", "funny", "dull", "long", "fine", "bad"]
    lines = [f"{i % 2}\tthe film number {i} is {words[i % 6]} and {words[(i * 5 + 1) % 6]}" for i in range(60)]
    write(folder / "train.tsv", train or "\n".join(lines))
    write(folder / "dev.tsv", dev)
    return DataConfig(source="files", path=str(folder), vocabulary_size=60, byte_fallback=False, max_length=40)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "1\ta warm film\n0\tdull , and long\n"),
        ("a.tsv", "label\tsentence\n1\ta warm film\n0\tdull , and long"),
        ("a.tsv.gz", "id\tText\tLabel\n17\ta warm film\t1\n18\tdull , and long\t0\n"),
        ("a.csv", 'text,sentiment\na warm film,1\n"dull , and long",0\n'),
        ("a.csv.gz", 'label,review\r\n1,a warm film\r\n0,"dull , and long"\r\n'),
    ],
)
def test_tables_of_every_kind_hold_the_same(tmp_path, name, text):
    assert read_table(write(tmp_path / name, text))[:2] == (ROWS, 0)


def test_empty_lines_are_left_out_and_counted(tmp_path):
    assert read_table(write(tmp_path / "a.tsv", "\n1\ta warm film\n\n \n0\tdull , and long\n"))[:2] == (ROWS, 3)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "1 a warm film\n", r"a\.tsv, line 1: expected 2 columns, label<TAB>text, with a tab between"),
        ("a.tsv", "1\tgood\n0\tdull\tx\n", r"a\.tsv, line 2: expected 2 columns, label<TAB>text, .*, found 3; give"),
        ("a.tsv", "label\tsentence\n1\n", r"a\.tsv, line 2: expected 2 columns, as the header has, found 1"),
        ("a.csv", "label,id\n1,2\n", r"has the columns label, id, and none of them is the text: call one sentence or"),
        ("a.csv", "text,score\ngood,2\n", r"none of them is the label: call one label or"),
        ("a.tsv", "\n\n", "is empty: it needs a line"),
        ("a.csv", "\n\n", "is empty: it needs a line `label,text`"),
        ("a.csv", '1,good\n0,"dull\n1,fine\n0,bad\n', r"a\.csv, the row that begins in line 2: unexpected end"),
        ("a.csv", '1,good\n0,"dull" film\n1,fine\n', r"a\.csv, the row that begins in line 2: ',' expected after"),
    ],
)
def test_columns_that_are_missing_are_named_with_file_and_line(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / name, text))


def test_labels_have_many_spellings():
    for labels in (["0", "1"], ["-1", "+1"], ["neg", "POS"], ["Negative", "positive "], ["__label__0", "__label__1"]):
        names = LabelNames(labels)
        assert names.names == ("negative", "positive")
        assert names.numbers("train", labels) == [0, 1]
        assert names.numbers("test", ["positive", "-1" if "-1" in labels else "0", "neg"]) == [1, 0, 0]
        again = LabelNames([*names.names, *names.spellings])  # as an evaluation reads them from the facts of a run
        for label in ("-1", "0", "1"):
            assert again.number(label) == names.number(label)
    assert LabelNames(["-1", "0", "1"]).names == ("-1", "0", "1")
    assert LabelNames(["sport", "World", "sport"]).names == ("sport", "world")
    assert LabelNames(("negative", "positive")).numbers("x", ["1", "0"]) == [1, 0]


def test_withheld_labels_are_left_out_and_among_others_refused(tmp_path, caplog):
    config = corpus(tmp_path)
    write(tmp_path / "test.tsv", "sentence\tlabel\na film\t-1\nanother\t-1\n")
    with caplog.at_level(logging.WARNING):
        assert set(prepare_texts(config, first=False).splits) == {"validation"}
    assert any("test split is left out: all its 2 labels are -1" in message for message in caplog.messages)
    write(tmp_path / "test.tsv", "sentence\tlabel\na film\t1\nanother\t-1\n")
    with pytest.raises(ValueError, match=r"labels .* '-1' \(1 times\) \(the first in .*test\.tsv, line 3\)"):
        prepare_texts(config, first=False)
    assert LabelNames(["-1", "1"]).number("0") is None
    assert not LabelNames(["-1", "1"]).withheld(["-1", "-1"])
    assert not LabelNames(["-1", "0", "1"]).withheld(["-1"])


def test_a_long_cell_of_csv_is_read(tmp_path):
    long = "word " * 40_000
    assert read_table(write(tmp_path / "a.csv", f'label,text\n1,"{long}"\n')).records == [LabelledText("1", long)]


def test_a_test_split_without_labels_is_left_out_unless_it_is_named(tmp_path, caplog):
    corpus(tmp_path)
    write(tmp_path / "test.tsv", "index\tsentence\n0\ta film\n1\tanother\n")
    with caplog.at_level(logging.WARNING):
        assert set(open_texts(DataConfig(source="files", path=str(tmp_path)))) == {"train", "validation"}
    assert any("the test split is left out: " in message and "test.tsv" in message for message in caplog.messages)
    with pytest.raises(ValueError, match=r"none of them is the label: .*, or name a file that has labels"):
        open_texts(DataConfig(source="files", path=str(tmp_path), test="test"))


def test_a_label_that_never_occurs_in_training_is_refused(tmp_path):
    config = corpus(tmp_path, dev="1\tgood\n2\tbetter\n2\tbest\n")
    with pytest.raises(ValueError, match=r"validation split .*'2' \(2 times\) \(the first in .*dev\.tsv, line 2\)"):
        prepare_texts(config, first=False)


def test_a_split_of_one_class_is_refused_for_training_and_said_otherwise(tmp_path, caplog):
    with pytest.raises(ValueError, match="all 3 training texts have the label 'positive'"):
        prepare_texts(corpus(tmp_path / "a", train="1\tone\n1\ttwo\n1\tthree\n"), first=False)
    with caplog.at_level(logging.WARNING):
        prepare_texts(corpus(tmp_path / "b", dev="1\tgood\n"), first=False)
    assert any("validation split has no text of class negative" in message for message in caplog.messages)


def test_cleaning_is_counted(tmp_path, caplog):
    lines = [f"{i % 2}\tthe film number {i} is fine" for i in range(40)]
    lines += ["", "1\t\xad", "0\tthe film number 0 is fine", "1\tthe film number 0 is fine", "1\t two  spaces "]
    config = corpus(tmp_path, train="\n".join(lines), dev="1\tthe film number 3 is fine\n0\tnew\n")
    with caplog.at_level(logging.WARNING):
        data = prepare_texts(config, first=False)
    table = {line.split("  ")[0]: line.split()[-3] for line in data.report.splitlines() if not line.startswith("  ")}
    assert table["texts read"] == "45"
    assert table["dropped: empty line"] == "1"
    assert table["dropped: no text"] == "1"
    assert table["dropped: exact repetition"] == "1"
    assert table["dropped: repetition with another label"] == "1"
    assert table["texts kept"] == "41"
    assert table["changed: spaces trimmed"] == "1"
    assert data.train.texts[-1] == "two spaces"
    assert data.counts == [20, 21]
    assert any("1 of the 2 texts of the validation split are in the training split" in m for m in caplog.messages)


def test_records_are_the_tokens_of_the_texts(tmp_path):
    config = corpus(tmp_path)
    data = prepare_texts(config, first=True)
    assert len(data.train.records) == 60
    row = data.train.records.inputs[: data.train.records.lengths[0]]
    assert (row[0], row[-1]) == (BOS_ID, EOS_ID)
    assert data.tokenizer.decode_source(row.tolist()) == data.train.texts[0]
    np.testing.assert_array_equal(data.train.records.labels[LABEL].values[:, 0], data.train.classes)
    assert set(data.splits) == {"validation"}
    plain = prepare_texts(config, first=False)
    assert int(plain.train.records.lengths[0]) == int(data.train.records.lengths[0]) - 1


def test_long_texts_are_cut_and_empty_ones_are_scored(tmp_path):
    config = corpus(tmp_path)
    data = prepare_texts(config, first=False)
    encoder = TextEncoder(data.tokenizer, config, first=False)
    rows, long = encoder(["dull " * 60, "dull"])
    assert long == [0]
    assert (len(rows[0]), rows[0][-1]) == (40, EOS_ID)
    found = classified("test", TextSplit([LabelledText("1", ""), LabelledText("0", "dull")], 0), encoder,
                       LabelNames(data.names))  # fmt: skip
    assert found.records.lengths.tolist()[0] == 1


def test_several_files_make_one_split(tmp_path):
    config = corpus(tmp_path)
    write(tmp_path / "more.csv", "label,text\n1,more of it\n")
    both = DataConfig(source="files", path=str(tmp_path), train="train,more")
    assert len(open_texts(both)["train"].records) == 61
    assert set(open_texts(config, train=False)) == {"validation"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": ""}, "set --config.data.path=DIR"),
        ({"path": "nowhere"}, "data.path=nowhere does not exist"),
        ({"train": "training"}, r"looked for training with one of \.tsv.* holds dev.tsv, train.tsv; .*data.train"),
        ({"validation": "none"}, "no validation split: looked for none"),
    ],
)
def test_files_that_are_not_there_are_named(tmp_path, fields, message):
    corpus(tmp_path)
    with pytest.raises((ValueError, OSError), match=message):
        open_texts(DataConfig(**{"source": "files", "path": str(tmp_path), **fields}))


def test_without_anything_to_evaluate_on_it_is_refused(tmp_path):
    corpus(tmp_path)
    (tmp_path / "dev.tsv").unlink()
    with pytest.raises(FileNotFoundError, match="no validation or test split"):
        open_texts(DataConfig(source="files", path=str(tmp_path)))


def test_generated_opinions_are_a_function_of_seed_and_number_and_splits_are_disjoint():
    train = OpinionCorpus("train", 3000)[:]
    assert train[17] == OpinionCorpus("train", 3000)[17]
    assert train[:50] != OpinionCorpus("train", 3000, seed=1)[:50]
    held_back = {text for split in ("validation", "test") for _, text in OpinionCorpus(split)[:]}
    assert not held_back & {text for _, text in train}
    share = np.mean([label == "positive" for label, _ in train])
    assert 0.46 < share < 0.54
    with pytest.raises(ValueError, match="no split 'dev'"):
        OpinionCorpus("dev")
