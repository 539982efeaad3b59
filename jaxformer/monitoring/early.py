"""The first moments of a program, before it imports what it needs: quiet on Ctrl-C, and with settings of its heap.

It imports next to nothing itself. Not for afterwards: `console.exit_code` takes over.
"""

from __future__ import annotations

import os
import signal


class _Ending:
    """What Ctrl-C does until `hand_over`."""

    def __init__(self, program: str) -> None:
        self._program = program

    def __call__(self, *_: object) -> None:
        os.write(2, f"{self._program}: interrupted\n".encode())
        os._exit(128 + signal.SIGINT)  # an exception might be caught by what is being imported


def end_quietly(program: str) -> None:
    """Until `hand_over`, Ctrl-C ends the process with a line on standard error and exit code 130: no stack trace.

    Where Ctrl-C does something else already it stays so: a shell lets programs in its background ignore it.

    Args:
      program: begins the line.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Ending(program))


def begin(program: str) -> None:
    """`end_quietly`, and the program starts again where other settings of the heap help (`heap`)."""
    end_quietly(program)
    from jaxformer.monitoring.heap import restart_with_heap_settings

    restart_with_heap_settings()


def hand_over() -> None:
    """Ctrl-C is a `KeyboardInterrupt` again, if `end_quietly` has changed that."""
    if isinstance(signal.getsignal(signal.SIGINT), _Ending):
        signal.signal(signal.SIGINT, signal.default_int_handler)
