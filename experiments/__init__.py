"""The experiments: recipes as pure data, and the registry that finds them by name.

Each module holds one experiment: a docstring with its source, command and what was measured; `VARIANTS`, full
configurations by name, the first being the default; `DESCRIPTIONS`, a line on each variant. A module may also define
`choose(has_accelerator, wmt_prepared) -> (variant, reason)`, which picks the variant from facts about the machine when
the person names none. Not for code that trains or looks at machines: only `jaxformer.config` is imported here.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Protocol

from jaxformer.config import Config, nearest

NAMES = ("wmt", "multi30k", "tatoeba", "scan", "sentiment", "protein", "stocks")

Choice = Callable[[bool, bool], tuple[str, str]]


class Machine(Protocol):
    """The facts about a machine that a choice may depend on (`jaxformer.monitoring.machine.Machine` has them)."""

    @property
    def has_accelerator(self) -> bool:
        """Whether training runs on something other than the CPU."""

    @property
    def wmt_prepared(self) -> bool:
        """Whether WMT14 lies prepared in the TFDS folder."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment of the registry.

    Attributes:
      name: as given to `--experiment`.
      summary: the first line of its docstring.
      variants: variant name -> configuration.
      descriptions: variant name -> one line.
      choose: facts (accelerator present, WMT14 prepared) -> (variant, reason); None when the first variant is the
        default.
    """

    name: str
    summary: str
    variants: Mapping[str, Config]
    descriptions: Mapping[str, str]
    choose: Choice | None

    def config(self, variant: str) -> Config:
        """The configuration of `variant`, its `experiment` field filled in.

        Raises:
          ValueError: for a variant that does not exist, with the nearest name.
        """
        if variant not in self.variants:
            choices = nearest(variant, self.variants)
            raise ValueError(f"unknown variant {variant!r} of experiment {self.name!r}: {choices}")
        return dataclasses.replace(self.variants[variant], experiment=f"{self.name}:{variant}")


def find(name: str) -> Experiment:
    """The experiment called `name`.

    Raises:
      ValueError: if there is none, with the nearest name.
    """
    if name not in NAMES:
        raise ValueError(f"unknown experiment {name!r}: {nearest(name, NAMES)}")
    module = importlib.import_module(f"experiments.{name}")
    summary = (module.__doc__ or "").strip().splitlines()[0]
    return Experiment(name, summary, module.VARIANTS, module.DESCRIPTIONS, getattr(module, "choose", None))


def select(spec: str, held: str, assess: Callable[[], Machine]) -> tuple[Config, str]:
    """The configuration that `--experiment` means, and the reason for its variant.

    Args:
      spec: `NAME` or `NAME:VARIANT`.
      held: the experiment and variant of the run or sweep that the workdir holds; empty for none.
      assess: looks at the machine; called only when the choice of the variant depends on it.

    Raises:
      ValueError: for an unknown name, or none at all.
    """
    name, _, variant = spec.partition(":")
    if not name:
        raise ValueError(f"--experiment=NAME is needed, one of {', '.join(NAMES)} (--list describes them)")
    experiment = find(name)
    if variant:
        return experiment.config(variant), "named on the command line"
    held_name, _, held_variant = held.partition(":")
    if held_name == name and held_variant in experiment.variants:
        return experiment.config(held_variant), "the variant that the workdir holds"
    if experiment.choose is None:
        return experiment.config(next(iter(experiment.variants))), "the default variant of this experiment"
    machine = assess()
    variant, reason = experiment.choose(machine.has_accelerator, machine.wmt_prepared)
    return experiment.config(variant), reason


def check_agrees(spec: str, held: str) -> None:
    """Refuses a `--experiment` that is not the one of the run that the workdir holds; an empty or bare name may agree.

    Raises:
      ValueError: naming both.
    """
    if spec and spec not in (held, held.partition(":")[0]):
        find(spec.partition(":")[0])  # a mistyped name is the likelier mistake
        raise ValueError(
            f"the workdir holds a run of {held or 'no named experiment'}, not of {spec}: "
            "leave --experiment out, or choose another --workdir"
        )


def listing() -> str:
    """What `--list` prints: every experiment and variant with one line on each."""
    lines: list[str] = []
    for name in NAMES:
        experiment = find(name)
        lines.append(f"{name}  {experiment.summary}")
        for variant in experiment.variants:
            lines.append(f"  {f'{name}:{variant}':<18} {experiment.descriptions[variant]}")
    return "\n".join(lines)
