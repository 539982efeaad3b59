"""How a run ends: its result on disk, and what a person is told: scores, samples, time, where everything is, what next.

Not for computing the scores (`scoring`).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import jax

from jaxformer.config import Config
from jaxformer.monitoring.progress import duration, time_shares
from jaxformer.monitoring.trackers import JsonlTracker, read_metrics
from jaxformer.training.workdir import Workdir


def record_result(
    config: Config, workdir: Workdir, outcome: Any, scored: Any, described: str, seconds: float
) -> dict[str, Any]:
    """Records the final scores, draws the learning curve, and marks the run as finished."""
    from jaxformer.monitoring.report import learning_curves
    from jaxformer.training import scoring

    metrics, step = scoring.metrics_of(scored), outcome.progress.step
    if jax.process_index():
        return {"metrics": metrics, "step": step}
    with contextlib.closing(JsonlTracker(workdir.metrics)) as tracker:
        # Under another name than the validation on the way, which translates greedily.
        tracker.log(step, {name if name.startswith("test/") else f"final/{name}": v for name, v in metrics.items()})
    records = read_metrics(workdir.metrics)
    learning_curves(records, workdir.report / "learning-curve.png", title=config.experiment)
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    return workdir.write_result(
        {**metrics, **({"train/loss": losses[-1]} if losses else {})},
        signatures=scoring.signatures_of(scored),
        evaluated=described,
        step=step,
        stopped=outcome.progress.stopped,
        target_tokens=outcome.progress.tokens,
        training_seconds=outcome.progress.seconds,
        seconds=seconds,
        throughput=outcome.speed,
        **({"breakdown": outcome.breakdown} if outcome.breakdown else {}),
        padding_efficiency=outcome.efficiency,
    )


def say_done(config: Config, workdir: Workdir, result: dict[str, Any], scored: Any) -> None:
    """Prints what came of a run that has just ended."""
    from jaxformer.training import scoring

    if jax.process_index():
        return
    if samples := scoring.sample_table(scored, config.monitoring.samples):
        print(f"\nsample translations ({scored[-1].split})\n\n{samples}")
    print(f"scores of {result['evaluated']}, {config.decoding.method} search\n{scoring.score_table(scored)}\n")
    print(f"{result['step']:,} steps; {duration(result['seconds'])} in this process")
    print(f"time of the training loop: {time_shares(result['throughput'])}\n")
    print(_where(workdir, config), flush=True)


def say_finished(workdir: Workdir, result: dict[str, Any]) -> None:
    """Prints what came of a run that had ended before."""
    print(f"the run in {workdir.path} is finished ({result.get('step', 0):,} steps); nothing to do\n")
    for name, value in result["metrics"].items():
        print(f"  {name}  {value:.4g}" if isinstance(value, float) else f"  {name}  {value}")
    print(f"\n{_where(workdir, workdir.load_config())}", flush=True)


def _where(workdir: Workdir, config: Config) -> str:
    path: Path = workdir.path
    name, flags = config.experiment, f"--workdir={workdir.path}"
    language = config.data.target_language if config.data.reverse else config.data.source_language
    command = f"python run.py --experiment={name}" if name else "python run.py"
    rows = [
        f"everything is in {path}:",
        "  result.json, metrics.jsonl, report/learning-curve.png, predictions/, checkpoints/, tokenizer.model",
        "what next:",
        f"  {command} --mode=predict {flags} < text.{language}",
        f"  {command} --mode=evaluate {flags} --config.decoding.beam_size=8",
    ]
    if config.monitoring.tensorboard:
        rows.append(f"  tensorboard --logdir {path}/tensorboard    # after pip install tensorboard")
    return "\n".join(rows)
