"""What came of the trials: read from their workdirs, ranked by the validation split, averaged over seeds.

The test split takes no part in any order: whoever chose by it would report a score that the chosen trial does not have
on new text. Not for showing (`table`, `picture`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxformer.monitoring.report import series
from jaxformer.monitoring.trackers import read_metrics
from jaxformer.training.sweep.folder import SweepFolder, Trial
from jaxformer.training.workdir import Workdir

SEED = "training.seed"

FINAL, ON_THE_WAY = "of the final evaluation", "the best on the way"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One trial and what came of it so far.

    Attributes:
      trial: with its name, its own fields and its workdir.
      fields: value of every field that any trial of the sweep has of its own.
      state, reason: see `Trial.state`.
      curve: (steps, values) of the metric on the way.
      best, last: of the curve; None without one.
      final: the metric in the final evaluation of a finished trial; None if it is not among its scores.
      metrics: all final scores, such as `test/bleu`.
      measured: names of the validation metrics that it recorded.
      steps: taken so far.
      seconds: of its training loop, over all its processes; None unless finished.
      speed: real tokens a second, both sides; None unless finished.
    """

    trial: Trial
    fields: Mapping[str, Any]
    state: str
    reason: str
    curve: tuple[list[int], list[float]]
    best: float | None
    last: float | None
    final: float | None
    metrics: Mapping[str, float]
    measured: tuple[str, ...]
    steps: int
    seconds: float | None
    speed: float | None


@dataclasses.dataclass(frozen=True)
class Group:
    """Trials that differ in `training.seed` alone.

    Attributes:
      fields: those that they share.
      wanted: how many there are.
      scores: of those that are ranked.
      tests: test metric -> values of the same, without those that are no finite number.
    """

    fields: Mapping[str, Any]
    wanted: int
    scores: list[float]
    tests: Mapping[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Results:
    """A sweep, ranked.

    Attributes:
      metric: by which it is ranked.
      lower: whether less of it is better.
      basis: `FINAL` if every finished trial has the metric in its final evaluation, else `ON_THE_WAY`.
      outcomes: the best first; what has no score comes last, in the order of the sweep.
      groups: likewise; each of one trial where no seeds are swept.
    """

    metric: str
    lower: bool
    basis: str
    outcomes: list[Outcome]
    groups: list[Group]

    def score(self, outcome: Outcome) -> float | None:
        """What `outcome` is ranked by; None unless it is finished and the score is a number."""
        return _score(outcome, self.basis)


def read_outcome(trial: Trial, fields: Mapping[str, Any], metric: str, lower: bool, *, ours: bool = False) -> Outcome:
    """What came of `trial` so far; `fields` are all that the table shows, `ours` is as in `Trial.state`."""
    workdir = Workdir(trial.path)
    records = read_metrics(workdir.metrics)
    state, reason = trial.state(ours=ours)
    result = (workdir.result() or {}) if state == "finished" else {}
    metrics = {name: float(value) for name, value in result.get("metrics", {}).items() if _is_number(value)}
    curve = series(records, metric)
    names = {name for record in records for name in record if name.startswith("validation/")}
    speed = result.get("throughput", {}).get("train/tokens_per_second")
    return Outcome(
        trial, fields, state, reason, curve,
        best=(min if lower else max)(curve[1]) if curve[1] else None,
        last=curve[1][-1] if curve[1] else None,
        final=metrics.get(metric),
        metrics=metrics,
        measured=tuple(sorted(names | {name for name in metrics if name.startswith("validation/")})),
        steps=int(result.get("step", max((record["step"] for record in records), default=0))),
        seconds=result.get("training_seconds"),
        speed=speed if speed else None,
    )  # fmt: skip


def collect(folder: SweepFolder, metric: str, running: Iterable[str] = ()) -> Results:
    """All trials of `folder`, ranked by `metric`; those named in `running` are run by this process.

    Raises:
      ValueError: if trials are finished and none of them has the metric, with what they have.
    """
    from jaxformer.training.retention import lower_is_better

    lower, names = lower_is_better(metric), list(dict.fromkeys(f for t in folder.trials.values() for f in t.fields))
    shown, ours = folder.base, set(running)
    outcomes = [
        read_outcome(
            trial, {name: trial.fields.get(name, shown[name]) for name in names}, metric, lower, ours=trial.name in ours
        )
        for trial in folder.trials.values()
    ]
    finished = [outcome for outcome in outcomes if outcome.state == "finished"]
    if finished and all(outcome.final is None and outcome.best is None for outcome in finished):
        measured = ", ".join(sorted({name for outcome in finished for name in outcome.measured}))
        if not measured:
            raise ValueError("the trials have no validation scores to be ranked by: give a validation split")
        raise ValueError(
            f"{metric} is not measured by these trials, which have {measured}: rank by one of them with --sweep_metric"
        )
    basis = FINAL if all(outcome.final is not None for outcome in finished) else ON_THE_WAY
    outcomes.sort(key=lambda outcome: _rank(_score(outcome, basis), lower))  # stable
    groups = _groups(outcomes, basis)
    groups.sort(key=lambda group: _rank(statistics.fmean(group.scores) if group.scores else None, lower))
    return Results(metric, lower, basis, outcomes, groups)


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error, s / sqrt(n) with s over n - 1; None for the error of a single value."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.fmean(values), error


def _score(outcome: Outcome, basis: str) -> float | None:
    value = outcome.final if basis == FINAL else outcome.best
    return value if outcome.state == "finished" and value is not None and math.isfinite(value) else None


def _rank(score: float | None, lower: bool) -> tuple[bool, float]:
    return score is None, 0.0 if score is None else score if lower else -score


def _groups(outcomes: Sequence[Outcome], basis: str) -> list[Group]:
    members: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        shared = {name: value for name, value in outcome.fields.items() if name != SEED}
        members.setdefault(json.dumps(shared), []).append(outcome)
    groups = []
    for found in members.values():
        scored = [outcome for outcome in found if _score(outcome, basis) is not None]
        tests: dict[str, list[float]] = {}
        for outcome in scored:
            for name, value in outcome.metrics.items():
                if name.startswith("test/") and math.isfinite(value):
                    tests.setdefault(name, []).append(value)
        fields = {name: value for name, value in found[0].fields.items() if name != SEED}
        scores = [score for outcome in scored if (score := _score(outcome, basis)) is not None]
        groups.append(Group(fields, len(found), scores, tests))
    return groups


def _is_number(value: Any) -> bool:
    if isinstance(value, str):  # as strict JSON holds what is not finite
        return value in ("nan", "inf", "-inf")
    return isinstance(value, (int, float)) and not isinstance(value, bool)
