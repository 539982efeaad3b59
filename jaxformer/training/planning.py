"""`--mode=plan`: what a run would do and need, each number with where it comes from.

The step is compiled for its largest batch, which tells its memory exactly, but nothing is run and no data is read. Not
for the facts about the machine (`monitoring.machine`).
"""

from __future__ import annotations

from typing import Any

import jax

from jaxformer.config import Config
from jaxformer.data.packing import packed_rows
from jaxformer.monitoring.machine import usable_cores
from jaxformer.monitoring.peaks import data_sheet_rate
from jaxformer.monitoring.progress import duration
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.mesh import make_layout
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training.leaves import leaf_names
from jaxformer.training.memory import describe_size, step_memory
from jaxformer.training.workdir import Workdir

_CPU_RATE = 45e9
"""FLOP/s of one core in training: measured on two cores (`FACTS`: 13,000 tokens/s of the `tiny` shape)."""

_SHARE = 0.25
"""Of a GPU's data sheet: a little less than published training runs of this model reach (28 to 33 %)."""


class _Sizes:
    """The vocabulary that the configuration asks for, in place of a tokenizer that does not exist yet."""

    def __init__(self, config: Config) -> None:
        self.source_vocabulary_size = self.target_vocabulary_size = config.data.vocabulary_size


def describe_plan(config: Config, workdir: Workdir) -> str:
    """The plan as a table for a person.

    Raises:
      ValueError: for devices or batch sizes that do not fit together.
    """
    layout = make_layout(config.mesh)
    mesh = layout.mesh
    task = TranslationTask(config, _Sizes(config), layout)  # type: ignore[arg-type]
    rows, length = _largest_batch(config, layout.parts("rows") * config.memory.accumulate)
    length += -length % layout.parts("length")
    training, slots = config.training, rows * length
    lines = [
        ("run", _run_state(workdir)),
        ("mesh", f"{layout.describe()} ({mesh.devices.flat[0].device_kind}), {jax.process_count()} process(es)"),
        ("model", f"{task.num_parameters:,} parameters, {config.data.vocabulary_size:,} pieces, {config.precision}"),
        (
            "batch",
            f"{config.data.batch_tokens:,} slots a side, {config.data.batching}; the longest rows: {rows} of {length} "
            f"tokens, in {config.memory.accumulate} micro-batch(es)",
        ),
        ("steps", f"{training.num_steps:,}, about {training.num_steps * slots:,} target slots"),
        ("memory", _memory(config, task, layout, rows, length)),
        ("time", _time(config, task, mesh, slots)),
        ("evaluation", f"every {training.eval_every:,} steps, greedy; at the end {_search(config)}"),
        (
            "checkpoints",
            f"every {training.checkpoint_every:,} steps or {training.checkpoint_minutes:g} minutes; the newest "
            f"{training.keep_checkpoints} and the best by {training.best_metric} stay",
        ),
        ("workdir", str(workdir.path)),
    ]
    return "\n".join(f"{name:<12} {text}" for name, text in lines)


def _run_state(workdir: Workdir) -> str:
    if workdir.result() is not None:
        return "finished: training again would do nothing"
    steps = [int(entry.name) for entry in workdir.checkpoints.glob("*") if entry.name.isdigit()]
    return f"continues after step {max(steps):,}" if steps else "new"


def _search(config: Config) -> str:
    decoding = config.decoding
    return f"beam {decoding.beam_size}" if decoding.method == "beam" else decoding.method


def _largest_batch(config: Config, divisor: int) -> tuple[int, int]:
    data = config.data
    if data.batching == "pack":
        return packed_rows(data, divisor)
    length = data.max_length
    rows = data.batch_tokens // length // divisor * divisor
    if not rows:
        raise ValueError(
            f"data.batch_tokens={data.batch_tokens} does not hold {divisor} rows of {length} tokens, one for each "
            f"device and micro-batch: raise --config.data.batch_tokens to {divisor * length} or more"
        )
    return rows, length


def _memory(config: Config, task: TranslationTask, layout: Layout, rows: int, length: int) -> str:
    found = step_memory(config, task, layout, (rows, length, length))
    if found.temporary is None:
        return f"{describe_size(found.state)} of state on each device; the backend does not tell more"
    average = ", moving average" if config.training.ema_decay > 0 else ""
    return (
        f"{describe_size(found.total)} on each device: {describe_size(found.state)} of state (parameters, "
        f"optimizer{average}) and {describe_size(found.temporary)} during a step (compiled, not guessed)"
    )


def _time(config: Config, task: TranslationTask, mesh: Any, slots: int) -> str:
    kind = mesh.devices.flat[0].device_kind
    peak = data_sheet_rate(kind, config.precision)
    if mesh.devices.flat[0].platform == "cpu":
        rate, why = _CPU_RATE * usable_cores(), f"{usable_cores()} cores at {_CPU_RATE / 1e9:.0f} GFLOP/s each"
    elif peak:
        rate, why = _SHARE * peak * mesh.size, f"{_SHARE:.0%} of the peak of {mesh.size} x {kind}"
    else:
        return f"unknown: the speed of {kind} is not on record; the progress line will tell"
    # A multiplication and an addition for each weight a token meets, once forward and twice backward (Kaplan et al.
    # 2020, section 2.1); embeddings are looked up, the output projection is not.
    weights = {name: leaf.size for name, leaf in leaf_names(task.abstract_params()).items() if leaf.ndim >= 2}
    met = sum(size for name, size in weights.items() if name.startswith(("encoder.", "decoder.")))
    met += config.data.vocabulary_size * config.model.d_model
    work = 6.0 * met * slots * config.training.passes
    seconds = config.training.num_steps * work / rate
    return f"about {duration(seconds)} of training, from {work / 1e9:,.0f} GFLOP a step and {why}"

