"""Adam, AdamW, SGD with momentum, RMSprop, Lion and Adafactor on one experiment, each at a rate found by one rule.

    python -m benchmarks.optimizers --experiment=wmt:bundled [--rates=3] [--further=4] [--seeds=3] [--parallel=1]
        [--workdir=W] [--metric=validation/bleu] [--json=FILE] [--config.FIELD=VALUE ...]

Sweeps of `run.py` in one folder, which continue where they were stopped. The first tries `--rates` learning rates for
every optimizer, a factor of three apart around its customary one, with seed 0. Where the best is the first or the last
of them, a better one may lie beyond, and the next is tried, `--further` times at most: the same rule for all, by which
some have more rates than others (the column `of`); the fewest has who is best between the first and the last. The last
sweep trains each optimizer at the rate that was best on the validation split with `--seeds` other seeds, which had no
part in the choice: their mean and standard error are what is compared. Everything else, steps, batches, schedule,
warm-up and the norm at which gradients are clipped, is the same for all. The tables and `optimizers.png` go to the
workdir. Test scores are shown and choose nothing.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import report
from jaxformer.config.checks import as_text
from jaxformer.monitoring.report import series
from jaxformer.monitoring.trackers import read_metrics
from jaxformer.training.retention import lower_is_better
from jaxformer.training.sweep.outcomes import mean_and_error
from jaxformer.training.sweep.table import mean_text

PACKAGES = ("jax", "flax", "optax")
ROOT = Path(__file__).parents[1]
FIELDS = ("optimizer.name", "optimizer.learning_rate", "optimizer.weight_decay", "optimizer.momentum")
NAME, RATE = FIELDS[:2]
_AT_END = " (end of its list)"


class Optimizer(NamedTuple):
    """What an optimizer is tried with.

    Attributes:
      centre: position of its customary rate on `ladder`.
      weight_decay: of the matrices, times the rate.
      momentum: where it has one.
    """

    centre: int
    weight_decay: float = 0.0
    momentum: float = 0.9


OPTIMIZERS = {
    "adam": Optimizer(-5),  # 3e-3, the rate of the small recipes
    "adamw": Optimizer(-5, weight_decay=0.01),
    "sgd": Optimizer(-1),  # 0.3
    "rmsprop": Optimizer(-6, momentum=0.0),  # 1e-3
    "lion": Optimizer(-7),  # 3e-4: three to ten times less than Adam's (Chen et al. 2023, section 5)
    "adafactor": Optimizer(-4),  # 1e-2, of a parameter's size (Shazeer and Stern 2018, section 8)
}


def ladder(position: int) -> float:
    """..., 0.1 (at -2), 0.3, 1 (at 0), 3, 10, ..."""
    return float(f"{(1, 3)[position % 2]}e{position // 2}")


def positions(optimizer: Optimizer, count: int) -> list[int]:
    """Those on `ladder` of `count` rates around its customary one, in order."""
    first = optimizer.centre - count // 2
    return list(range(first, first + count))


def tried_rates(rows: Sequence[dict[str, str]]) -> dict[str, list[float]]:
    """Optimizer -> the rates that it had with seed 0, whichever command asked for them, in order."""
    found: dict[str, set[float]] = {name: set() for name in OPTIMIZERS}
    for row in rows:
        if row.get("training.seed", "0") == "0":
            found[row[NAME]].add(float(row[RATE]))
    return {name: sorted(rates) for name, rates in found.items()}


def beyond(tried: Sequence[float], best: float | None) -> float | None:
    """The rate after the end of `tried` where the best one is; None where it is at no end, or only one was tried."""
    if best is None or len(tried) < 2 or best not in (tried[0], tried[-1]):
        return None
    position = next(position for position in range(-40, 40) if ladder(position) == best)
    return ladder(position + 1 if best == tried[-1] else position - 1)


def sweep_flag(chosen: Sequence[tuple[str, float]]) -> str:
    """`--sweep=` for (name, rate) pairs, with what else belongs to the optimizer."""
    items = (
        ":".join(map(as_text, (name, rate, OPTIMIZERS[name].weight_decay, OPTIMIZERS[name].momentum)))
        for name, rate in chosen
    )
    return f"--sweep={'+'.join(FIELDS)}={','.join(items)}"


def run(flags: Sequence[str]) -> None:
    """Carries out a sweep of `run.py`."""
    if code := subprocess.run([sys.executable, os.fspath(ROOT / "run.py"), *flags], check=False).returncode:
        raise SystemExit(f"the sweep did not end well (exit code {code}): the same command continues it")


def read_rows(workdir: Path) -> list[dict[str, str]]:
    """`sweep.csv`, the best first."""
    with open(workdir / "sweep.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ranked_by(rows: Sequence[dict[str, str]]) -> str:
    """The metric that a sweep was ranked by: the one of which `sweep.csv` gives the best value on the way."""
    return next(name.removeprefix("best/") for name in rows[0] if name.startswith("best/"))


def best_rates(rows: Sequence[dict[str, str]]) -> dict[str, float]:
    """Optimizer -> the rate that was best with seed 0; without those for which no rate gave a score."""
    found: dict[str, float] = {}
    for row in rows:
        if row["rank"] and row.get("training.seed", "0") == "0":
            found.setdefault(row[NAME], float(row[RATE]))
    return {name: found[name] for name in OPTIMIZERS if name in found}


def summary(
    rows: Sequence[dict[str, str]], chosen: dict[str, float], tried: dict[str, list[float]], metric: str
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Rows of the table, the best mean first, and the same as figures."""
    score = f"final/{metric}" if any(row[f"final/{metric}"] for row in rows) else f"best/{metric}"
    tests = [name for name in rows[0] if name.startswith("test/")]
    figures = []
    for name in OPTIMIZERS:
        of_it = [row for row in rows if row[NAME] == name]
        bad = sum(row["state"] == "diverged" for row in of_it)
        runs = [row for row in of_it if row["training.seed"] != "0" and row["rank"]]
        runs = [row for row in runs if float(row[RATE]) == chosen.get(name)]
        scores = [float(row[score]) for row in runs]
        at_end = beyond(tried[name], chosen.get(name)) is not None
        figures.append({
            "name": name, "rate": chosen.get(name), "rates": len(tried[name]), "at_end": at_end, "diverged": bad,
            "scores": scores,
            "tests": {
                test: [value for row in runs if row[test] and math.isfinite(value := float(row[test]))]
                for test in tests
            },
        })  # fmt: skip
    sign = 1 if lower_is_better(metric) else -1
    figures.sort(key=lambda one: sign * mean_and_error(one["scores"])[0] if one["scores"] else math.inf)
    table = [
        [
            one["name"], ("-" if one["rate"] is None else f"{one['rate']:g}") + (_AT_END if one["at_end"] else ""),
            str(one["rates"]), str(len(one["scores"])), mean_text(one["scores"]),
            *(mean_text(one["tests"][test]) for test in tests), str(one["diverged"]),
        ]
        for one in figures
    ]  # fmt: skip
    return [["optimizer", "best rate", "of", "seeds", metric, *tests, "diverged"], *table], figures


