"""All processes of a run, and the run when it goes on, have the same data and learnt the same from it.

Not for reading data (`studies`), nor for other settings of a run that goes on (`workdir`).
"""

from __future__ import annotations

import jax

from jaxformer.parallel.processes import every_ones
from jaxformer.training.study import Facts, Prepared, Study
from jaxformer.training.workdir import Workdir


def check_same_everywhere(prepared: Prepared) -> None:
    """Refuses data that one process has read otherwise than another: the same number must mean the same token to all.

    Raises:
      ValueError: in every process, naming one that differs.
    """
    every = every_ones([prepared.checksum, prepared.facts.digest])
    for process, (checksum, digest) in enumerate(every):
        if [checksum, digest] != every[0]:
            what = "other training data" if checksum != every[0][0] else "another vocabulary or other statistics"
            raise ValueError(
                f"process {process} has {what} than process 0: give all hosts the same files, or a folder that they "
                "share"
            )


def keep_facts(study: Study, facts: Facts, workdir: Workdir) -> None:
    """Writes the facts of a new run to its workdir, by the first process.

    Raises:
      ValueError: if the run there began with others.
    """
    if study.has_facts(workdir):
        if study.load_facts(workdir).digest != facts.digest:
            kind = "text" if workdir.tokenizer.exists() else "data"
            what = "its vocabulary is another one" if kind == "text" else "its labels or its statistics are others"
            raise ValueError(
                f"the training {kind} has changed since the run in {workdir.path} began: {what}; restore the {kind}, "
                "or choose another --workdir"
            )
    elif jax.process_index() == 0:
        facts.save(workdir)


def check_same_data(before: list[int] | None, now: list[int], workdir: Workdir) -> None:
    """Refuses to continue a run on other data than it began with: the order of its batches would be another.

    Args:
      before, now: pairs, and checksums of their lengths and tokens (the last not in runs of 2026-11-28 and before).
      workdir: of the run.

    Raises:
      ValueError: if they differ.
    """
    if before is None or before != now[: len(before)]:
        raise ValueError(
            f"the training data has changed since the run in {workdir.path} began: restore it, or choose another "
            "--workdir"
        )
