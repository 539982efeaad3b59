"""Peers in processes of their own, that answer one command at a time and are stopped (SIGSTOP) in between.

    python -m benchmarks.peers.serving NAME FOLDER PRECISION HEAP [JOIN]    # what `Processes` starts
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers.work import Work
from jaxformer.cores import available_cores, bound_to, shared_cores
from jaxformer.monitoring.heap import restart_with_heap_settings
from jaxformer.parallel.gpu_flags import set_gpu_flags
from jaxformer.parallel.local import free_port
from jaxformer.parallel.processes import start_processes

EACH_CORE = "jaxformer-each-core"
"""A process on each core, as with `run.py --processes`."""


def make_peer(name: str, folder: Path, precision: str) -> Any:
    """The peer `name` on the work in `folder`."""
    work = Work.load(folder)
    if name.startswith("jaxformer"):
        from benchmarks.peers.our_training import OurTraining

        return OurTraining(work, precision=precision)
    if name == "jax-plain":
        from benchmarks.peers.plain_training import PlainTraining

        return PlainTraining(work)
    from benchmarks.peers.torch_training import TorchTraining

    compiled = name == "torch-compile"
    autocast = name == "torch-bf16" or (compiled and precision == "bf16")
    return TorchTraining(work, autocast=autocast, compiled=compiled)


def peak_memory() -> float:
    """Bytes at most: of the GPU where there is one, else of the process."""
    if "torch" in sys.modules:
        if sys.modules["torch"].cuda.is_available():
            return float(sys.modules["torch"].cuda.max_memory_allocated())
    elif found := sys.modules["jax"].local_devices()[0].memory_stats():
        return float(found["peak_bytes_in_use"])
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def serve(name: str, folder: Path, precision: str, join: str, *, our_heap: bool) -> None:
    """Answers commands on standard input with one JSON line each: `check`, `pass`, `memory`.

    `join`: `NUMBER/COUNT@HOST:PORT` for one of several processes of a peer.
    """
    if our_heap:
        restart_with_heap_settings()
    if name.startswith("jaxformer"):
        set_gpu_flags()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # peers share a GPU's memory
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints
    if join:
        start_processes(join, silence=3600)  # a stopped process says nothing
    peer = make_peer(name, folder, precision)
    for line in sys.stdin:
        command, answer = line.strip(), {}
        if command == "check":
            answer = peer.check()
        elif command == "pass":
            start = time.perf_counter()
            peer.steps()
            answer = {"seconds": time.perf_counter() - start}
        elif command == "memory":
            answer = {"mebibytes": peak_memory() / 2**20}
        print(json.dumps(answer), file=answers, flush=True)


_PLATFORMS = {"JAX_PLATFORMS": os.environ["JAX_PLATFORMS"]} if "JAX_PLATFORMS" in os.environ else {}
"""As they were given; this process itself leaves the accelerator alone."""


class Processes:
    """A peer in a process of its own, or in one on each core."""

    def __init__(self, name: str, folder: Path, precision: str, *, our_heap: bool) -> None:
        self.name = name
        command = [sys.executable, "-m", "benchmarks.peers.serving", name, str(folder), precision, str(int(our_heap))]
        environment = {key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"} | _PLATFORMS
        joins: list[tuple[list[str], list[int]]] = [([], [])]
        if name == EACH_CORE:
            count, port = available_cores(), free_port()
            joins = [([f"{i}/{count}@127.0.0.1:{port}"], cores) for i, cores in enumerate(shared_cores(count))]
        self._processes = []
        for join, cores in joins:
            with bound_to(cores):
                process = subprocess.Popen(
                    [*command, *join], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
                )
            self._processes.append(process)

    def ask(self, command: str) -> dict[str, float]:
        """The answer to a command, see `serve`: that of the first process, the longest time, the memory of all."""
        for process in self._processes:
            assert process.stdin is not None
            process.send_signal(signal.SIGCONT)
            print(command, file=process.stdin, flush=True)
        lines = []
        for process in self._processes:
            assert process.stdout is not None
            lines.append(process.stdout.readline())
        for process in self._processes:
            process.send_signal(signal.SIGSTOP)
        if not all(lines):
            raise SystemExit(f"{self.name} stopped at `{command}`; its messages are above")
        answers = [json.loads(line) for line in lines]
        of_all: dict[str, Callable[[list[float]], float]] = {"seconds": max, "mebibytes": sum}
        return {key: of_all.get(key, lambda found: found[0])([one[key] for one in answers]) for key in answers[0]}

    def close(self) -> None:
        """Ends it."""
        for process in self._processes:
            assert process.stdin is not None
            process.send_signal(signal.SIGCONT)
            with contextlib.suppress(BrokenPipeError):  # it has ended by itself
                process.stdin.close()
        for process in self._processes:
            process.wait()


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3], "".join(sys.argv[5:]), our_heap=sys.argv[4] == "1")
