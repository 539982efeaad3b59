"""The flags of a sweep, checked: what is swept, how many at once, which share of it is this process's.

Absl's flags are defined in `run.py`, each of these as one that may be repeated, so that a repetition can be refused.
Not for what the values of `--sweep` mean (`grid`).
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxformer.config.checks import as_text
from jaxformer.training.sweep import grid

SWEEP_FLAGS = {
    "sweep": "FIELD=VALUE,VALUE,... or FIELD+FIELD=VALUE:VALUE,...; repeated: a run for each combination",
    "sweep_random": "N: draw N of the combinations; numbers may then be ranges LOW..HIGH",
    "sweep_seed": "of that draw, 0 if empty",
    "sweep_parallel": "how many runs at once, 1 if empty",
    "sweep_index": "I runs the I-th alone, from 0; I/COUNT every COUNT-th from there; a Slurm array says so itself",
    "sweep_metric": "validation metric to rank by; training.best_metric if empty",
}

MODES = ("train", "plan")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A command line with `--sweep`.

    Attributes:
      choices: what is swept, in the order given.
      overrides: fields that all trials have from the command line.
      mode: `train` or `plan`.
      workdir: of the sweep; empty for the usual one.
      draws: how many combinations are drawn; 0 for all of them.
      seed: of the draw.
      parallel: trials at once.
      index, count: trials `index`, `index + count`, ... are this process's; with a `count` of 0, `index` alone.
      metric: to rank by; empty for the configuration's.
    """

    choices: tuple[grid.Choice, ...]
    overrides: Mapping[str, Any]
    mode: str = "train"
    workdir: str = ""
    draws: int = 0
    seed: int = 0
    parallel: int = 1
    index: int = 0
    count: int = 1
    metric: str = ""

    def trials(self) -> list[grid.Fields]:
        """The fields of every trial, in order.

        Raises:
          ValueError: for a grid that is no list, or a draw of more than there are.
        """
        return grid.draw(self.choices, self.draws, self.seed) if self.draws else grid.every(self.choices)

    def share(self, trials: Sequence[Any]) -> list[Any]:
        """Those of `trials` that are this process's.

        Raises:
          ValueError: for a single trial that does not exist.
        """
        if self.count:
            return list(trials[self.index :: self.count])
        if self.index >= len(trials):
            last = len(trials) - 1
            raise ValueError(f"--sweep_index={self.index}: the sweep has {len(trials)} trials, numbered 0 to {last}")
        return [trials[self.index]]


def read_sweep(
    flags: Mapping[str, Any],
    overrides: Mapping[str, Any],
    checked: Callable[[str], Mapping[str, Any]],
    environment: Mapping[str, str] | None = None,
) -> Sweep | None:
    """The sweep of a command line; None if it has none.

    Args:
      flags: every flag of the command line by name; those of `SWEEP_FLAGS` are lists.
      overrides: dotted field -> value, from `--config.FIELD=VALUE`.
      checked: a whole flag, `--config.FIELD=VALUE` -> what it overrides, typed and checked.
      environment: of the process, by default; a Slurm array is read from it.

    Raises:
      ValueError: for flags that make no sense, alone or together.
    """
    given = {name: flags[name] for name in SWEEP_FLAGS if flags[name]}
    if not given:
        return None
    for name, texts in given.items():
        if name != "sweep" and "sweep" not in given:
            raise ValueError(f"--{name}={texts[0]} belongs to a sweep: say what is swept with --sweep=FIELD=VALUE,...")
        if name != "sweep" and len(texts) > 1:
            raise ValueError(f"--{name} is given twice: {' and '.join(texts)}")
    if flags["mode"] not in MODES:
        raise ValueError(f"--sweep goes with --mode=train or plan, not {flags['mode']}: name the workdir of one trial")
    if flags["join"]:
        raise ValueError("--join belongs to one run of several processes: --sweep starts its own, see --sweep_parallel")
    numbers = {name: _whole(name, given, least) for name, least in _LEAST.items()}
    if "sweep_seed" in given and "sweep_random" not in given:
        raise ValueError(f"--sweep_seed={numbers['sweep_seed']} seeds a draw: say of how many with --sweep_random=N")
    metric = given.get("sweep_metric", [""])[0]
    if metric and not metric.startswith("validation/"):
        raise ValueError(f"--sweep_metric={metric}: trials are ranked by the validation split alone, validation/NAME")
    choices = tuple(
        grid.read(text, lambda name, value: checked(f"--config.{name}={value}")[name]) for text in given["sweep"]
    )
    _check_fields(choices, overrides)
    index, count = _share(given, os.environ if environment is None else environment)
    return Sweep(
        choices, overrides, flags["mode"], flags["workdir"], numbers["sweep_random"], numbers["sweep_seed"],
        numbers["sweep_parallel"] or 1, index, count, metric,
    )  # fmt: skip


_LEAST = {"sweep_random": 1, "sweep_seed": 0, "sweep_parallel": 1}


def _whole(name: str, given: Mapping[str, Sequence[str]], least: int) -> int:
    if name not in given:
        return 0
    text = given[name][0]
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < least:
        raise ValueError(f"--{name} takes a whole number of at least {least}, got {text!r}")
    return int(text)


def _check_fields(choices: Sequence[grid.Choice], overrides: Mapping[str, Any]) -> None:
    before: dict[str, str] = {}
    for choice in choices:
        for name in choice.names:
            if name in before:
                raise ValueError(
                    f"{name} is swept twice, by --sweep={before[name]} and --sweep={choice.text}: "
                    "give all its values in one"
                )
            if name in overrides:
                value = as_text(overrides[name])
                raise ValueError(
                    f"{name} is set by --config.{name}={value} and swept by --sweep={choice.text}: leave one out"
                )
            before[name] = choice.text


def _share(given: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> tuple[int, int]:
    """(index, count); see `Sweep`."""
    if "sweep_index" in given:
        text = given["sweep_index"][0]
        match = re.fullmatch(r"(\d{1,9})(?:/(\d{1,9}))?", text, re.ASCII)
        if not match or (match[2] and int(match[1]) >= int(match[2])):
            raise ValueError(f"--sweep_index={text} is neither a number from 0 on nor INDEX/COUNT, such as 0/4")
        return int(match[1]), int(match[2] or 0)
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return 0, 1
    task, count, first, last, step = (_of_array(name, environment) for name in ("ID", "COUNT", "MIN", "MAX", "STEP"))
    if not step or (last - first) // step + 1 != count:
        raise ValueError(
            f"the Slurm array has {count} tasks between {first} and {last}, which is no regular list: submit the whole "
            "array again, which leaves finished trials alone, or choose one with --sweep_index"
        )
    return (task - first) // step, count


def _of_array(name: str, environment: Mapping[str, str]) -> int:
    variable = f"SLURM_ARRAY_TASK_{name}"
    text = environment.get(variable)
    if text is None or not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        found = f"{variable} is not set" if text is None else f"{variable} is {text!r}, which is no number"
        raise ValueError(
            f"{found}, but a task of a Slurm array finds its share of the trials by SLURM_ARRAY_TASK_ID, _COUNT, _MIN, "
            "_MAX and _STEP, as Slurm sets them: choose trials with --sweep_index, or unset SLURM_ARRAY_TASK_ID"
        )
    return int(text)
