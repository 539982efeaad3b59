"""Lines of text files by number: plain or gzip, checked once, never held in memory whole.

A `TextFile` reads through its file once to check it (UTF-8, no NUL bytes, the wanted number of tabs) and to note where
every 64th line starts; after that any line or run of lines is one seek and one short read, and the object is small
enough to be sent to worker processes. Gzip files have no random access: `unpack` writes them into the cache folder
first. What is read once from beginning to end is opened by `open_text`. Not for what the lines mean: `sources.py`
pairs them up.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

_STRIDE = 64  # lines between noted offsets: 64 lines are read for one, 8 bytes are kept for 64
_BLOCK = 1 << 22
LONGEST_LINE = 1 << 26
"""Bytes without a line end that show a file not to be text."""


def _blocks(path: Path, name: Path) -> Iterator[bytes]:
    """The bytes of `path` in blocks of whole lines; the last one may lack its line end."""
    pending = b""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            block = pending + block
            cut = block.rfind(b"\n") + 1
            if not cut and len(block) > LONGEST_LINE:
                raise ValueError(f"{name} has a line of more than {LONGEST_LINE >> 20} MiB: is it a text file?")
            if cut:
                yield block[:cut]
            pending = block[cut:]
    if pending:
        yield pending


def _version(facts: os.stat_result) -> tuple[int, int]:
    """What changes when a file does."""
    return facts.st_size, facts.st_mtime_ns


def _check_block(path: Path, block: bytes, first_line: int, tabs: int | None) -> None:
    """Refuses a block that is not text, naming the line (counted from 1)."""
    nul = block.find(b"\0")
    if nul >= 0:
        line = first_line + block.count(b"\n", 0, nul) + 1
        raise ValueError(f"{path}, line {line}: a NUL byte: this is a binary file or another encoding, not UTF-8 text")
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: not UTF-8 ({error.reason}, byte 0x{block[error.start]:02x}): "
            f"convert it first, for example `iconv -f ISO-8859-1 -t UTF-8`"
        ) from None
    if tabs is not None:
        for number, line_bytes in enumerate(block.removesuffix(b"\n").split(b"\n"), first_line + 1):
            if line_bytes.count(b"\t") != tabs:
                raise ValueError(
                    f"{path}, line {number}: expected source<TAB>target, exactly {tabs} tab, "
                    f"found {line_bytes.count(bytes([9]))}"
                )


class TextFile:
    """The lines of a UTF-8 text file, by number from 0, without their line ends.

    Lines end at LF alone (a CR before it is dropped), so that both sides of parallel text count alike; a byte-order
    mark at the start is dropped.

    Args:
      path: a plain text file.
      tabs: how many tabs every line must have; None for any.
      name: of the file in messages, where a person knows it by another one.

    Raises:
      ValueError: binary or wrongly encoded text, or a wrong number of tabs, with file and line; later, when it is read,
        a file that has changed since.
      OSError: the file cannot be read.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, tabs: int | None = None, name: str | os.PathLike[str] | None = None
    ) -> None:
        self.path = Path(path)
        self._name = self.path if name is None else Path(name)
        self._length = 0
        self._version: tuple[int, int] | None = None
        marks = [np.zeros(1, np.int64)]
        offset = 0
        for block in readable(self._name, _blocks(self.path, self._name)):
            self._version = self._version or _version(self.path.stat())
            _check_block(self._name, block, self._length, tabs)
            starts = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")).astype(np.int64) + 1
            number = self._length + 1 + np.arange(len(starts))  # of the line that begins at each start
            marks.append(offset + starts[number % _STRIDE == 0])
            self._length += len(starts) + (not block.endswith(b"\n"))
            offset += len(block)
        self._marks = np.concatenate(marks)
        self._size = offset

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"line {index} of {len(self)} in {self._name}")
        index %= len(self)
        return self.read(index, index + 1)[0]

    def read(self, start: int, stop: int) -> list[str]:
        """Lines `start` to `stop` (exclusive)."""
        stop = min(stop, self._length)
        if start >= stop:
            return []
        first, last = start // _STRIDE, -(-stop // _STRIDE)
        begin = int(self._marks[first])
        end = int(self._marks[last]) if last < len(self._marks) else self._size
        with open(self.path, "rb") as file:
            if _version(os.fstat(file.fileno())) != self._version:  # its lines are not where they were
                raise ValueError(f"{self._name} has changed while it was being read: run the same command again")
            file.seek(begin)
            block = file.read(end - begin)
        lines = block.split(b"\n")[start - first * _STRIDE : stop - first * _STRIDE]
        text = [line.removesuffix(b"\r").decode("utf-8") for line in lines]
        if start == 0:
            text[0] = text[0].removeprefix("\ufeff")
        return text


def readable(path: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """`blocks`, with errors of reading told in one sentence."""
    try:
        yield from blocks
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or not a gzip file: {error}") from None
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror or error}") from None


def _gzip_blocks(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        while block := file.read(_BLOCK):
            yield block


@contextlib.contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """`path` as text in UTF-8; unpacked while it is read, if its name ends in `.gz`.

    Raises:
      ValueError: if it is no text, or no gzip.
      OSError: if it cannot be read.
    """
    opener = gzip.open if Path(path).suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError as error:
        text = f"{path} is not text in UTF-8 ({error}): give a text file, or name a gzipped one .gz"
        raise ValueError(text) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}): is it complete, and gzipped?") from None


def unpack(path: Path, target: Path) -> None:
    """Writes the text of the gzip file `path` to `target`.

    Raises:
      ValueError: a damaged file.
      OSError: the file cannot be read, or `target` cannot be written.
    """
    blocks = readable(path, _gzip_blocks(path))
    with open(target, "wb") as file:
        while (block := next(blocks, None)) is not None:
            file.write(block)


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """All lines of a small text file, plain or `.gz`, such as references for evaluation.

    Raises:
      ValueError: binary or wrongly encoded text (with the line), a damaged gzip file.
      OSError: the file cannot be read.
    """
    path = Path(path)
    block = b"".join(readable(path, _gzip_blocks(path) if path.suffix == ".gz" else _blocks(path, path)))
    _check_block(path, block, 0, None)
    lines = block.removesuffix(b"\n").split(b"\n") if block else []
    text = [line.removesuffix(b"\r").decode("utf-8") for line in lines]
    if text:
        text[0] = text[0].removeprefix("\ufeff")
    return text
