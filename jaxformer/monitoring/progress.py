"""One live progress line on a terminal, or a plain line now and then where there is none.

Only drawing: the numbers come from the training loop. Not for records (`monitoring.trackers`).
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from jaxformer.monitoring import console

_BAR = 12


class Progress:
    """The progress of a run of `total` steps, on standard error.

    On a terminal the line is redrawn in place, at most ten times a second; log messages clear it first. Elsewhere, or
    when not `enabled`, `report` writes a plain line and `update` nothing.

    Args:
      total: steps of the whole run.
      start: steps already taken before this process.
      enabled: whether a live line is wanted.
      stream: where it is written.
      clock: seconds that only grow.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        enabled: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._total, self._step = total, start
        self._values: dict[str, float] = {}
        self._first: tuple[int, float] | None = None
        self._drawn_at = float("-inf")
        self._shown = False
        self.live = enabled and self._stream.isatty()
        if self.live:
            console.set_live(self)

    def update(self, step: int) -> None:
        """Tells that `step` steps are done; cheap enough for every step."""
        self._step = step
        now = self._clock()
        if self._first is None:
            self._first = (step, now)  # after the first step: compilation says nothing about the speed to come
        if self.live and now - self._drawn_at >= 0.1:
            self._draw(now)

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Takes new metrics (`train/loss`, `throughput/tokens_per_second`, ...) and shows them."""
        self._values.update(values)
        self.update(step)
        if self.live:
            self._draw(self._clock())
            return
        with console.lock:
            self._stream.write(self.line() + "\n")
            self._stream.flush()

    def line(self) -> str:
        """The line as text, without a bar."""
        return "  ".join([f"step {self._step:,}/{self._total:,}", *self._parts()])

    def _parts(self) -> list[str]:
        shown = {
            "train/loss": "loss {:.3f}",
            "throughput/padding_efficiency": "padding efficiency {:.2f}",
        }
        values = self._values
        parts = [text.format(values[name]) for name, text in shown.items() if name in values]
        if "throughput/tokens_per_second" in values:
            parts.insert(min(1, len(parts)), f"{_short(values['throughput/tokens_per_second'])} tokens/s")
        if "memory/host" in values:
            parts.append(f"memory {values['memory/host'] / 1024**3:.1f} GiB")
        if "memory/device_peak" in values:
            parts.append(f"device {values['memory/device_peak'] / 1024**3:.1f} GiB")
        remaining = self.remaining()
        if remaining is not None:
            parts.append(f"ETA {duration(remaining)}")
        return parts

    def remaining(self) -> float | None:
        """Seconds until the last step at the mean speed of this process so far; None until two steps are done."""
        if self._first is None or self._step <= self._first[0]:
            return None
        per_step = (self._clock() - self._first[1]) / (self._step - self._first[0])
        return per_step * (self._total - self._step)

    def _draw(self, now: float) -> None:
        done = min(_BAR, _BAR * self._step // max(1, self._total))
        bar = f"[{'#' * done}{'.' * (_BAR - done)}]"
        width = shutil.get_terminal_size().columns - 1  # the last column would wrap on some terminals
        with console.lock:
            self._stream.write(f"\r\x1b[2K{f'{bar} {self.line()}'[:width]}")
            self._stream.flush()
        self._drawn_at, self._shown = now, True

    def clear(self) -> None:
        """Removes the live line, so that something else can be written; the next `update` draws it again."""
        if self._shown:
            with console.lock:
                self._stream.write("\r\x1b[2K")
                self._stream.flush()
            self._shown = False

    def close(self) -> None:
        """Removes the live line for good."""
        self.clear()
        if self.live:
            console.set_live(None)
            self.live = False


def _short(number: float) -> str:
    return f"{number / 1000:.1f}k" if number >= 1000 else f"{number:.0f}"


def duration(seconds: float) -> str:
    """`seconds` for a person: `42 s`, `3:05`, `1:02:03`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
