"""From what a configuration leaves to the planner to a configuration that leaves nothing.

`mesh.auto` leaves the mesh, the micro-batches and what is computed again; `data.batch_tokens=0` leaves the batch. Not
for how a plan reads (`describe`, `table`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from typing import Any

import jax
import numpy as np

from jaxformer.config import Config, replace
from jaxformer.parallel.mesh import make_layout
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training.memory import describe_size, step_memory
from jaxformer.training.planner.choice import REMAT, Option, Plan, describe_option, make_plan
from jaxformer.training.planner.hardware import Hardware, hardware_for
from jaxformer.training.planner.share import Candidate, Model
from jaxformer.training.planner.table import describe_layouts
from jaxformer.training.workdir import Workdir

_LOGGER = logging.getLogger(__name__)

_ATTEMPTS = 3


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A plan, and the configuration that follows it where it was asked to.

    Attributes:
      config: complete.
      model: of it.
      chosen: the layout of `config`.
      plan: with all the others.
      automatic: whether the layout was left to the planner.
    """

    config: Config
    model: Model
    chosen: Option
    plan: Plan
    automatic: bool


def left_open(config: Config) -> bool:
    """Whether the planner has to choose something before training."""
    return config.mesh.auto or not config.data.batch_tokens


def plan_for(
    config: Config, task: TranslationTask, *, limit: int = 0, hardware: Hardware | None = None
) -> Resolved:
    """The plan for a configuration, here or on the hardware that it names.

    Args:
      config: of the run.
      task: of the run, for its parameters.
      limit: most slots of a batch that is to be found; 0 for none.
      hardware: in place of what `config.plan` says.

    Raises:
      ValueError: where nothing fits or divides.
    """
    model, hardware = Model(config, task), hardware or hardware_of(config)
    if config.mesh.auto:
        plan = make_plan(model, hardware, limit=limit)
        chosen = plan.best
    else:
        own = Candidate.asked_for(config, hardware.count)
        used = dataclasses.replace(hardware, count=own.devices, per_host=min(hardware.per_host, own.devices))
        chosen = make_plan(model, used, only=own, limit=limit).best
    if not config.data.batch_tokens:
        rows, _, length = chosen.share.batch
        config = replace(config, {"data.batch_tokens": rows * length})
        model = Model(config, task)
    if not config.mesh.auto:
        plan = make_plan(model, hardware)
    automatic = config.mesh.auto
    changes = chosen.candidate.changes() if automatic else {}
    return Resolved(replace(config, changes), model, chosen, plan, automatic)


def hardware_of(config: Config) -> Hardware:
    """What `config.plan` names; or the devices here, measured if it asks for that."""
    hardware = hardware_for(config.plan, config.precision)
    if config.plan.devices or not config.plan.measure:
        return hardware
    from jaxformer.training.planner.measuring import measured

    return measured(hardware, config.precision)


def adopt(config: Config, workdir: Workdir) -> Config:
    """`config` with what a run in `workdir` has found before, if it began and its layout suits the devices here.

    Raises:
      ValueError: if the planner is to choose for devices that are not here.
    """
    if not left_open(config):
        return config
    if config.plan.devices:
        raise ValueError(
            f"plan.devices={config.plan.devices} is for --mode=plan: training takes the devices that are here; leave "
            "it out, or give a mesh and a batch"
        )
    if not workdir.began:
        return config
    stored = workdir.load_config()
    changes: dict[str, Any] = {}
    if not config.data.batch_tokens:
        changes["data.batch_tokens"] = stored.data.batch_tokens
    if config.mesh.auto:
        with contextlib.suppress(ValueError):  # more than the devices here: the plan is made again
            before = Candidate.asked_for(stored, jax.device_count())
            changes |= before.changes() if before.devices == jax.device_count() else {}
    return replace(config, changes)


def resolve(config: Config, tokenizer: Any, *, limit: int = 0) -> tuple[Config, str]:
    """What is left open, chosen; the same in every process.

    Args:
      config: of the run.
      tokenizer: of the run.
      limit: most slots of a batch that is to be found, such as those of the whole training split.

    Returns:
      The configuration, and what was chosen and why, for a run's log; empty if nothing was left open.
    """
    if not left_open(config):
        return config, ""
    found = _confirmed(config, tokenizer, limit)
    said = f"the plan: {describe_option(found.chosen)}, {found.config.data.batch_tokens:,} slots a side"
    needs = f"{describe_size(found.chosen.memory.total)} a device by formula, {1e3 * found.chosen.time.total:,.1f} ms"
    lines = [f"{said}; {needs} a step", *([describe_layouts(found.plan)] if found.automatic else [])]
    return _agreed(found.config), "\n".join(lines)


def _confirmed(config: Config, tokenizer: Any, limit: int) -> Resolved:
    """A plan whose step fits when it is compiled; where it does not, the formula is asked again with less memory."""
    task, hardware = TranslationTask(config, tokenizer), hardware_of(config)
    found = plan_for(config, task, limit=limit, hardware=hardware)
    for _ in range(_ATTEMPTS):
        layout = make_layout(found.config.mesh)
        here = TranslationTask(found.config, tokenizer, layout)
        compiled = step_memory(found.config, here, layout, found.chosen.share.batch).total
        if compiled <= hardware.memory / (1 - config.plan.reserve):
            break
        smaller = hardware.memory * found.chosen.memory.total / compiled
        _LOGGER.warning(
            "%s needs %s when compiled, more than %s by formula: planning again with less",
            describe_option(found.chosen), describe_size(compiled), describe_size(found.chosen.memory.total),
        )  # fmt: skip
        found = plan_for(config, task, limit=limit, hardware=dataclasses.replace(hardware, memory=smaller))
    return found


def _agreed(config: Config) -> Config:
    """What process 0 has chosen: memory that is free, and times, differ a little between processes."""
    if jax.process_count() == 1:
        return config
    from jax.experimental import multihost_utils

    mesh, memory = config.mesh, config.memory
    numbers = [mesh.data, mesh.fsdp, mesh.tensor, mesh.context, memory.accumulate, REMAT.index(memory.remat)]
    first = multihost_utils.broadcast_one_to_all(np.array([*numbers, config.data.batch_tokens]))
    *sizes, accumulate, remat, tokens = (int(number) for number in first)
    axes = dict(zip(("data", "fsdp", "tensor", "context"), sizes, strict=True))
    return replace(config, {
        "mesh": axes, "memory": {"accumulate": accumulate, "remat": REMAT[remat]}, "data.batch_tokens": tokens
    })  # fmt: skip
