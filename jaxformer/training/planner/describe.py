"""`--mode=plan`: what a run would do and need, each number with where it comes from, and which layouts there are.

The step is compiled for its largest batch where the devices are here, which tells its memory exactly; nothing is
trained and no data is read. Not for the facts about the machine (`monitoring.machine`).
"""

from __future__ import annotations

import dataclasses

import jax

from jaxformer.config import Config, replace
from jaxformer.monitoring.progress import duration
from jaxformer.parallel.mesh import make_layout
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training.memory import describe_size, step_memory
from jaxformer.training.planner.choice import Option, Plan, make_plan
from jaxformer.training.planner.hardware import hardware_for
from jaxformer.training.planner.resolve import Resolved, plan_for
from jaxformer.training.planner.share import Model
from jaxformer.training.planner.table import describe_arithmetic, describe_layouts
from jaxformer.training.workdir import Workdir


class _Sizes:
    """The vocabulary that the configuration asks for, in place of a tokenizer that does not exist yet."""

    def __init__(self, config: Config) -> None:
        self.source_vocabulary_size = self.target_vocabulary_size = config.data.vocabulary_size


def describe_plan(config: Config, workdir: Workdir) -> str:
    """The plan as tables for a person.

    Raises:
      ValueError: for devices or batch sizes that do not fit together, or a layout to be chosen where none fits.
    """
    found = plan_for(config, TranslationTask(config, _Sizes(config)))  # type: ignore[arg-type]
    config, chosen, plan = found.config, found.chosen, found.plan
    lines = [
        ("run", run_state(workdir)),
        ("mesh", f"{chosen.candidate.describe()} of {plan.hardware.describe()}, {_by(found)}"),
        *_work(config, chosen, found.model),
        ("memory", _memory(found)),
        ("time", _time(config, chosen)),
        ("evaluation", f"every {config.training.eval_every:,} steps, greedy; at the end {_search(config)}"),
        (
            "checkpoints",
            f"every {config.training.checkpoint_every:,} steps or {config.training.checkpoint_minutes:g} minutes; the "
            f"newest {config.training.keep_checkpoints} and the best by {config.training.best_metric} stay",
        ),
        ("workdir", str(workdir.path)),
    ]
    table = "\n".join(f"{name:<12} {text}" for name, text in lines)
    return "\n\n".join([table, *_layouts(plan, found), *_precisions(found)])


def run_state(workdir: Workdir) -> str:
    """Whether a run in `workdir` is new, goes on, or is finished."""
    if workdir.result() is not None:
        return "finished: training again would do nothing"
    steps = [int(entry.name) for entry in workdir.checkpoints.glob("*") if entry.name.isdigit()]
    return f"continues after step {max(steps):,}" if steps else "new"


def _by(found: Resolved) -> str:
    asked = "chosen by the plan" if found.automatic else "as the configuration says"
    return f"{asked}; {jax.process_count()} process(es) here"


def _search(config: Config) -> str:
    decoding = config.decoding
    return f"beam {decoding.beam_size}" if decoding.method == "beam" else decoding.method


def _work(config: Config, chosen: Option, model: Model) -> list[tuple[str, str]]:
    rows, _, length = chosen.share.batch
    data, steps = config.data, config.training.num_steps
    return [
        ("model", f"{model.task.num_parameters:,} parameters, {data.vocabulary_size:,} pieces, {config.precision}"),
        (
            "batch",
            f"{data.batch_tokens:,} slots a side, {data.batching}; the longest rows: {rows} of {length} tokens, in "
            f"{config.memory.accumulate} micro-batch(es), remat {config.memory.remat}",
        ),
        ("steps", f"{steps:,}, about {steps * rows * length:,} target slots"),
    ]


def _memory(found: Resolved) -> str:
    config, option, hardware = found.config, found.chosen, found.plan.hardware
    formula = option.memory
    fits = "" if formula.total <= hardware.memory else f", MORE than the {describe_size(hardware.memory)} there are"
    parts = f"{describe_size(formula.state)} of state and {describe_size(formula.temporary)} during a step"
    said = f"{describe_size(formula.total)} on each device: {parts}, by formula{fits}"
    if config.plan.devices:
        return said
    layout = make_layout(config.mesh)
    compiled = step_memory(config, TranslationTask(config, found.model.task.tokenizer, layout), layout,
                           option.share.batch)  # fmt: skip
    if compiled.temporary is None:
        return f"{said}; the backend does not tell more"
    return (
        f"{describe_size(compiled.total)} on each device: {describe_size(compiled.state)} of state (parameters, "
        f"optimizer{', moving average' if config.training.ema_decay > 0 else ''}) and "
        f"{describe_size(compiled.temporary)} during a step (compiled, not guessed; the formula says "
        f"{describe_size(formula.total)}){fits}"
    )


def _time(config: Config, option: Option) -> str:
    training = config.training
    seconds = training.num_steps * option.time.total * training.mean_passes / training.passes
    return (
        f"about {duration(seconds)} of training, {1e3 * option.time.total:,.1f} ms a step of the longest rows, by the "
        f"rates below"
    )


def _layouts(plan: Plan, found: Resolved) -> list[str]:
    """The table of layouts and the arithmetic of the first; why there are none, where none fits."""
    try:
        best = plan.best
    except ValueError as error:
        return [str(error)]
    first = "The first of them" if found.automatic else "The first of them, which --config.mesh=auto trains with"
    return [
        describe_layouts(plan, None if found.automatic else found.chosen.candidate),
        f"{first}:\n{describe_arithmetic(best, plan.hardware)}",
    ]


def _precisions(found: Resolved) -> list[str]:
    """How fast the best layout in another precision would be, for information: a plan does not change numbers."""
    if found.plan.hardware.cpu or not found.plan.options:
        return []
    lines = []
    for precision in ("fp32", "bf16"):
        if precision != found.config.precision:
            config = replace(found.config, {"precision": precision})
            task = TranslationTask(config, found.model.task.tokenizer)
            rates = hardware_for(dataclasses.replace(config.plan, measure=False), precision)
            other = make_plan(Model(config, task), rates)
            if other.options:
                factor = other.best.slots_per_second / found.plan.best.slots_per_second
                lines.append(f"In {precision} the best layout, {other.best.candidate.describe()}, would run at "
                             f"{factor:.2f} times this speed, by the data sheet.")  # fmt: skip
    return ["\n".join(lines)]
