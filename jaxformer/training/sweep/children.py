"""Trials as processes: started, a few at a time, each with its share of the machine; watched, and ended politely.

A trial that fails, or that the system kills, ends alone. SIGTERM, Ctrl-C and a closing terminal are passed on as one
SIGTERM, upon which a run saves and ends (`training.interruption`); a second one is passed on too, and ends them at
once. Children are in sessions of their own, so that Ctrl-C at a terminal reaches them only through here.
Not for which trials there are (`folder`).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from jaxformer.cores import shared_cores
from jaxformer.monitoring.durable import explain_disk_errors
from jaxformer.training.sweep.folder import FINAL, Trial

_LOGGER = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_POLITE = (signal.SIGTERM, signal.SIGINT)
_ASKING = (*_POLITE, signal.SIGHUP)
_STOPPED = {128 + number for number in _POLITE} | {-number for number in _POLITE}
_LONGEST_MESSAGE = 300
_DIVERGED = "training diverged: "
"""How the message of `hooks.TrainingDiverged` begins."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """A share of the machine, for one trial at a time.

    Attributes:
      cores: on which it runs; empty for all.
      environment: variables that differ from this process's.
      described: for a person; empty for the whole machine.
      devices: how many a trial finds there; 0 for all, however many there are.
    """

    cores: frozenset[int] = frozenset()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    described: str = ""
    devices: int = 0


def whole_machine() -> list[Slot]:
    """For one trial at a time."""
    return [Slot()]


def share_machine(parallel: int, platform: str, num_devices: int) -> list[Slot]:
    """The machine divided among `parallel` trials at once.

    CPUs: the cores that this process may use are dealt out, and bind the trial (`sched_setaffinity`). GPUs: they are
    dealt out by `CUDA_VISIBLE_DEVICES`; where trials are more than GPUs, those of one GPU share its memory by
    `XLA_PYTHON_CLIENT_MEM_FRACTION`. What one of these variables says already is kept to.

    Args:
      parallel: trials at once.
      platform: as JAX calls it, `cpu` or `gpu`.
      num_devices: of this machine.

    Raises:
      ValueError: for other accelerators, which a single process owns.
    """
    if platform == "cpu":
        shares = [frozenset(cores) for cores in shared_cores(parallel)]
        return [
            Slot(share, {}, f"cores {_listed(share)}" if share else "all cores", num_devices) for share in shares
        ]
    if platform not in ("gpu", "cuda", "rocm"):
        raise ValueError(f"--sweep_parallel={parallel}: the devices here ({platform}) serve one process: leave it out")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = visible.split(",") if visible else [str(index) for index in range(num_devices)]
    together = -(-parallel // len(devices))
    slots = []
    for index in range(parallel):
        mine = devices[index::parallel] or [devices[index % len(devices)]]
        environment = {"CUDA_VISIBLE_DEVICES": ",".join(mine)}
        if together > 1 and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / together:.3f}"
        described = " ".join(f"{name}={value}" for name, value in environment.items())
        slots.append(Slot(frozenset(), environment, described, len(mine)))
    return slots


def _listed(cores: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cores)))


@dataclasses.dataclass
class _Child:
    trial: Trial
    slot: Slot
    process: subprocess.Popen[bytes]
    log_start: int
    started: float


class Children:
    """Runs trials; used once.

    Args:
      command: trial -> the command of its process.
      ended: called with a trial when its process has ended and its folder says how.

    Attributes:
      requested: the signal that asked to stop; 0 if none has.
      running: names of the trials that run now.
    """

    def __init__(self, command: Callable[[Trial], Sequence[str]], ended: Callable[[Trial], None]) -> None:
        self._command, self._ended = command, ended
        self._children: list[_Child] = []
        self.requested = 0

    @property
    def running(self) -> list[str]:
        """Names of the trials that run now."""
        return [child.trial.name for child in self._children]

    def run(self, trials: Sequence[Trial], slots: Sequence[Slot]) -> None:
        """Runs `trials` in order, one in each of `slots` at a time, until all have ended or a signal asked to stop.

        One that has meanwhile been finished, or is being run, by somebody else is left alone.
        """
        queue, free = collections.deque(trials), list(slots)
        previous = self._take_signals()
        try:
            while queue or self._children:
                if self.requested:
                    queue.clear()
                while queue and free and not self.requested:
                    trial = queue.popleft()
                    if trial.state()[0] not in (*FINAL, "running"):
                        self._start(trial, free.pop(0), len(trials) - len(queue), len(trials))
                for child in list(self._children):
                    if child.process.poll() is not None:
                        self._children.remove(child)
                        free.append(child.slot)
                        self._end(child)
                time.sleep(_POLL_SECONDS if self._children else 0)
        finally:
            for child in self._children:  # only after an error of our own
                child.process.terminate()
            for child in self._children:
                child.process.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _take_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}
        # Under `nohup`, the closing of a terminal is ignored, and stays so.
        heard = [number for number in _ASKING if number in _POLITE or signal.getsignal(number) != signal.SIG_IGN]
        return {number: signal.signal(number, self._receive) for number in heard}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = bool(self.requested), number
        for child in self._children:
            child.process.send_signal(signal.SIGTERM)
        # Not through `logging`, whose locks the interrupted code may hold.
        told = b"ending the running trials at once" if again else b"the running trials save and end; again: at once"
        os.write(2, b"\n" + told + b"\n")

    def _start(self, trial: Trial, slot: Slot, number: int, count: int) -> None:
        trial.begins()
        command = list(self._command(trial))
        with explain_disk_errors(trial.log), open(trial.log, "ab") as log:
            log.write(f"\n{time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(command)}\n".encode())
            log.flush()
            start = log.tell()
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **slot.environment},
            )  # fmt: skip
        self._children.append(_Child(trial, slot, process, start, time.monotonic()))
        if slot.cores:
            with contextlib.suppress(OSError):  # it may have ended already
                os.sched_setaffinity(process.pid, slot.cores)  # before it has started a thread
        if self.requested:  # came while it was being started
            process.terminate()
        place = f", on {slot.described}" if slot.described else ""
        _LOGGER.info("trial %d of %d, %s: started%s; its log: %s", number, count, trial.name, place, trial.log)

    def _end(self, child: _Child) -> None:
        finished = child.trial.state(ours=True)[0] == "finished"
        state, reason = judge(child.process.returncode, _written(child), finished=finished)
        child.trial.ended(state, reason)
        level = logging.WARNING if state == "failed" else logging.INFO
        seconds = time.monotonic() - child.started
        _LOGGER.log(level, "%s: %s after %.0f s%s", child.trial.name, state, seconds, f": {reason}" if reason else "")
        self._ended(child.trial)


def _written(child: _Child) -> str:
    """The end of what its process wrote."""
    try:
        with open(child.trial.log, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(child.log_start, size - 20_000))
            return log.read().decode(errors="replace")
    except OSError:
        return ""


def judge(code: int, written: str, *, finished: bool) -> tuple[str, str]:
    """(state, reason) of a trial whose process ended.

    Args:
      code: its exit code, negative for a signal.
      written: the end of what it wrote; the message of `run.py`, or else the last line, is the reason of a failure.
      finished: whether its result is there.
    """
    if finished:
        return "finished", ""
    if code in _STOPPED:
        return "stopped", "asked to stop; the same command continues it"
    if code < 0:
        name = signal.Signals(-code).name
        return "failed", f"killed by {name}" + (", as systems do that lack memory" if name == "SIGKILL" else "")
    lines = [line.strip() for line in written.splitlines() if line.strip()]
    told = [line.partition(": ")[2] for line in lines if line.startswith("run.py: ")]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]  # JAX adds a remark after it
    message = (told or raised or lines or ["it wrote nothing"])[-1][:_LONGEST_MESSAGE]
    if message.startswith(_DIVERGED):
        return "diverged", message.removeprefix(_DIVERGED).partition(";")[0]
    return "failed", message if code else f"it ended without a result: {message}"
