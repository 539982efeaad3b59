"""What benchmarks share: flags that count something or name a part of it, and files they write."""

from __future__ import annotations

import argparse

import pytest

from benchmarks import report, scaling


def test_a_flag_that_counts_takes_whole_numbers_above_0():
    assert [report.positive(text) for text in ("1", "1_000")] == [1, 1000]
    for text in ("0", "-3", "x", "1.5", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{text!r} is no whole number above 0"):
            report.positive(text)


def test_a_flag_of_several_sizes_names_the_part_that_is_none():
    assert report.positives("16,64") == [16, 64]
    for text, part in (("16,x", "x"), ("16,", ""), ("0", "0")):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{part!r} is no whole number above 0"):
            report.positives(text)


def test_a_flag_that_is_a_part_of_a_whole_is_neither_0_nor_more_than_it():
    assert [report.share(text) for text in ("0.4", "1", "1e-3")] == [0.4, 1.0, 0.001]
    for text in ("0", "-0.1", "1.1", "nan", "inf", "x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{text!r} is no number above 0 and of at most 1"):
            report.share(text)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--mfu=0", "argument --mfu: '0' is no number above 0"),
        ("--reached=0", "argument --reached: '0' is no number above 0"),
        ("--devices=8,12", "argument --devices: 12 devices do not fill hosts of 8"),
    ],
)
def test_scaling_refuses_what_it_could_not_divide_by(flag, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["scaling", flag])
    monkeypatch.setattr(scaling, "MODELS", {})
    with pytest.raises(SystemExit):
        scaling.main()
    assert message in capsys.readouterr().err


def test_where_figures_cannot_be_written_is_said_before_anything_is_measured(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    report.add_json_flag(parser)
    assert parser.parse_args([f"--json={tmp_path / 'x.json'}"]).json == tmp_path / "x.json"
    for path, message in ((tmp_path, "is a folder: name a file"), (tmp_path / "no" / "x.json", "there is no folder")):
        with pytest.raises(SystemExit):
            parser.parse_args([f"--json={path}"])
        assert message in capsys.readouterr().err
