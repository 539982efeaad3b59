"""The table of a sweep: for a person on standard output and in `sweep.md`, for programs in `sweep.csv`.

Not for the order of its rows (`outcomes`).
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence

from jaxformer.config.checks import as_text
from jaxformer.training.sweep.folder import Trial, short_names
from jaxformer.training.sweep.outcomes import SEED, Outcome, Results, mean_and_error

Rows = list[list[str]]
"""Of a table, the names of its columns first."""

_LONGEST_REASON = 90


def heading(results: Results, title: str) -> list[str]:
    """What was swept, how it stands and how it is ranked: a few sentences."""
    states: dict[str, int] = {}
    for outcome in results.outcomes:
        states[outcome.state] = states.get(outcome.state, 0) + 1
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    better = "less is better" if results.lower else "more is better"
    return [
        f"{title}: {plural(len(results.outcomes), 'trial')}, {counted}",
        f"ranked by {results.metric} {results.basis} ({better}); test scores take no part in it",
    ]


def ranking(results: Results) -> Rows:
    """One row a trial, the best first."""
    names = _fields(results)
    tests = test_metrics(results)
    label = results.metric
    rows = [["rank", *short_names(names).values(), label, *tests, "steps", "tokens/s", "state"]]
    for place, outcome in ranked(results):
        state = outcome.state + (f": {outcome.reason}" if outcome.reason else "")
        rows.append([
            str(place or "-"), *(as_text(outcome.fields[name]) for name in names), number(results.score(outcome)),
            *(number(outcome.metrics.get(name)) for name in tests), f"{outcome.steps}",
            "-" if outcome.speed is None else f"{outcome.speed:.0f}",
            state if len(state) <= _LONGEST_REASON else state[: _LONGEST_REASON - 3] + "...",
        ])  # fmt: skip
    return rows


def over_seeds(results: Results) -> Rows:
    """One row for trials that differ in their seed alone: mean and standard error; nothing where no seed is swept."""
    if all(group.wanted == 1 for group in results.groups):
        return []
    names, tests = [name for name in _fields(results) if name != SEED], test_metrics(results)
    rows = [["rank", *short_names(names).values(), "n", results.metric, *tests]]
    for place, group in enumerate(results.groups, 1):
        count = f"{len(group.scores)}" + (f" of {group.wanted}" if len(group.scores) < group.wanted else "")
        fields = [as_text(group.fields[name]) for name in names]
        means = [mean_text(group.scores)]
        for values in (group.tests.get(name, []) for name in tests):
            few = f" (n = {len(values)})" if 0 < len(values) < len(group.scores) else ""
            means.append(mean_text(values) + few)
        rows.append([str(place) if group.scores else "-", *fields, count, *means])
    return rows


def text(results: Results, title: str) -> str:
    """What is printed."""
    parts = ["\n".join(heading(results, title)), aligned(ranking(results))]
    if seeds := over_seeds(results):
        parts += [_SEEDS, aligned(seeds)]
    return "\n\n".join(parts)


_SEEDS = "mean over the seeds with its standard error, of n finished trials"


def markdown(results: Results, title: str) -> str:
    """`sweep.md`."""
    first, *others = heading(results, title)
    parts = [f"# {first}", *(f"{line[:1].upper()}{line[1:]}." for line in others)]
    if seeds := over_seeds(results):
        parts += [f"## {_SEEDS[:1].upper()}{_SEEDS[1:]}", _marked(seeds)]
    parts += ["## Every trial", _marked(ranking(results)), "![Curves and fields of all trials](sweep.png)"]
    return "\n\n".join(parts) + "\n"


def comma_separated(results: Results) -> str:
    """`sweep.csv`: numbers in full; an empty cell where there is none."""
    names, metric = _fields(results), results.metric
    scores = sorted({name for outcome in results.outcomes for name in outcome.metrics if name != metric})
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([
        "rank", "trial", *names, "state", "reason", f"final/{metric}", f"best/{metric}", f"last/{metric}", *scores,
        "steps", "training_seconds", "tokens_per_second", "workdir",
    ])  # fmt: skip
    for place, outcome in ranked(results):
        values = [outcome.final, outcome.best, outcome.last, *(outcome.metrics.get(name) for name in scores)]
        writer.writerow([
            place or "", outcome.trial.name, *(as_text(outcome.fields[name]) for name in names), outcome.state,
            outcome.reason, *("" if value is None else repr(value) for value in values), outcome.steps,
            "" if outcome.seconds is None else outcome.seconds, "" if outcome.speed is None else outcome.speed,
            os.fspath(outcome.trial.path),
        ])  # fmt: skip
    return file.getvalue()


def planned(trials: Sequence[Trial], states: Iterable[tuple[str, str]], mine: Sequence[Trial]) -> str:
    """What would be run: every trial with its number, its state, and whether this process would run it."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.fields))
    rows = [["number", *short_names(names).values(), "state", "workdir"]]
    for index, (trial, (state, reason)) in enumerate(zip(trials, states, strict=True)):
        shown = state + (f": {reason}" if reason else "") + ("" if trial in mine else " (not this process's)")
        values = [as_text(trial.fields[name]) if name in trial.fields else "-" for name in names]
        rows.append([str(index), *values, shown[:_LONGEST_REASON], os.fspath(trial.path)])
    return aligned(rows)


def ranked(results: Results) -> list[tuple[int, Outcome]]:
    """(rank from 1, outcome), the rank 0 for what has no score."""
    pairs = [(outcome, results.score(outcome) is not None) for outcome in results.outcomes]
    return [(place if there else 0, each) for place, (each, there) in enumerate(pairs, 1)]


def test_metrics(results: Results) -> list[str]:
    """Names of the test scores, in the order in which trials recorded them."""
    names = (name for outcome in results.outcomes for name in outcome.metrics if name.startswith("test/"))
    return list(dict.fromkeys(names))


def _fields(results: Results) -> list[str]:
    return list(results.outcomes[0].fields) if results.outcomes else []


def number(value: float | None) -> str:
    """Four digits, or a dash for none and for what is no finite number."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def mean_text(values: Sequence[float]) -> str:
    """`23.41 ± 0.35`, the error to two digits and the mean to as many decimals; without error for one value."""
    if not values:
        return "-"
    mean, error = mean_and_error(values)
    if not error:
        return number(mean) + ("" if error is None else " ± 0")
    decimals = max(0, 1 - _exponent(error))
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}"


def _exponent(value: float) -> int:
    return int(f"{value:.1e}".partition("e")[2])


def plural(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def aligned(rows: Rows) -> str:
    """Columns of text under each other, numbers to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_numeric(cell) for cell in column[1:]) for column in columns]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if end else cell.ljust(width) for cell, width, end in zip(row, widths, right, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _numeric(cell: str) -> bool:
    return cell == "-" or cell.replace(".", "").replace("e-", "").lstrip("-").isdigit()


def _marked(rows: Rows) -> str:
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
