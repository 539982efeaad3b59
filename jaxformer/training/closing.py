"""How a run ends: its result on disk, and what a person is told: scores, samples, time, where everything is, what next.

Not for computing the scores (`study.Study.score`).
"""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from jaxformer.monitoring.progress import duration, time_shares
from jaxformer.monitoring.trackers import JsonlTracker, Tracker, Trackers, read_metrics
from jaxformer.training.workdir import Workdir

if TYPE_CHECKING:
    from jaxformer.training.study import Scored, Study

_LOGGER = logging.getLogger(__name__)


def record_result(
    study: Study,
    workdir: Workdir,
    outcome: Any,
    scored: Scored,
    described: str,
    seconds: float,
    *,
    beside: Sequence[Tracker] = (),
) -> dict[str, Any]:
    """Records the final scores, with the trackers `beside` too, draws the curves, and marks the run as finished."""
    metrics, step = dict(scored.metrics), outcome.progress.step
    if jax.process_index():
        return {"metrics": metrics, "step": step}
    with contextlib.closing(Trackers([JsonlTracker(workdir.metrics)], beside=beside)) as tracker:
        # Under another name than the validation on the way, which translates greedily.
        tracker.log(step, {name if name.startswith("test/") else f"final/{name}": v for name, v in metrics.items()})
    records = read_metrics(workdir.metrics)
    _draw(study, workdir, records)
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    return workdir.write_result(
        {**metrics, **({"train/loss": losses[-1]} if losses else {})},
        signatures=dict(scored.signatures),
        **scored.details,
        evaluated=described,
        step=step,
        stopped=outcome.progress.stopped,
        **{study.counted: outcome.progress.tokens},
        training_seconds=outcome.progress.seconds,
        seconds=seconds,
        throughput=outcome.speed,
        **({"breakdown": outcome.breakdown} if outcome.breakdown else {}),
        padding_efficiency=outcome.efficiency,
    )


def _draw(study: Study, workdir: Workdir, records: list[dict[str, Any]]) -> None:
    """The learning curve, if it can be drawn: the scores are there, and no picture is worth a run."""
    path = workdir.report / "learning-curve.png"
    try:
        from jaxformer.monitoring.report import learning_curves

        learning_curves(records, path, title=study.config.experiment, curves=study.curves)
    except Exception as error:
        _LOGGER.warning("%s is missing, the scores are not: %s", path, error, exc_info=True)


def say_done(study: Study, workdir: Workdir, result: dict[str, Any], scored: Scored) -> None:
    """Prints what came of a run that has just ended."""
    if jax.process_index():
        return
    if scored.samples:
        print(f"\n{scored.samples}")
    print(f"scores of {result['evaluated']}{study.searching()}\n{scored.table}\n")
    print(f"{result['step']:,} steps; {duration(result['seconds'])} in this process")
    print(f"time of the training loop: {time_shares(result['throughput'])}\n")
    print(_where(study, workdir), flush=True)


def say_finished(study: Study, workdir: Workdir, result: dict[str, Any]) -> None:
    """Prints what came of a run that had ended before."""
    print(f"the run in {workdir.path} is finished ({result.get('step', 0):,} steps); nothing to do\n")
    for name, value in result["metrics"].items():
        print(f"  {name}  {value:.4g}" if isinstance(value, float) else f"  {name}  {value}")
    print(f"\n{_where(study, workdir)}", flush=True)


def _where(study: Study, workdir: Workdir) -> str:
    config = study.config
    path: Path = workdir.path
    name, flags = config.experiment, f"--workdir={shlex.quote(str(path))}"
    pictures = sorted(workdir.report.glob("*"))
    shown = ["result.json", "metrics.jsonl", *(f"report/{file.name}" for file in pictures)]
    shown += [f"{folder.name}/" for folder in (workdir.predictions, workdir.checkpoints) if folder.exists()]
    shown += [file.name for file in (workdir.facts, workdir.tokenizer) if file.exists()]
    command = f"python run.py --experiment={name}" if name else "python run.py"
    rows = [
        f"everything is in {path}:",
        f"  {', '.join(shown)}",
        "what next:",
        *(f"  {line}" for line in study.next_commands(command, flags)),
    ]
    if config.monitoring.tensorboard:
        folder = shlex.quote(str(workdir.tensorboard))
        rows.append(f"  tensorboard --logdir {folder}    # after pip install tensorboard")
    return "\n".join(rows)
