"""`--mode=plan`: what a run would do and need, each number with where it comes from, and which layouts there are.

The step is compiled for its largest batch where the devices are here, which tells its memory exactly; nothing is
trained and no data is read. Not for the facts about the machine (`monitoring.machine`).
"""

from __future__ import annotations

import contextlib
import dataclasses

import jax

from jaxformer.config import Config, TrainingConfig, replace
from jaxformer.data.bucketing import Shape
from jaxformer.monitoring.peaks import has_bf16, on_record
from jaxformer.monitoring.progress import duration
from jaxformer.parallel.mesh import make_layout
from jaxformer.training.beginning import check_beginning
from jaxformer.training.memory import MakeTask, describe_size, step_memory
from jaxformer.training.planner.choice import Option, Plan, make_plan
from jaxformer.training.planner.hardware import assumed_hosts, hardware_for
from jaxformer.training.planner.record import adopted, shapes_before
from jaxformer.training.planner.resolve import Resolved, Shapes, plan_for
from jaxformer.training.planner.share import Model
from jaxformer.training.planner.table import describe_arithmetic, describe_layouts
from jaxformer.training.study import Study, check_settings, open_study, task_maker
from jaxformer.training.workdir import Workdir


def describe_plan(config: Config, workdir: Workdir) -> str:
    """The plan as tables for a person.

    Raises:
      ValueError: for settings that do not go together, devices or batch sizes that do not fit, or a layout to be chosen
        where none fits.
    """
    study = open_study(config)
    check_settings(study)
    asked, (config, notes, shapes) = config, _continued(config, workdir)
    if not workdir.began:
        check_beginning(config, workdir)
    refused = any(note.startswith(_REFUSED) for note in notes)
    make_task, filled = task_maker(study.assumed_facts()), not config.data.batch_tokens
    found = plan_for(config, make_task, shapes=shapes)
    by = "as the run began" if asked.mesh.auto and not config.mesh.auto else _BY[found.automatic]
    config, chosen, plan = found.config, found.chosen, found.plan
    by = f"{by}; {jax.process_count()} process(es) here"
    lines = [
        ("run", "new, in another workdir" if refused else run_state(workdir) + _beginning(config, workdir)),
        ("mesh", f"{chosen.candidate.describe()} of {plan.hardware.describe()}, {by}"),
        *_work(study, config, found, filled),
        ("memory", _memory(found, make_task)),
        ("time", _time(config, chosen, filled)),
        ("evaluation", _evaluation(study, config)),
        ("checkpoints", _checkpoints(config.training)),
        ("workdir", str(workdir.path)),
    ]
    table = "\n".join(f"{name:<12} {text}" for name, text in lines)
    notes += filter(None, [assumed_hosts(config.plan)])
    return "\n\n".join([*notes, table, *_layouts(plan, found, asked.mesh.auto), *_precisions(found, make_task)])


_REFUSED = "--mode=train would refuse this workdir"

_LARGEST = "; as large as fits, of which training takes at most a sixteenth of its data"

_BY = {True: "chosen by the plan", False: "as the configuration says"}


def _continued(config: Config, workdir: Workdir) -> tuple[Config, list[str], Shapes]:
    """The configuration that `train` would go on with in `workdir`, what there is to say of that, and its batches."""
    found, said = adopted(config, workdir)
    try:
        if workdir.began and workdir.config.exists():
            workdir.check_config(found)
    except ValueError as error:
        return config, [f"{_REFUSED}; below is the plan of a new run:\n{error}"], []
    shapes: Shapes = []
    if _steps(workdir):
        from jaxformer.training.run_checkpoints import open_checkpoints

        with contextlib.closing(open_checkpoints(config, workdir, read_only=True)) as checkpoints:
            shapes = shapes_before(checkpoints)
    return found, [said] if said else [], shapes


def _steps(workdir: Workdir) -> list[int]:
    return [int(entry.name) for entry in workdir.checkpoints.glob("*") if entry.name.isdigit()]


def run_state(workdir: Workdir) -> str:
    """Whether a run in `workdir` is new, goes on, or is finished."""
    if workdir.result() is not None:
        return "finished: training again would do nothing"
    steps = _steps(workdir)
    return f"continues after step {max(steps):,}" if steps else "new"


def _beginning(config: Config, workdir: Workdir) -> str:
    start = "" if workdir.began else config.training.start_from
    return f", with the parameters of {start} at first" if start else ""


def _evaluation(study: Study, config: Config) -> str:
    decoding, every = config.decoding, f"every {config.training.eval_every:,} steps"
    if not config.training.eval_every:
        every = "none on the way"
    if not study.searching():
        return f"{every}, and at the end"
    search = f"beam {decoding.beam_size}" if decoding.method == "beam" else decoding.method
    return f"{every}, greedy; at the end {search}"


