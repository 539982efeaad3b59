"""The text that goes through `--mode=predict`: lines in, lines out, whatever the terminal's encoding is.

Not for training text, which needs random access (`jaxformer.data`).
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO, TextIO

from jaxformer.monitoring.durable import explain_disk_errors
from jaxformer.paths import expanded


@contextlib.contextmanager
def open_lines(path: str) -> Iterator[Iterator[str]]:
    """The lines of `path`, or of standard input if it is empty, without their line ends, one at a time.

    Raises:
      FileNotFoundError: if `path` is not there.
      ValueError: while reading, for a line that is not UTF-8, by number.
    """
    if not path:
        yield _decoded(sys.stdin.buffer, "standard input")
        return
    try:
        file = open(expanded(path), "rb")  # noqa: SIM115 (closed below; a `with` would also catch the errors of the caller)
    except OSError as error:
        raise type(error)(f"cannot read --input={path}: {error.strerror}") from None
    with file:
        yield _decoded(file, path)


def _decoded(file: BinaryIO, name: str) -> Iterator[str]:
    # Lines end at LF alone: other Unicode line separators stay inside a sentence, as `wc -l` counts.
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}, line {number}: not UTF-8 ({error.reason}, byte 0x{line[error.start]:02x}): "
                "convert it first, for example with `iconv -f ISO-8859-1 -t UTF-8`"
            ) from None
        yield text.removesuffix("\n").removesuffix("\r")


_OUTPUT = "--output"


class _Output(io.TextIOWrapper):
    """A text file at `path` that a person calls `name`: what the disk refuses, at any time, is a `DiskError`."""

    def __init__(self, path: str, name: str) -> None:
        self._called = name
        with explain_disk_errors(name, _OUTPUT):
            super().__init__(open(path, "wb"), encoding="utf-8", newline="\n")  # noqa: SIM115 (closed with this)

    def write(self, text: str) -> int:
        with explain_disk_errors(self._called, _OUTPUT):
            return super().write(text)

    def flush(self) -> None:
        with explain_disk_errors(self._called, _OUTPUT):
            super().flush()

    def close(self) -> None:
        with explain_disk_errors(self._called, _OUTPUT):
            super().close()


@contextlib.contextmanager
def open_output(path: str) -> Iterator[TextIO]:
    """A text file for `path`, which appears whole when all went well, or standard output if `path` is empty.

    A device or a pipe (`/dev/stdout`, a FIFO) is written to directly, and never replaced by a file; a symbolic link
    stays, and what it points to is written.

    Raises:
      DiskError: if it cannot be written.
    """
    if not path:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")
        yield sys.stdout
        return
    path = str(expanded(path))
    if os.path.exists(path) and not os.path.isfile(path):  # a folder is refused here, before anything is translated
        with _Output(path, path) as device:
            yield device
        return
    target = os.path.realpath(path)
    partial = f"{target}.{os.getpid()}.partial"
    try:
        with _Output(partial, path) as file:
            yield file
        with explain_disk_errors(path, _OUTPUT):
            os.replace(partial, target)
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.remove(partial)
