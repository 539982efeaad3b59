"""A folder that one process holds at a time. Not for what is in it (`workdir`)."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from jaxformer.monitoring.durable import DiskError, explain_disk_errors

_LOGGER = logging.getLogger(__name__)

_GLANCE = 0.5
"""Seconds within which a sweep that only looks whether a workdir is in use has let go of its lock."""


class WorkdirError(DiskError):
    """A workdir that cannot be used, with what to do about it."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """The lock of `folder`, which belongs to this process: it vanishes with it, even on `kill -9`.

    Raises:
      WorkdirError: if another process has it, naming that.
      DiskError: if the folder cannot be written.
    """
    with explain_disk_errors(folder):
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            _hold(descriptor)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise WorkdirError(
                f"{folder} is in use by {holder}: wait for that run or stop it, or choose another --workdir"
            ) from None
        except OSError as error:  # some network file systems
            _LOGGER.warning(
                "%s is on a file system without locks (%s): make sure that no other run uses it", folder, error
            )
        with explain_disk_errors(folder):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)  # releases the lock; the file stays, since removing it would race with another claim


def _hold(descriptor: int) -> None:
    """Locks an open file for this process: `BlockingIOError` if another one holds it for more than a glance."""
    for _ in range(20):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_GLANCE / 20)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
