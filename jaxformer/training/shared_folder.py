"""All processes of a run write to one folder: with disks of their own, no checkpoint would ever be complete.

Not for who may write there (`workdir`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from jaxformer.monitoring.durable import DiskError, explain_disk_errors
from jaxformer.parallel.processes import every_ones
from jaxformer.training.workdir import Workdir

SECONDS = 75.0
"""Within which a new file is seen by other hosts: NFS remembers for 60, by default, that a folder was not there."""


def check_shared(workdir: Workdir) -> None:
    """Refuses a workdir in which other processes do not see what the first one writes there. All must call it together.

    Raises:
      ValueError: in every process, naming one that does not see it.
      DiskError: in every process, if the first cannot write there.
    """
    if jax.process_count() == 1:
        return
    with contextlib.nullcontext(("", "")) if jax.process_index() else _written(workdir.path) as ours:
        token, failure = every_ones(ours)[0]
        if failure:
            raise DiskError(failure)
        every = every_ones(_seen(workdir.path / token))
    if not all(every):
        raise ValueError(
            f"--workdir={workdir.path} is not one folder that all processes share: process {every.index(False)} does "
            "not see there what process 0 writes; give a folder of a file system that every host has mounted"
        )


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[tuple[str, str]]:
    """The name of a new file in `folder`, there for the length of the block, or why it could not be written."""
    with contextlib.ExitStack() as stack:
        try:
            with explain_disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix=".shared-"))
        except DiskError as error:
            told = "", str(error)
        else:
            told = os.path.basename(file.name), ""
        yield told


def _seen(file: Path) -> bool:
    """Whether `file` is there, or soon will be."""
    end = time.monotonic() + SECONDS
    while not os.path.exists(file):  # false for whatever refuses an answer, too
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
        for folder in (file.parent.parent, file.parent):  # asks the server of a network file system anew
            with contextlib.suppress(OSError):
                os.listdir(folder)
    return True
