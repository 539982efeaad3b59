"""Lines by number, and text that is none."""

import gzip
import pickle
from pathlib import Path

import pytest

from jaxformer.data import text
from jaxformer.data.text import TextFile, open_text, read_lines, unpack


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_lines_are_those_of_the_file(tmp_path: Path, count: int, end: str) -> None:
    lines = [f"Zeile {i} ü" * (i % 3) for i in range(count)]
    lines[-1] = "last"
    (tmp_path / "a.txt").write_bytes(("\n".join(lines) + end).encode())
    file = pickle.loads(pickle.dumps(TextFile(tmp_path / "a.txt")))
    assert len(file) == count
    assert [file[i] for i in range(count)] == lines
    assert file[-1] == "last"
    assert file.read(60, 70) == lines[60:70]
    assert file.read(0, 10_000) == lines
    with pytest.raises(IndexError, match=rf"line {count} of {count}"):
        file[count]


def test_blocks_that_cut_lines_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{i} " + "é" * (i % 50) for i in range(300)]
    (tmp_path / "a.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setattr(text, "_BLOCK", 37)
    assert TextFile(tmp_path / "a.txt").read(0, 300) == lines


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo\u2028still two\x0bstill two\r\n".encode())
    assert TextFile(tmp_path / "a.txt").read(0, 9) == ["one", "two\u2028still two\x0bstill two"]
    assert read_lines(tmp_path / "a.txt") == ["one", "two\u2028still two\x0bstill two"]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert len(TextFile(tmp_path / "a.txt")) == 0
    assert read_lines(tmp_path / "a.txt") == []


@pytest.mark.parametrize("line", [1, 64, 130])
def test_wrong_encoding_is_refused_with_file_and_line(tmp_path: Path, line: int) -> None:
    lines = [b"gut"] * 150
    lines[line - 1] = "schön".encode("latin-1")
    (tmp_path / "a.de").write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ValueError, match=rf"a\.de, line {line}: not UTF-8 .*0xf6"):
        TextFile(tmp_path / "a.de")
    with pytest.raises(ValueError, match=rf"a\.de, line {line}: not UTF-8"):
        read_lines(tmp_path / "a.de")


def test_the_line_is_counted_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_BLOCK", 10)
    (tmp_path / "a.de").write_bytes(b"abc\n" * 20 + b"x\xff\n")
    with pytest.raises(ValueError, match=r"line 21"):
        TextFile(tmp_path / "a.de")


def test_binary_is_refused_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_bytes(b"one\ntwo\x00\n")
    with pytest.raises(ValueError, match=r"a\.de, line 2: a NUL byte"):
        TextFile(tmp_path / "a.de")


@pytest.mark.parametrize(("bad", "found"), [("no tab", 0), ("a\tb\tc", 2)])
def test_a_line_without_exactly_one_tab_is_refused(tmp_path: Path, bad: str, found: int) -> None:
    (tmp_path / "a.tsv").write_text(f"a\tb\n{bad}\n")
    with pytest.raises(ValueError, match=rf"a\.tsv, line 2: .*exactly 1 tab, found {found}"):
        TextFile(tmp_path / "a.tsv", tabs=1)


def test_unreadable_files_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing does not exist"):
        TextFile(tmp_path / "nothing")
    with pytest.raises(OSError, match=r"cannot read .*: Is a directory"):
        TextFile(tmp_path)


def test_gzip_is_unpacked_and_read(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"eins\nzwei\n"))
    unpack(tmp_path / "a.gz", tmp_path / "a")
    assert TextFile(tmp_path / "a").read(0, 2) == read_lines(tmp_path / "a.gz") == ["eins", "zwei"]


@pytest.mark.parametrize(
    "content", [b"plain text", gzip.compress(b"x" * 1000, mtime=0)[:-12]], ids=["not gzip", "cut short"]
)
def test_damaged_gzip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.gz is damaged or not a gzip file"):
        unpack(tmp_path / "a.gz", tmp_path / "a")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.de"
    path.write_text("eins\n" * 200)
    file = TextFile(path)
    assert file.read(100, 101) == ["eins"]
    path.write_text("einundzwanzig\n" * 200)
    with pytest.raises(ValueError, match=r"a\.de has changed while it was being read: run the same command again"):
        file.read(100, 101)


def test_messages_name_the_file_that_a_person_knows(tmp_path: Path) -> None:
    (tmp_path / "unpacked").write_bytes(b"one\ntwo\x00\n")
    with pytest.raises(ValueError, match=r"^mine\.de\.gz, line 2: a NUL byte"):
        TextFile(tmp_path / "unpacked", name="mine.de.gz")


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [(b"\xff\xfe\x00", "a.tsv", "not text in UTF-8"), (b"plain", "a.tsv.gz", "cannot be unpacked")],
)
def test_what_is_no_text_is_refused(tmp_path, content, name, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said), open_text(tmp_path / name) as file:
        file.read()
