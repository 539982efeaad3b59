"""What a plan has settled for a run, kept in its workdir, and taken up again by the same command.

A batch is settled for the life of a run; a layout for as long as the run continues on devices as many and of the kind
that the plan was for, and asks for nothing else. What no plan made is not taken up. Not for making plans (`resolve`).
"""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any

import jax

from jaxformer.config import Config, from_dict, replace, to_dict
from jaxformer.monitoring.durable import atomic_write
from jaxformer.parallel.processes import every_ones
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.planner.hardware import parse_devices
from jaxformer.training.planner.share import Candidate
from jaxformer.training.workdir import MAY_DIFFER, Workdir, differences

_LOGGER = logging.getLogger(__name__)

_PLANNED_BY = ("plan.", "memory.")
"""Fields that change no number of a run, but its layout: where they are others than before, it is planned again."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What is in `plan.json`.

    Attributes:
      devices: how many the plan was for.
      kind: of which kind they were.
      layout: fields of the configuration that the plan set; empty if the mesh was not left to it.
      batch_tokens: that it found; 0 if the batch was not left to it.
      asked: the configuration that left something open.
    """

    devices: int
    kind: str
    layout: dict[str, Any]
    batch_tokens: int
    asked: dict[str, Any]

    @classmethod
    def read(cls, workdir: Workdir) -> Record | None:
        """That of the run in `workdir`; None if there is none, with a warning if it cannot be read."""
        try:
            found = cls(**json.loads(workdir.plan.read_text(encoding="utf-8")))
            from_dict(found.asked)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, AttributeError, OSError) as error:
            _LOGGER.warning("%s cannot be used (%s): what it settled is planned again", workdir.plan, error)
            return None
        return found

    def keep(self, workdir: Workdir) -> None:
        """Writes it."""
        atomic_write(workdir.plan, json.dumps(dataclasses.asdict(self), indent=2) + "\n")


def keep(asked: Config, planned: Config, workdir: Workdir) -> None:
    """Writes down what was settled, by the process that holds the workdir.

    Args:
      asked: the configuration that left something open.
      planned: that which leaves nothing open.
      workdir: of the run.
    """
    if jax.process_index():
        return
    before = Record.read(workdir)
    found = not asked.data.batch_tokens or (
        workdir.began and before is not None and before.batch_tokens == planned.data.batch_tokens
    )
    count = jax.device_count()
    layout = Candidate.asked_for(planned, count).changes() if asked.mesh.auto else {}
    Record(count, _kind(), layout, planned.data.batch_tokens if found else 0, to_dict(asked)).keep(workdir)
    workdir.keep_config(planned)


def adopted(config: Config, workdir: Workdir) -> tuple[Config, str]:
    """`config` with what a plan has settled before for the run in `workdir`, and that in words, empty if it is nothing.

    All processes must call it together: they go by what process 0 reads.

    Args:
      config: of the command.
      workdir: of the run.
    """
    devices, kind = parse_devices(config.plan.devices) if config.plan.devices else (jax.device_count(), _kind())
    changes = every_ones(_changes(config, workdir, devices, kind))[0]
    words = []
    if "mesh.data" in changes:
        layout = Candidate.asked_for(replace(config, changes), devices).in_words
        words.append(f"the layout of the run before: {layout}, on {devices} x {kind}")
    if "data.batch_tokens" in changes:
        words.append(f"the batch of the run before: {changes['data.batch_tokens']:,} slots")
    if words and not workdir.began:
        words.append("it left no record: if its memory ran out, raise --config.plan.reserve, and it is planned again")
    return replace(config, changes), "; ".join(words) + f" ({workdir.plan})" if words else ""


def _changes(config: Config, workdir: Workdir, devices: int, kind: str) -> dict[str, Any]:
    record = Record.read(workdir)
    if record is None:
        return {}
    different = differences(from_dict(record.asked), config)
    alike = (record.devices, record.kind) == (devices, kind)
    alike = alike and not any(field.startswith(_PLANNED_BY) for field in different)
    # Until its first record a run is bound to nothing: its plan stands for the same command on the same devices.
    others = [field for field in different if field.startswith("mesh.") or not field.startswith(MAY_DIFFER)]
    if not workdir.began and (others or not alike):
        return {}
    changes: dict[str, Any] = {}
    if not config.data.batch_tokens and record.batch_tokens:
        changes["data.batch_tokens"] = record.batch_tokens
    if config.mesh.auto and record.layout and alike:
        changes |= record.layout
    return changes


def shapes_before(checkpoints: Checkpoints) -> list[tuple[int, int, int]]:
    """(rows, source slots, target slots) of the batches that a run began with, and keeps; none for a new run."""
    run = checkpoints.newest_run()
    found = every_ones((run or {}).get("batches", {}).get("shapes", []))[0]
    return [(rows, source, target) for rows, source, target in found]


def _kind() -> str:
    return str(jax.devices()[0].device_kind)