def _checkpoints(training: TrainingConfig) -> str:
    every = f"every {training.checkpoint_every:,} steps, " if training.checkpoint_every else ""
    late = f"after {training.checkpoint_minutes:g} minutes without one, " if training.checkpoint_minutes else ""
    scored = "after each best validation, " if training.eval_every else ""
    best = f" and the best by {training.best_metric}" if training.eval_every else ""
    when = f"{every}{late}{scored}"
    end = "and at the end" if when else "at the end alone"
    return f"{when}{end}; the newest {training.keep_checkpoints}{best} stay"


def _work(study: Study, config: Config, found: Resolved, filled: bool) -> list[tuple[str, str]]:
    chosen, model = found.chosen, found.model
    rows, length, target = chosen.share.batch
    data, steps = config.data, config.training.num_steps
    largest, at_most = (_LARGEST, "at most ") if filled else ("", "")
    slots = f"{at_most}about {steps * chosen.share.slots:,}"
    pieces = f", {model.network.vocabulary:,} pieces" if model.network.vocabulary else ""
    return [
        ("model", f"{model.task.num_parameters:,} parameters{pieces}, {config.precision}"),
        (
            "batch",
            f"{data.batch_tokens:,} slots{' a side' if target else ''}, {data.batching}; the longest rows: {rows} of "
            f"{length}, in {config.memory.accumulate} micro-batch(es), remat {config.memory.remat}{largest}",
        ),
        ("FLOPs", study.describe_flops(model.task, Shape(rows, length, target))),
        ("steps", f"{steps:,}, {slots} {'target ' if target else ''}slots"),
    ]


def _memory(found: Resolved, make_task: MakeTask) -> str:
    config, option, hardware = found.config, found.chosen, found.plan.hardware
    formula = option.memory
    fits = "" if formula.total <= hardware.memory else f", MORE than the {describe_size(hardware.memory)} there are"
    parts = f"{describe_size(formula.state)} of state and {describe_size(formula.temporary)} during a step"
    said = f"{describe_size(formula.total)} on each device: {parts}, by formula{fits}"
    if config.plan.devices:
        return said
    layout = make_layout(config.mesh)
    compiled = step_memory(config, make_task(config, layout), layout, option.share.batch)
    if compiled.temporary is None:
        return f"{said}; the backend does not tell more"
    return (
        f"{describe_size(compiled.total)} on each device: {describe_size(compiled.state)} of state (parameters, "
        f"optimizer{', moving average' if config.training.ema_decay > 0 else ''}) and "
        f"{describe_size(compiled.temporary)} during a step (compiled, not guessed; the formula says "
        f"{describe_size(formula.total)}){fits}"
    )


def _time(config: Config, option: Option, filled: bool) -> str:
    training = config.training
    seconds = training.num_steps * option.time.total * training.mean_passes / training.passes
    # With given rows, shorter ones are as many; where the batch fills memory, the data may allow no such batch.
    bound = "at most " if config.data.batch_rows or filled else ""
    return (
        f"{bound}about {duration(seconds)} of training, {1e3 * option.time.total:,.1f} ms a step of the longest rows, "
        "by the rates below"
    )


def _layouts(plan: Plan, found: Resolved, automatic: bool) -> list[str]:
    """The table of layouts and the arithmetic of the first; why there are none, where none fits."""
    try:
        best = plan.best
    except ValueError as error:
        return [str(error)]
    # Where the run goes on with the layout of an earlier plan, the first of the table is not what it would train with.
    first = "The first of them" if automatic else "The first of them, which --config.mesh=auto trains with"
    return [
        describe_layouts(plan, None if found.automatic else found.chosen.candidate),
        f"{first}:\n{describe_arithmetic(best, plan.hardware)}",
    ]


def _precisions(found: Resolved, make_task: MakeTask) -> list[str]:
    """How fast the best layout in another precision would be, for information: a plan does not change numbers.

    Of 16 bits that is bf16, or fp16 where a device has units for it alone; nothing where no data sheet tells.
    """
    kind = found.plan.hardware.kind
    if not on_record(kind) or not found.plan.options:
        return []
    lines = []
    for precision in ("fp32", "bf16" if has_bf16(kind) else "fp16"):
        if precision != found.config.precision:
            config = replace(found.config, {"precision": precision})
            rates = hardware_for(dataclasses.replace(config.plan, measure=False), precision)
            other = make_plan(Model(config, make_task(config, None)), rates, shapes=found.plan.shapes)
            if other.options:
                factor = other.best.slots_per_second / found.plan.best.slots_per_second
                lines.append(f"In {precision} the best layout, {other.best.candidate.describe()}, would run at "
                             f"{factor:.2f} times this speed, by the data sheet.")  # fmt: skip
    return ["\n".join(lines)]
