"""Messages to a person on standard error: this project's own, in one plain form, never through a live progress line.

Not for results, which go to standard output.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Protocol

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # the package


class LiveLine(Protocol):
    """A line that is redrawn in place, and must be cleared before anything else is written."""

    def clear(self) -> None:
        """Removes the line from the terminal."""


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


def log_to_stderr(level: int = logging.INFO) -> None:
    """Sends messages of `logging` and absl to standard error: ours from `level`, other packages' from WARNING."""
    from absl import logging as absl_logging

    handler = _Handler()
    handler.setFormatter(_Formatter("%(asctime)s %(prefix)s%(message)s", "%H:%M:%S"))
    handler.addFilter(_wanted)
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old, _Handler) or old is absl_logging.get_absl_handler():
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    absl_logging.get_absl_logger().setLevel(level)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return super().format(record)
