"""From what a configuration leaves to the planner to a configuration that leaves nothing.

`mesh.auto` leaves the mesh, the micro-batches and what is computed again; `data.batch_tokens=0` leaves the batch. Not
for how a plan reads (`describe`, `table`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from jaxformer.config import Config, replace
from jaxformer.parallel.mesh import make_layout
from jaxformer.parallel.processes import every_ones
from jaxformer.training.memory import MakeTask, describe_size, step_memory
from jaxformer.training.planner.choice import Option, Plan, describe_option, make_plan, remedy
from jaxformer.training.planner.hardware import Hardware, agreed, hardware_for
from jaxformer.training.planner.record import adopted
from jaxformer.training.planner.share import Candidate, Model
from jaxformer.training.planner.table import describe_layouts
from jaxformer.training.workdir import Workdir

_LOGGER = logging.getLogger(__name__)

_ATTEMPTS = 4

_BATCHES = 16
"""Into how many batches an epoch is cut at least where the plan finds the batch: one of most of an epoch would be
mostly padding, and a step or two of training."""

_MARGIN = 0.98
"""Of the memory that a corrected formula may fill: its error changes with the size of a batch."""

Shapes = Sequence[tuple[int, int, int]]


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


def plan_for(
    config: Config, make_task: MakeTask, *, limit: int = 0, hardware: Hardware | None = None, shapes: Shapes = ()
) -> Resolved:
    """The plan for a configuration, here or on the hardware that it names.

    Args:
      config: of the run.
      make_task: the task of a configuration, for its network and its parameters.
      limit: most slots of a batch that is to be found; 0 for none.
      hardware: in place of what `config.plan` says.
      shapes: of the batches that the run began with; see `make_plan`.

    Raises:
      ValueError: where nothing fits or divides.
    """
    model, hardware = Model(config, make_task(config, None)), hardware or hardware_of(config)
    if config.mesh.auto:
        plan = make_plan(model, hardware, limit=limit, shapes=shapes)
        chosen = plan.best
    else:
        own = Candidate.asked_for(config, hardware.count)
        used = dataclasses.replace(hardware, count=own.devices, per_host=min(hardware.per_host, own.devices))
        chosen = make_plan(model, used, only=own, limit=limit, shapes=shapes).best
    if not config.data.batch_tokens:
        rows, length, _ = chosen.share.batch
        config = replace(config, {"data.batch_tokens": rows * length})
        model = Model(config, make_task(config, None))
    if not config.mesh.auto:
        plan = make_plan(model, hardware, shapes=shapes)
    automatic = config.mesh.auto
    changes = chosen.candidate.changes() if automatic else {}
    return Resolved(replace(config, changes), model, chosen, plan, automatic)


def hardware_of(config: Config) -> Hardware:
    """What `config.plan` names; or the devices here, measured if it asks for that. The same in every process."""
    hardware = hardware_for(config.plan, config.precision)
    if config.plan.devices:
        return hardware
    if config.plan.measure:
        from jaxformer.training.planner.measuring import measured

        hardware = measured(hardware, config.precision)
    return agreed(hardware)


def adopt(config: Config, workdir: Workdir) -> Config:
    """`config` with what a plan has settled before for the run in `workdir`, which is said; see `record`.

    Raises:
      ValueError: if the planner is to choose for devices that are not here.
    """
    if not config.left_open:
        return config
    if config.plan.devices:
        raise ValueError(
            f"plan.devices={config.plan.devices} is for --mode=plan: training takes the devices that are here; leave "
            "it out, or give a mesh and a batch"
        )
    config, said = adopted(config, workdir)
    if said:
        _LOGGER.info("%s", said)
    return config


def resolve(config: Config, make_task: MakeTask, *, slots: int = 0, shapes: Shapes = ()) -> tuple[Config, str]:
    """What is left open, chosen; the same in every process.

    Args:
      config: of the run.
      make_task: the task of a configuration.
      slots: of an epoch, of which a batch that is to be found is a part; 0 for any batch.
      shapes: of the batches that the run began with; see `make_plan`.

    Returns:
      The configuration, and what was chosen and why, for a run's log; empty if nothing was left open.

    Raises:
      ValueError: where nothing fits or divides.
    """
    if not config.left_open:
        return config, ""
    limit = max(slots // _BATCHES, config.data.longest_row) if slots else 0
    found, needed = _confirmed(config, make_task, limit, shapes)
    side = " a side" if found.chosen.share.target else ""
    said = f"the plan: {describe_option(found.chosen)}, {found.config.data.batch_tokens:,} slots{side}"
    time = f"{1e3 * found.chosen.time.total:,.1f} ms a step"
    needs = f"{describe_size(needed)} a device, {describe_size(found.chosen.memory.total)} by formula"
    lines = [f"{said}; {needs}; {time}", *([describe_layouts(found.plan)] if found.automatic else [])]
    return found.config, "\n".join(lines)


def _confirmed(config: Config, make_task: MakeTask, limit: int, shapes: Shapes) -> tuple[Resolved, int]:
    """A plan whose step fits when it is compiled, and the bytes that it needs.

    Where it does not fit, the formula is asked again with as much less memory as it was wrong by. Every plan that is
    returned has been compiled; but all of a step's memory that the backend does not tell is the formula's.

    Raises:
      ValueError: if none is found after some attempts, with what the last of them needs and what there is.
    """
    hardware = hardware_of(config)
    usable, refused = hardware, ""
    for _ in range(_ATTEMPTS):
        try:
            found = plan_for(config, make_task, limit=limit, hardware=usable, shapes=shapes)
        except ValueError:
            if not refused:
                raise
            break
        chosen = found.chosen
        needed = _needed(found, make_task)
        if needed <= hardware.memory:
            return found, needed
        sizes = f"{describe_size(needed)} on each device when compiled, {describe_size(chosen.memory.total)} by formula"
        refused = f"{describe_option(chosen)}, needs {sizes}"
        wrong = needed / chosen.memory.total
        _LOGGER.warning("%s: planning again with less memory", refused)
        usable = dataclasses.replace(
            hardware,
            memory=_MARGIN * hardware.memory / wrong,
            memory_source=f"{hardware.memory_source}, by a formula that said {1 - 1 / wrong:.0%} too little",
        )
    raise ValueError(
        f"no layout of {hardware.describe()} fits: the last that was compiled, {refused}, and a step may use "
        f"{describe_size(hardware.memory)} ({hardware.memory_source}). {remedy(chosen)}"
    )


def _needed(found: Resolved, make_task: MakeTask) -> int:
    """Bytes on each device, as process 0 has compiled the step."""
    layout = make_layout(found.config.mesh)
    compiled = step_memory(found.config, make_task(found.config, layout), layout, found.chosen.share.batch)
    temporary = found.chosen.memory.temporary if compiled.temporary is None else compiled.temporary
    return int(every_ones(compiled.state + temporary)[0])
