"""One run as several processes on the cores of this machine: a CPU trains faster so than in a single process.

The threads of one process wait for each other after every operation of a network, and share its caches badly; processes
with cores of their own meet once a step, to sum their gradients. Two cores: 1.15 times as many tokens a second.
Not for GPUs, which one process keeps busy, nor for several machines, on which a cluster starts programs (`processes`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

from jaxformer.cores import available_cores, bound_to, shared_cores

GPU = Path("/dev/nvidiactl")
"""There where the NVIDIA driver is."""

_STARTER = "JAXFORMER_STARTER"
"""Environment variable: the process that started this one as one of several of a run."""

_ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_POLL_SECONDS = 0.1
_ALONE_SECONDS = 90.0
"""What is left of a run whose other processes have failed notices by itself; after so long it is killed."""


def start(processes: str, forbidden: object, check: Callable[[], object]) -> None:
    """Where several processes are asked for, runs this program as so many of one run, and exits as they do.

    Each has its share of the cores, and `--join` says which it is. The first writes to our standard output and error;
    of the others, what they wrote is shown if they fail by themselves. SIGTERM, Ctrl-C and a closing terminal are
    passed on as SIGTERM, upon which a run saves and ends.

    Args:
      processes: how many, as a person wrote it; empty or 1 for this one alone.
      forbidden: true for work that several processes cannot share.
      check: called before they start, so that what is wrong is told once and not by each of them.

    Raises:
      ValueError: for a number that cannot be, where there is a GPU, or for a starter that is no number.
      SystemExit: with the exit code, when all have ended.
    """
    if processes in ("", "1"):
        _end_with_starter()
        return
    count = _checked(processes)
    if forbidden:
        raise ValueError(
            "--processes is for a run that trains by itself: leave it out with another --mode, with --join, and with "
            "--sweep (which has --sweep_parallel)"
        )
    check()
    raise SystemExit(run_several([sys.executable, *sys.orig_argv[1:], "--processes=1"], count))


def run_several(command: Sequence[str], count: int) -> int:
    """Runs `command`, which understands `--join`, as `count` processes; an exit code, 0 only if that of each is."""
    with contextlib.ExitStack() as stack:
        written = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count - 1)]
        return _Processes(command, written).wait()


def _end_with_starter() -> None:
    """In a process that `start` has started: when the one that did so is killed, it is asked to save and end."""
    starter = os.environ.pop(_STARTER, "")  # ours alone: whatever we start has a parent of its own
    if starter and not (starter.isascii() and starter.isdigit()):
        raise ValueError(
            f"{_STARTER}={starter!r} in the environment is no number of a process: unset it, only jaxformer sets it"
        )
    if starter:
        threading.Thread(target=_await_end_of, args=(int(starter),), daemon=True).start()


def _await_end_of(parent: int) -> None:
    """Sends SIGTERM to this process when `parent` has ended, as another process is its parent then."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    said = threading.Thread(target=_say_why, args=(parent,), daemon=True)
    said.start()
    said.join(1.0)  # no longer: whoever reads it may have stopped reading
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _say_why(parent: int) -> None:
    with contextlib.suppress(OSError):  # whoever read it may have ended too
        os.write(2, f"the process that started this one ({parent}) has ended: this one saves and ends\n".encode())


def _checked(processes: str) -> int:
    cores = available_cores()
    if not (processes.isascii() and processes.isdigit()) or not 1 <= int(processes) <= cores:
        raise ValueError(
            f"--processes={processes}: give a number from 1 to {cores}, the cores that this program may use"
        )
    if GPU.exists() and os.environ.get("JAX_PLATFORMS", "") != "cpu":
        raise ValueError(
            f"--processes={processes} is for CPUs, and one process keeps a GPU busy: leave it out (or set "
            "JAX_PLATFORMS=cpu in the environment)"
        )
    return int(processes)


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class _Processes:
    """Processes that are running, one more than files in `written`, to which all but the first write."""

    def __init__(self, command: Sequence[str], written: Sequence[IO[bytes]]) -> None:
        self._written = written
        self._running: list[subprocess.Popen[bytes]] = []
        self._requested = 0
        # Under `nohup`, the closing of a terminal is ignored, and stays so.
        heard = [number for number in _ASKING if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP]
        self._previous: dict[int, Any] = {number: signal.signal(number, self._pass_on) for number in heard}
        port = free_port()
        try:
            count = len(written) + 1
            for number, (cores, file) in enumerate(zip(shared_cores(count), [None, *written], strict=True)):
                self._start([*command, f"--join={number}/{count}@127.0.0.1:{port}"], cores, file)
        except OSError:
            for process in self._running:
                process.kill()
            raise

    def _start(self, command: Sequence[str], cores: Sequence[int], written: IO[bytes] | None) -> None:
        with bound_to(cores):
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=written, stderr=written, start_new_session=True,
                env={**os.environ, _STARTER: str(os.getpid())},
            )  # fmt: skip
        self._running.append(process)
        if self._requested:  # came while it was being started
            process.terminate()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._requested = number
        for process in self._running:
            process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Until all have ended; the exit code of the run."""
        ended: dict[int, float] = {}
        while len(ended) < len(self._running):
            for number, process in enumerate(self._running):
                if number not in ended and process.poll() is not None:
                    ended[number] = time.monotonic()
            failed = [since for number, since in ended.items() if self._running[number].returncode]
            if failed and time.monotonic() - min(failed) > _ALONE_SECONDS:
                for process in self._running:
                    process.kill()
            time.sleep(_POLL_SECONDS)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        first, *others = [process.returncode for process in self._running]
        for number, (code, written) in enumerate(zip(others, self._written, strict=True), 1):
            # Of a mistake that all of them found, the first has told; not of one that it only suffered from.
            alone = first <= 0 or ended[number] < ended[0] - 5
            if code and alone and not self._requested:
                _show(number, code, written)
        code = next((code for code in (first, *others) if code), 0)
        if self._requested and code in (-signal.SIGTERM, 128 + signal.SIGTERM):
            return 128 + self._requested
        return 128 - code if code < 0 else code


def _show(number: int, code: int, written: IO[bytes]) -> None:
    """How a process ended, and the end of what it wrote, on standard error."""
    written.seek(0)
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    os.write(2, f"process {number} of the run failed ({how}):\n".encode() + written.read()[-4000:] + b"\n")
