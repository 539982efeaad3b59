"""The processes of one run: how they find each other, that they agree, and what is said when one is gone.

Slurm (`srun`) and Open MPI 4 (`mpirun`) are recognised, and Kubernetes where its Python package is installed; elsewhere
each process is told where the first one listens, how many there are, and its own number. Not for starting programs on
machines: that is the cluster's (`launch/`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_HEARTBEAT_SECONDS = 30
"""A process that has not been heard for so long is gone; the others then stop."""

_SHUTDOWN_SECONDS = 20

_NEVER_SECONDS = 24 * 3600

_LAUNCHERS = {"SLURM_STEP_NUM_TASKS": "SLURM_PROCID", "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK"}
"""Environment variable of how many processes there are -> of the number of this one."""

_SIGNS = ("gloo", "nccl", "coordination", "heartbeat", "unavailable", "connection", "distributed service", "socket")
"""In messages of a collective that had no partner."""


class ProcessLost(OSError):
    """Another process of the run has ended or cannot be reached."""


def start_processes(
    join: str = "", *, alone: bool = False, seconds: float = 300, silence: int = _HEARTBEAT_SECONDS
) -> int:
    """Joins the other processes of the run, where there are any; before anything else asks JAX for devices.

    Args:
      join: `NUMBER/COUNT@HOST:PORT`: the number of this process, from 0, how many there are, and where process 0
        listens; empty to ask the cluster, or for a run of one process.
      alone: refuse other processes, for work that each of them would do again.
      seconds: how long to wait for the others.
      silence: after so many seconds without a sign of life, one that has joined is gone, and the others stop.

    Returns:
      the number of this process.

    Raises:
      ValueError: for a `join` that makes no sense, where there should be none, for a port that is in use, or where JAX
        does not know the cluster.
      ProcessLost: if the others cannot be reached, or have not all come in time.
    """
    if not join and not _in_cluster():
        return 0
    if alone:
        raise ValueError("several processes only train: start a single one for any other --mode, and for --sweep")
    arguments: dict[str, Any] = {}
    if join:
        process, processes, host, port = _parsed(join)
        if process:
            _wait_for_coordinator(host, port, seconds)
        else:
            _check_free(port)
        arguments = {"coordinator_address": f"{host}:{port}", "num_processes": processes, "process_id": process}
    import jax

    # Programs that were started one after another may run at once on a CPU, and processes then disagree about whose
    # collective is whose: Gloo ends them with "received data size doesn't match expected size".
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    who = f"this process ({join or 'of the job of a cluster'})"
    try:
        joined = _initialize(arguments, seconds, silence)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if not join and not isinstance(error, jax.errors.JaxRuntimeError):
            raise ValueError(
                f"a cluster has started this process as one of several, and JAX {jax.__version__} cannot tell where "
                f"the others are ({reason}): say so to each with --join={_numbers()}@HOST:PORT, where HOST runs "
                "process 0 and PORT is free there"
            ) from error
        raise ProcessLost(
            f"{who} could not join the others ({reason}): see that all are started and that nothing blocks the port at "
            "which process 0 listens"
        ) from error
    if not joined:
        raise ProcessLost(
            f"{who} has waited {seconds:g} s, and not all of the others have joined: see that each is started, with "
            "its own number and the same count and address, and that nothing blocks the port at which process 0 listens"
        )
    return jax.process_index()


def _initialize(arguments: Mapping[str, Any], seconds: float, silence: int) -> bool:
    """Joins as `jax.distributed` does; false if the others have not come in `seconds`, which leaves a thread waiting.

    When JAX's own time is over, XLA aborts the process with a stack trace: it is given longer than that.
    """
    import jax

    failed: list[Exception] = []

    def wait() -> None:
        try:
            jax.distributed.initialize(
                **arguments,
                initialization_timeout=math.ceil(seconds) + _NEVER_SECONDS,
                heartbeat_timeout_seconds=silence,
                shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
            )
        except Exception as error:
            failed.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(seconds)
    if failed:
        raise failed[0]
    return not waiting.is_alive()


def _parsed(join: str) -> tuple[int, int, str, int]:
    match = re.fullmatch(r"(\d+)/(\d+)@(.+):(\d+)", join)
    if not match or not 0 < int(match[4]) < 1 << 16:
        raise ValueError(f"--join={join} is not NUMBER/COUNT@HOST:PORT, such as 0/2@node01:9876")
    process, processes = int(match[1]), int(match[2])
    if process >= processes:
        raise ValueError(f"--join={join}: of {processes} processes the numbers are 0 to {processes - 1}")
    return process, processes, match[3], int(match[4])


def _in_cluster() -> bool:
    """Whether a cluster has started this process as one of several."""
    kubernetes = "KUBERNETES_SERVICE_HOST" in os.environ and "JOB_COMPLETION_INDEX" in os.environ
    kubernetes = kubernetes and importlib.util.find_spec("kubernetes") is not None
    return any(map(_more_than_one, _LAUNCHERS)) or kubernetes


def _more_than_one(name: str) -> bool:
    return os.environ.get(name, "").isdigit() and int(os.environ[name]) > 1


def _numbers() -> str:
    """What begins a `join`, for a shell that the launcher of this process starts."""
    found = [f"${number}/${count}" for count, number in _LAUNCHERS.items() if _more_than_one(count)]
    return found[0] if found else "NUMBER/COUNT"


def _check_free(port: int) -> None:
    """Process 0 is about to listen there: where it cannot, JAX ends with a segmentation fault."""
    try:
        with socket.socket() as tried:  # never listens: nobody may take it for process 0
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the run before may just have ended
            tried.bind(("", port))
    except OSError as error:
        raise ValueError(
            f"process 0 cannot listen at port {port} of this machine ({error.strerror}): give all processes another "
            "port with --join"
        ) from None


def _wait_for_coordinator(host: str, port: int, seconds: float) -> None:
    """Until process 0 answers; JAX would not say why it does not."""
    end = time.monotonic() + seconds
    reason = ""
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, port), timeout=5):
                return
        except OSError as error:
            reason = str(error)
            time.sleep(0.5)
    raise ProcessLost(
        f"process 0 at {host}:{port} did not answer within {seconds:g} s ({reason}): start it there, or give "
        "the address at which it listens with --join"
    )


def check_agreement(settings: Mapping[str, Any]) -> None:
    """Refuses a run whose processes were given different settings: all of them stop, and name the first that differs.

    Raises:
      ValueError: with the name of the field and who disagrees.
    """
    import jax
    import numpy as np

    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    fields = dict(_flat(settings))
    names = sorted(fields)
    own = np.array([zlib.crc32(repr(fields[name]).encode()) for name in names], np.uint32)
    every = multihost_utils.process_allgather(own)
    differing = np.argwhere(every != every[0])
    if len(differing):
        process, place = differing[np.argmin(differing[:, 1])]
        raise ValueError(
            f"process {process} was given another {names[place]} than process 0 (here it is {fields[names[place]]!r}): "
            "start all processes with the same command"
        )


def every_ones(value: Any) -> list[Any]:
    """What each process gives, by its number: a JSON value, exact to the last digit. All must call it together."""
    import jax
    import numpy as np

    if jax.process_count() == 1:
        return [json.loads(json.dumps(value))]
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.array([text.size], np.int32)))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: text.size] = text
    every = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(own[:size])) for own, size in zip(every, sizes, strict=True)]


def devices_of_hosts() -> tuple[int, dict[str, int]]:
    """How many devices the processes on this host have together, and those on each host, by a name of the host."""
    import jax

    # Containers may share a kernel, machines the name of their image.
    own = f"{socket.gethostname()} {_kernel()}"
    hosts: dict[str, int] = {}
    for host, devices in every_ones([own, jax.local_device_count()]):
        hosts[host] = hosts.get(host, 0) + devices
    return hosts[own], hosts


def _kernel() -> str:
    """Names the start of this machine; empty where it has no such name."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@contextlib.contextmanager
def explained_loss() -> Iterator[None]:
    """Turns the error of a collective whose partner has gone into `ProcessLost`.

    Where JAX notices first, from missing signs of life, it ends the process itself, with a message of its own.
    """
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or not any(sign in str(error).lower() for sign in _SIGNS):
            raise
        raise ProcessLost(
            f"process {jax.process_index()} has lost another process of the run "
            f"({' '.join(str(error).split())[:200]}): start all of them again to continue from the last checkpoint"
        ) from error
