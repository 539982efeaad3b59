"""Keeps what Orbax tells about itself off a person's terminal. Its failures still arrive, as exceptions."""

from __future__ import annotations

import logging
import sys
from typing import Any


def not_orbax_chatter(record: logging.LogRecord) -> bool:
    """A logging filter: of Orbax, only errors, and of these none that arrives as an exception as well."""
    return "orbax" not in record.pathname or (record.levelno >= logging.ERROR and not record.exc_info)


def ignore_reads_that_outlive_a_failure() -> None:
    """Keeps Python from printing a stack trace for every read that was under way when another one failed.

    Orbax closes its event loop at the first failure; later reads find it closed. The failure itself is reported.
    """
    before = sys.unraisablehook
    if getattr(before, "ignores_closed_loops", False):
        return

    def hook(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)  # of an abandoned coroutine
        if str(unraisable.exc_value) != "Event loop is closed" and "orbax" not in getattr(code, "co_filename", ""):
            before(unraisable)

    hook.ignores_closed_loops = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook
