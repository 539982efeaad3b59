"""Lines in, lines out: by LF, UTF-8, errors by line number, and no half output file."""

import gc
import gzip
import io
import os
import signal
import sys

import pytest

from jaxformer.monitoring.durable import DiskError
from jaxformer.monitoring.streams import check_streams, open_lines, open_output


def test_lines_end_at_lf_alone_and_empty_ones_stay(tmp_path):
    path = tmp_path / "in.en"
    path.write_bytes("\ufeffone\r\n\ntwo\u2028three\x0c\nGröße".encode())
    with open_lines(str(path)) as lines:
        assert list(lines) == ["one", "", "two\u2028three\x0c", "Größe"]


def test_standard_input_is_read_when_no_path_is_given(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("a\nü\n".encode()), encoding="ascii"))
    with open_lines("") as lines:
        assert list(lines) == ["a", "ü"]


def test_wrong_encoding_is_refused_by_line(tmp_path):
    path = tmp_path / "in.en"
    path.write_bytes(b"fine\nGr\xf6\xdfe\n")
    with open_lines(str(path)) as lines:
        assert next(lines) == "fine"
        with pytest.raises(ValueError, match=r"in\.en, line 2: not UTF-8 .*0xf6.*iconv"):
            next(lines)


def test_compressed_text_is_told_apart_from_a_wrong_encoding(tmp_path):
    path = tmp_path / "in.en.gz"
    path.write_bytes(gzip.compress(b"a house\n"))
    with open_lines(str(path)) as lines, pytest.raises(ValueError, match="it is compressed: give what `gunzip -c`"):
        next(lines)


def test_streams_that_the_shell_has_closed_are_told_by_their_flags(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="standard input is closed: name a file with --input=FILE"), open_lines(""):
        pass
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ValueError, match="standard output is closed: name a file with --output=FILE"), open_output(""):
        pass


@pytest.mark.parametrize(
    ("mode", "flags", "told"),
    [("train", ("in", ""), "--input is for --mode=predict, and --mode=train does not use it"),
     ("tune", ("in", "out"), "--input is for --mode=predict, and --mode=tune"),
     ("evaluate", ("", "out"), "--output is for --mode=predict and --mode=tune, and --mode=evaluate")],
)  # fmt: skip
def test_a_flag_that_the_mode_does_not_use_is_refused(mode, flags, told):
    with pytest.raises(ValueError, match=told):
        check_streams(mode, *flags)


def test_flags_that_the_mode_uses_are_taken():
    check_streams("predict", "in", "out")
    check_streams("tune", "", "out")
    check_streams("train", "", "")


def test_a_missing_input_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot read --input="), open_lines(str(tmp_path / "no")):
        pass


def test_output_appears_whole(tmp_path):
    path = tmp_path / "out.de"
    with open_output(str(path)) as output:
        output.write("Größe\n")
        assert not path.exists()
    assert path.read_bytes() == "Größe\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def _fail_while_writing(path):
    with open_output(str(path)) as output:
        output.write("half")
        raise RuntimeError


def test_output_of_before_stays_when_translation_fails(tmp_path):
    path = tmp_path / "out.de"
    path.write_text("of before\n")
    with pytest.raises(RuntimeError):
        _fail_while_writing(path)
    assert path.read_text() == "of before\n"
    assert list(tmp_path.iterdir()) == [path]


def _asked_to_end_while_writing(path):
    with open_output(str(path)) as output:
        output.write("half")
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_leaves_no_part(tmp_path):
    with pytest.raises(SystemExit) as ended:
        _asked_to_end_while_writing(tmp_path / "out")
    assert ended.value.code == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_an_unwritable_output_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot write"), open_output(str(tmp_path / "file" / "out.de")):
        pass


def test_a_folder_that_is_not_there_is_told_by_the_flag_that_named_it(tmp_path):
    told = r"cannot write .*nope/x: the folder is not there: make it or choose another --output$"
    with pytest.raises(DiskError, match=told), open_output(str(tmp_path / "nope" / "x")):
        raise AssertionError("too late")


def _write(path, *, flush=False):
    with open_output(str(path)) as output:
        output.write("x" * 100)
        if flush:
            output.flush()


@pytest.mark.parametrize("flush", [False, True])
def test_a_full_disk_is_told_with_the_name_of_the_file(flush):
    told = "cannot write /dev/full: the disk is full: free some space or choose another --output"
    with pytest.raises(DiskError, match=told):
        _write("/dev/full", flush=flush)


def test_a_disk_that_fills_up_leaves_no_part(tmp_path):
    (tmp_path / f"out.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(DiskError, match=r"cannot write .*/out: the disk is full"):
        _write(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_reader_that_has_gone_is_not_the_disk():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(BrokenPipeError), open_output(f"/dev/fd/{writer}") as output:
            output.write("x")
    finally:
        os.close(writer)


def test_a_folder_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DiskError, match="it is a folder"), open_output(str(tmp_path)):
        raise AssertionError("too late")


def test_a_device_or_pipe_is_written_to_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with open_output(str(path)) as output:
            output.write("Größe\n")
        assert os.read(reader, 100) == "Größe\n".encode()
    finally:
        os.close(reader)
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with open_output(str(tmp_path / "link")) as output:
        output.write("Größe\n")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text(encoding="utf-8") == "Größe\n"


def _fail_on_standard_output():
    with open_output("") as output:
        output.write("made before\n")
        raise RuntimeError


def test_standard_output_stays_open_after_an_error(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    with pytest.raises(RuntimeError):
        _fail_on_standard_output()
    gc.collect()
    print("afterwards", flush=True)
    assert raw.getvalue() == b"made before\nafterwards\n"


def test_standard_output_is_utf8_whatever_the_terminal_says(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with open_output("") as output:
        output.write("Größe\n")
        output.flush()
    assert raw.getvalue() == "Größe\n".encode()
