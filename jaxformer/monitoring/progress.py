"""One live progress line on a terminal, or a plain line now and then where there is none.

Only drawing: the numbers come from the training loop. Not for records (`monitoring.trackers`).
"""

from __future__ import annotations

import collections
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from jaxformer.monitoring import console
from jaxformer.monitoring.throughput import host_memory

_BAR = 12


class Progress:
    """The progress of a run of `total` steps, on standard error.

    On a terminal the line is redrawn in place, at most ten times a second; log messages clear it first. Elsewhere, or
    when not `enabled`, `log` writes a plain line and `update` nothing. It is also a tracker (`monitoring.trackers`).

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
        self._speeds: collections.deque[float] = collections.deque(maxlen=10)
        self._drawn_at = float("-inf")
        self._shown = False
        self.live = enabled and self._stream.isatty()
        if self.live:
            console.set_live(self)

    def update(self, step: int) -> None:
        """Tells that `step` steps are done; cheap enough for every step."""
        now = self._advance(step)
        if self.live and now - self._drawn_at >= 0.1:
            self._draw(now)

    def _advance(self, step: int) -> float:
        self._step = step
        now = self._clock()
        if self._first is None:
            self._first = (step, now)  # after the first step: compilation says nothing about the speed to come
        return now

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes new metrics and shows them: those of training in the progress line, others in a line of their own."""
        self._values.update({name: value for name, value in metrics.items() if name in _SHOWN})
        if metrics.get("train/skipped", 0) == 1:  # there is no loss of a window that float16 skipped
            self._values.pop("train/loss", None)
        now = self._advance(step)
        if metrics.get("train/steps_per_second", 0) > 0:
            self._speeds.append(float(metrics["train/steps_per_second"]))
        scores = [f"{name} {value:.4g}" for name, value in metrics.items() if _is_score(name, value)]
        if scores:
            self._write(f"step {step:,}: {', '.join(scores)}")
        if self.live:
            self._draw(now)
        elif not scores:
            self._write(self.line())

    def _write(self, text: str) -> None:
        self.clear()
        with console.lock:
            self._stream.write(text + "\n")
            self._stream.flush()

    def line(self) -> str:
        """The line as text, without a bar."""
        remaining = self.remaining()
        eta = [] if remaining is None else [f"ETA {duration(remaining)}"]
        metrics = [text for name in _SHOWN if name in self._values and (text := _SHOWN[name](self._values[name]))]
        memory = f"memory {host_memory() / 1024**3:.1f} GiB"
        return "  ".join([f"step {self._step:,}/{self._total:,}", *eta, *metrics, memory])

    def remaining(self) -> float | None:
        """Seconds of training until the last step; None while nothing is known.

        At the measured speed of the last windows, which leaves out compilation and evaluation; before there is one, at
        the mean speed of this process since its first step.
        """
        if self._speeds:
            return (self._total - self._step) * len(self._speeds) / sum(self._speeds)
        if self._first is None or self._step <= self._first[0]:
            return None
        per_step = (self._clock() - self._first[1]) / (self._step - self._first[0])
        return per_step * (self._total - self._step)

    def _draw(self, now: float) -> None:
        done = min(_BAR, _BAR * self._step // max(1, self._total))
        bar = f"[{'#' * done}{'.' * (_BAR - done)}] "
        width = shutil.get_terminal_size().columns - 1  # the last column would wrap on some terminals
        line = self.line()
        line = bar + line if len(bar + line) <= width else line[:width]
        with console.lock:
            self._stream.write(f"\r\x1b[2K{line}")
            self._stream.flush()
        self._drawn_at, self._shown = now, True

    def clear(self) -> None:
        """Removes the live line, so that something else can be written; the next `update` draws it again."""
        if self._shown:
            with console.lock:
                self._stream.write("\r\x1b[2K")
                self._stream.flush()
            self._shown = False

    def sync(self) -> None:
        """Does nothing: there is nothing to keep."""

    def close(self) -> None:
        """Removes the live line for good."""
        self.clear()
        if self.live:
            console.set_live(None)
            self.live = False


def _is_score(name: str, value: Any) -> bool:
    return not name.startswith(("train/", "memory/", "seconds/", "utilisation/")) and isinstance(value, (int, float))


def _short(number: float) -> str:
    return f"{number / 1000:.1f}k" if number >= 1000 else f"{number:.0f}"


_SHOWN: dict[str, Callable[[float], str]] = {
    "train/loss": "loss {:.3f}".format,
    "train/skipped": lambda value: f"skipped {value:.0%} of steps" if value else "",
    "train/tokens_per_second": lambda value: f"{_short(value)} tok/s",
    "train/padding_efficiency": "padding efficiency {:.2f}".format,
    "train/mfu": "MFU {:.0%}".format,
    "memory/device_peak": lambda value: f"device {value / 1024**3:.1f} GiB",
}


def time_shares(speed: Mapping[str, float]) -> str:
    """Where the wall time of training went, from the `seconds/...` of `Throughput.total`, the largest part first."""
    wall = speed["seconds/wall"]
    parts = {name.partition("/")[2]: value for name, value in speed.items() if name.startswith("seconds/")}
    del parts["wall"]
    shares = [f"{name.replace('_', ' ')} {value / max(wall, 1e-9):.1%}" for name, value in _by_size(parts)]
    return f"{', '.join(shares)} of {duration(wall)}"


def _by_size(parts: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(parts.items(), key=lambda part: -part[1])


def duration(seconds: float) -> str:
    """`seconds` for a person, in its two largest units: `42 s`, `3 min 05 s`, `1 h 02 min`, `2 d 07 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
