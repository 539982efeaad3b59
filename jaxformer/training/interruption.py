"""SIGTERM and Ctrl-C turned into a request that the loop grants between two steps.

The first signal asks; a second one ends the process at once, with the system's own behaviour. Not for deciding what is
saved (`loop`).
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(SystemExit):
    """A run that was asked to stop and has saved its state; its exit code is the shell's, 128 + the signal.

    Attributes:
      signal: the signal's number.
      step: steps taken, all of them saved.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(128 + signal_number)
        self.signal = signal_number
        self.step = step

    def __str__(self) -> str:
        saved = f"saved at step {self.step}" if self.step else "before the first step"
        return f"stopped by {signal.Signals(self.signal).name}; {saved}"


class Interruption:
    """A context in which SIGTERM and SIGINT set `requested` instead of ending the process.

    Outside the main thread, where Python allows no signal handlers, it does nothing.

    Attributes:
      requested: the number of the signal that arrived; 0 if none has.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.requested = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.requested = number
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # Not through `logging`, whose locks the interrupted code may hold.
        os.write(2, b"\nstopping after this step or evaluation, and saving; ask again to stop at once without saving\n")
