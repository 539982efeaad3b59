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

from jaxformer.monitoring.console import ended_in_order
from jaxformer.monitoring.durable import explain_disk_errors
from jaxformer.paths import expanded

_GZIP = b"\x1f\x8b"
_OUTPUT = "--output"


def check_streams(mode: str, input_: str, output: str) -> None:
    """Refuses `--input` and `--output` where `mode` neither reads nor writes them.

    Raises:
      ValueError: naming the flag.
    """
    for flag, given, modes in (("--input", input_, ("predict",)), (_OUTPUT, output, ("predict", "tune"))):
        if given and mode not in modes:
            used = " and ".join(f"--mode={one}" for one in modes)
            raise ValueError(f"{flag} is for {used}, and --mode={mode} does not use it: leave it out or set --mode")


@contextlib.contextmanager
def open_lines(path: str) -> Iterator[Iterator[str]]:
    """The lines of `path`, or of standard input if it is empty, without their line ends, one at a time.

    Raises:
      FileNotFoundError: if `path` is not there.
      ValueError: without standard input; while reading, for a line that is not UTF-8, by number.
    """
    if not path:
        if sys.stdin is None:  # closed by the shell: `<&-`
            raise ValueError("standard input is closed: name a file with --input=FILE")
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
            first = "convert it first, for example with `iconv -f ISO-8859-1 -t UTF-8`"
            if number == 1 and line.startswith(_GZIP):
                first = "it is compressed: give what `gunzip -c` makes of it"
            raise ValueError(
                f"{name}, line {number}: not UTF-8 ({error.reason}, byte 0x{line[error.start]:02x}): {first}"
            ) from None
        yield text.removesuffix("\n").removesuffix("\r")


class _Output(io.TextIOWrapper):
    """Text for `file` that a person calls `name`: what the disk refuses, at any time, is a `DiskError`."""

    def __init__(self, file: BinaryIO, name: str, *, line_buffering: bool = False) -> None:
        self._called = name
        super().__init__(file, encoding="utf-8", newline="\n", line_buffering=line_buffering)

    @classmethod
    def at(cls, path: str, name: str) -> _Output:
        """A new file."""
        with explain_disk_errors(name, _OUTPUT):
            return cls(open(path, "wb"), name)

    def write(self, text: str) -> int:
        with explain_disk_errors(self._called, _OUTPUT):
            return super().write(text)

    def flush(self) -> None:
        with explain_disk_errors(self._called, _OUTPUT):
            super().flush()

    def close(self) -> None:
        with explain_disk_errors(self._called, _OUTPUT):
            super().close()


class _StandardOutput(_Output):
    """Stays open, whatever becomes of this object: it is not ours."""

    def close(self) -> None:
        """Does nothing."""


@contextlib.contextmanager
def open_output(path: str) -> Iterator[TextIO]:
    """A text file for `path`, which appears whole when all went well, or standard output if `path` is empty.

    A device or a pipe (`/dev/stdout`, a FIFO) is written to directly, and never replaced by a file; a symbolic link
    stays, and what it points to is written. SIGTERM inside removes what there is of a file, as Ctrl-C does.

    Raises:
      ValueError: without standard output.
      DiskError: if it cannot be written.
    """
    if not path:
        yield from _standard_output()
        return
    path = str(expanded(path))
    if os.path.exists(path) and not os.path.isfile(path):  # a folder is refused here, before anything is translated
        with _Output.at(path, path) as device:
            yield device
        return
    target = os.path.realpath(path)
    partial = f"{target}.{os.getpid()}.partial"
    with ended_in_order():
        try:
            with _Output.at(partial, path) as file:
                yield file
            with explain_disk_errors(path, _OUTPUT):
                os.replace(partial, target)
        finally:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.remove(partial)


def _standard_output() -> Iterator[TextIO]:
    if sys.stdout is None:  # closed by the shell: `>&-`
        raise ValueError("standard output is closed: name a file with --output=FILE")
    if not hasattr(sys.stdout, "buffer"):  # not a stream of the system's, as in a notebook
        yield sys.stdout
        return
    sys.stdout.flush()
    output = _StandardOutput(sys.stdout.buffer, "standard output", line_buffering=bool(sys.stdout.line_buffering))
    try:
        yield output
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong before it is told
            output.flush()
        raise
    output.flush()
