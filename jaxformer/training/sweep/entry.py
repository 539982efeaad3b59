"""Carries out a sweep: its trials are made, run, and shown, again and again as they end.

Several of these may work on one sweep, as the tasks of a Slurm array do: each runs its share, and whoever ends last has
written the whole table. Not for flags (`options`).
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxformer.config import Config, MeshConfig, replace, to_dict
from jaxformer.config.checks import as_text
from jaxformer.monitoring.durable import atomic_write
from jaxformer.monitoring.machine import Machine, assess
from jaxformer.parallel.mesh import mesh_sizes
from jaxformer.paths import expanded
from jaxformer.training.sweep import picture, table
from jaxformer.training.sweep.children import Children, Slot, share_machine, whole_machine
from jaxformer.training.sweep.folder import FINAL, SweepFolder, Trial, held_experiment
from jaxformer.training.sweep.grid import Fields
from jaxformer.training.sweep.options import Sweep
from jaxformer.training.sweep.outcomes import Results, collect
from jaxformer.training.workdir import Workdir, flat

_LOGGER = logging.getLogger(__name__)

_PICTURE_SECONDS = 60.0
"""Between two pictures, while trials run: drawing one takes a second of a core."""


def run_sweep(
    sweep: Sweep,
    choose: Callable[[str, Callable[[], Machine]], tuple[Config, str]],
    program: str | os.PathLike[str] | Sequence[str],
) -> None:
    """Runs the trials of `sweep` that are this process's and not finished; prints the table of all there are.

    With `sweep.mode` of `plan`, lists the trials and runs nothing.

    Args:
      sweep: from the command line.
      choose: (the experiment that `sweep.workdir` holds a sweep of, or nothing; a look at the machine) -> the
        configuration that is swept, and why that one.
      program: `run.py`, or a command that takes its flags.

    Raises:
      ValueError: for a trial that makes no sense, another sweep in the folder, or trials that failed.
      OSError: if the folder cannot be written.
      SystemExit: when a signal asked to stop, after the running trials have saved; 128 + the signal.
    """
    place = sweep.workdir or "runs"
    held = held_experiment(expanded(sweep.workdir)) if sweep.workdir else ""
    config, reason = choose(held, lambda: assess_apart(place))
    path = expanded(sweep.workdir or f"runs/{config.experiment.replace(':', '-')}-sweep")
    grid = sweep.trials()
    base = flat(to_dict(config)) | dict(sweep.overrides)
    folder = SweepFolder.open(path, base)
    trials = folder.add(grid)
    _check(config, sweep.overrides, grid, trials, sweep.metric)
    mine = sweep.share(trials)
    metric = sweep.metric or str(base["training.best_metric"])
    if sweep.mode == "plan":
        print(_plan(config.experiment, reason, trials, mine, sweep.parallel), flush=True)
        return
    title = f"sweep of {config.experiment} in {path}"
    waiting = [trial for trial in mine if trial.state()[0] not in FINAL]
    slots = whole_machine()
    if waiting and sweep.parallel > 1:
        machine = assess_apart(place)
        slots = share_machine(min(sweep.parallel, len(waiting)), machine.platform, machine.num_devices)
        for trial in waiting:
            check_shares(trial.name, replace(config, {**sweep.overrides, **trial.fields}).mesh, slots, machine)
    folder.keep()
    command = [sys.executable, os.fspath(program)] if isinstance(program, (str, os.PathLike)) else list(program)
    report = _Report(folder, metric, title, drawn=time.monotonic())

    def ended(trial: Trial) -> None:
        report.write(children.running)

    children = Children(lambda trial: [*command, *_arguments(config.experiment, sweep.overrides, trial)], ended)
    if waiting:
        _LOGGER.info("%s: %s of %d to run, %d at a time", title, len(waiting), len(mine), len(slots))
        children.run(waiting, slots)
    print(table.text(report.write((), last=True), title))
    print(f"\n{path}/sweep.csv, sweep.md, sweep.png", flush=True)
    if children.requested:
        _LOGGER.warning("stopped: run the same command to continue")
        raise SystemExit(128 + children.requested)
    _check_done(mine)


def assess_apart(place: str) -> Machine:
    """`assess` in a process of its own: this one must hold nothing of an accelerator, which is the trials'."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(assess, Config().data, place).result()


