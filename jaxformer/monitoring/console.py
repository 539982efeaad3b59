"""Messages to a person on standard error: this project's own, in one plain form, never through a live progress line.

Also the way a program ends: errors that a person can mend become a message and an exit code. Not for results, which go
to standard output.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Protocol

from jaxformer.monitoring.early import hand_over

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # the package


class LiveLine(Protocol):
    """A line that is redrawn in place, and must be cleared before anything else is written."""

    def clear(self) -> None:
        """Removes the line from the terminal."""


def exit_code(program: str, work: Callable[[], None], *, debug: bool = False) -> int:
    """Does `work` for a person: 0 when it was done, else a message on standard error and another exit code.

    What a person can mend (`ValueError`, `OSError`) is told in its message alone, with a stack trace only to `debug`;
    anything else is a mistake of ours and passes.

    Args:
      program: begins the message.
      work: writes its result to standard output.
      debug: show stack traces.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter must not end a finished run
    try:
        hand_over()
        work()
        if sys.stdout:  # None where the shell has closed it
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as in `run.py --list | head -1`
        _forget_output()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ValueError, OSError) as error:
        if debug:
            traceback.print_exc()
        # An error of a library that we call was not written for the person: where it arose may be the better hint.
        ours = "site-packages" not in traceback.extract_tb(error.__traceback__)[-1].filename
        print(f"{program}: {error}{'' if ours or debug else ' (--debug shows where)'}", file=sys.stderr)
        try:
            if sys.stdout:
                sys.stdout.flush()
        except (OSError, ValueError):  # its disk is full: Python would say so again as it ends
            _forget_output()
        return 1
    return 0


def _forget_output() -> None:
    """What standard output still holds goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM inside leaves every `with` on its way out, as Ctrl-C does, and ends the process with the shell's code.

    Outside the main thread it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


lock = threading.RLock()
"""Held while standard error is written to."""

_live: list[LiveLine] = []


def set_live(line: LiveLine | None) -> None:
    """Makes `line` the live line of the terminal; None when there is none any more."""
    with lock:
        _live[:] = [] if line is None else [line]


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            with lock:
                for line in _live:
                    line.clear()
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
        except Exception:
            self.handleError(record)


def _wanted(record: logging.LogRecord) -> bool:
    # Orbax and others tell their story at INFO: of other packages only warnings are a person's concern.
    return record.levelno >= logging.WARNING or os.path.abspath(record.pathname).startswith(_OURS)


def log_to_stderr(*, quiet: bool = False) -> None:
    """Sends messages of `logging` and absl to standard error: ours, unless `quiet`, and everybody's from WARNING on."""
    from absl import logging as absl_logging

    handler = _Handler()
    handler.setFormatter(_Formatter("%(asctime)s %(prefix)s%(message)s", "%H:%M:%S"))
    handler.addFilter(_wanted)
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old, _Handler) or old is absl_logging.get_absl_handler():
            root.removeHandler(old)
    root.addHandler(handler)
    level = logging.WARNING if quiet else logging.INFO
    root.setLevel(level)
    absl_logging.get_absl_logger().setLevel(level)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return super().format(record)