def draw(rows: Sequence[dict[str, str]], chosen: dict[str, float], metric: str, path: Path, title: str) -> None:
    """Scores over rates, and the curves of the best rates with the other seeds, as a PNG."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), dpi=120, layout="tight")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for index, name in enumerate(OPTIMIZERS):
        colour = colormaps["tab10"](index)
        of_it = [row for row in rows if row[NAME] == name and row["rank"]]
        tuned = sorted((float(row[RATE]), float(row[f"best/{metric}"])) for row in of_it
                       if row["training.seed"] == "0" and row[f"best/{metric}"])  # fmt: skip
        if tuned:
            left.plot(*zip(*tuned, strict=True), marker="o", color=colour, label=name)
        for row in of_it:
            if row["training.seed"] != "0" and float(row[RATE]) == chosen.get(name):
                right.plot(*series(read_metrics(Path(row["workdir"]) / "metrics.jsonl"), metric), color=colour)
    left.set_xscale("log")
    left.set_xlabel("learning rate (seed 0)")
    left.set_ylabel(f"{metric}, the best on the way")
    right.set_xlabel("step (other seeds, at the best rate)")
    right.set_ylabel(metric)
    left.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(os.fspath(path), format="png")


def study(options: argparse.Namespace, settings: Sequence[str], carry_out: Callable[[Sequence[str]], None]) -> str:
    """Runs the sweeps by `carry_out`, writes tables and picture, and returns the table."""
    workdir = options.workdir or Path(f"runs/optimizers-{options.experiment.replace(':', '-')}")
    common = [
        f"--experiment={options.experiment}", f"--workdir={workdir}", f"--sweep_parallel={options.parallel}",
        *([f"--sweep_metric={options.metric}"] if options.metric else []), "--config.optimizer.clip_norm=1", *settings,
    ]  # fmt: skip
    pairs = [(name, ladder(at)) for name, one in OPTIMIZERS.items() for at in positions(one, options.rates)]
    chosen: dict[str, float] = {}
    for _ in range(options.further + 1):
        carry_out([*common, sweep_flag(pairs), "--sweep=training.seed=0"])
        rows = read_rows(workdir)
        chosen, tried = best_rates(rows), tried_rates(rows)
        ends = {name: beyond(found, chosen.get(name)) for name, found in tried.items()}
        pairs = [(name, end) for name, end in ends.items() if end is not None]
        if not pairs:
            break
    seeds = ",".join(str(seed) for seed in range(1, options.seeds + 1))
    carry_out([*common, sweep_flag(list(chosen.items())), f"--sweep=training.seed={seeds}"])
    rows = read_rows(workdir)
    metric = ranked_by(rows)
    table, figures = summary(rows, chosen, tried, metric)
    draw(rows, chosen, metric, workdir / "optimizers.png", f"optimizers on {options.experiment}")
    text = report.table(table[0], table[1:])
    said = f"{options.experiment}: {options.rates} rates each and what lay beyond, then {options.seeds} other seeds"
    (workdir / "optimizers.txt").write_text(f"{said}\n{report.heading(*PACKAGES)}\n\n{text}\n", encoding="utf-8")
    report.write_json(
        options.json,
        [{"name": one["name"], "value": mean_and_error(one["scores"])[0], "unit": metric, **one}
         for one in figures if one["scores"]],
        *PACKAGES,
    )  # fmt: skip
    return text


def main(arguments: Sequence[str] | None = None, carry_out: Callable[[Sequence[str]], None] = run) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--experiment", default="wmt:bundled", help="NAME:VARIANT, the recipe")
    parser.add_argument("--rates", type=report.positive, default=3, help="rates tried for each optimizer at first")
    parser.add_argument("--further", type=int, default=4, help="times that a rate beyond the end is tried")
    parser.add_argument("--seeds", type=int, default=3, help="further runs of each optimizer at its best rate")
    parser.add_argument("--parallel", type=report.positive, default=1, help="trials at once")
    parser.add_argument("--workdir", type=Path, help="of both sweeps; runs/optimizers-NAME-VARIANT by default")
    parser.add_argument("--metric", help="that chooses and compares; the experiment's training.best_metric by default")
    report.add_json_flag(parser)
    options, settings = parser.parse_known_args(arguments)
    if strange := [setting for setting in settings if not setting.startswith("--config.")]:
        parser.error(f"unknown argument {strange[0]}")
    if options.rates < 1 or options.seeds < 1 or options.further < 0:
        parser.error("--rates and --seeds are at least 1, --further at least 0")
    text = study(options, settings, carry_out)
    print(report.heading(*PACKAGES))
    print(text)


if __name__ == "__main__":
    main()