def _check(
    config: Config, overrides: Mapping[str, Any], grid: Sequence[Fields], trials: Sequence[Trial], metric: str
) -> None:
    """Refuses what makes no sense, to the configuration or to its study, before anything is run.

    Raises:
      ValueError: for a combination, or for a `metric` that no translation has. What other tasks measure, such as the F1
        of a class, their data decides: see `outcomes.collect`.
    """
    from jaxformer.training.beginning import check_beginning
    from jaxformer.training.study import open_study

    for fields, trial in zip(grid, trials, strict=True):
        try:
            whole = replace(config, {**overrides, **fields})
            open_study(whole).check()
            if not (workdir := Workdir(trial.path)).began:
                check_beginning(whole, workdir)
        except (ValueError, OSError) as error:
            raise ValueError(f"trial {trial.name}: {error}") from None
        try:
            replace(whole, {"training.best_metric": metric or whole.training.best_metric})
        except ValueError as error:
            raise ValueError(f"--sweep_metric={metric}: {error}") from None


def check_shares(name: str, mesh: MeshConfig, slots: Sequence[Slot], machine: Machine) -> None:
    """Refuses a trial of that name whose mesh does not fit one of the shares of the machine: it would fail by itself.

    Raises:
      ValueError: that says how many at once would do.
    """
    if mesh.auto:
        return
    for slot in slots:
        try:
            mesh_sizes(mesh, slot.devices)
        except ValueError as error:
            fewer = [number for number in range(1, len(slots)) if _fits(mesh, number, machine)]
            instead = f"; or run fewer at once, with --sweep_parallel={fewer[-1]}" if fewer else ""
            raise ValueError(
                f"trial {name}: {len(slots)} at once leave it {slot.devices} of the {machine.num_devices} devices, "
                f"and {error}{instead}"
            ) from None


def _fits(mesh: MeshConfig, parallel: int, machine: Machine) -> bool:
    """Whether so many trials at once could have this mesh."""
    try:
        for slot in share_machine(parallel, machine.platform, machine.num_devices):
            mesh_sizes(mesh, slot.devices)
    except ValueError:
        return False
    return True


def _arguments(experiment: str, overrides: Mapping[str, Any], trial: Trial) -> list[str]:
    """The flags of `run.py` that make `trial`: what a person could type."""
    fields = {**overrides, **trial.fields}
    return [
        f"--experiment={experiment}",
        f"--workdir={trial.path}",
        *(f"--config.{name}={as_text(value)}" for name, value in fields.items()),
    ]


def _plan(experiment: str, reason: str, trials: Sequence[Trial], mine: Sequence[Trial], parallel: int) -> str:
    states = [trial.state() for trial in trials]
    left = sum(state not in FINAL for trial, (state, _) in zip(trials, states, strict=True) if trial in mine)
    return (
        f"sweep of {experiment} ({reason}): {table.plural(len(trials), 'trial')}, {left} to run, "
        f"{parallel} at a time\n\n{table.planned(trials, states, mine)}"
    )


@dataclasses.dataclass
class _Report:
    """`sweep.csv`, `sweep.md` and `sweep.png`: the tables anew with every trial that ends, the picture now and then."""

    folder: SweepFolder
    metric: str
    title: str
    drawn: float = -math.inf

    def write(self, running: Sequence[str], *, last: bool = False) -> Results:
        """Reads what there is, and writes it down; `running` are the trials that this process runs."""
        path = self.folder.path
        with self.folder.locked():
            results = collect(self.folder, self.metric, running)
            atomic_write(path / "sweep.csv", table.comma_separated(results))
            atomic_write(path / "sweep.md", table.markdown(results, self.title))
            if last or time.monotonic() > self.drawn + _PICTURE_SECONDS:
                picture.draw(results, path / "sweep.png", title=self.title)
                self.drawn = time.monotonic()
        return results


def _check_done(mine: Sequence[Trial]) -> None:
    """Refuses to call the work done where it is not."""
    states = {trial.name: (trial, *trial.state()) for trial in mine}
    for wanted, what in (("failed", "failed"), ("running", "run elsewhere"), ("stopped", "were stopped")):
        found = [(trial, reason) for trial, state, reason in states.values() if state == wanted]
        if found:
            trial, reason = found[0]
            why = f": {reason}" if reason else ""
            raise ValueError(
                f"{len(found)} of {table.plural(len(mine), 'trial')} {what}, such as {trial.name}{why} "
                f"(see {trial.log}); the same command runs what is not finished"
            )
    if states and all(state == "diverged" for _, state, _ in states.values()):
        raise ValueError("every trial diverged: lower --config.optimizer.learning_rate")
