"""A new run that begins with what another one has learnt: whether it can, and its first parameters.

Not for a run that goes on (`checkpoint`), nor for the vocabulary that it takes over (`data.tokenizer`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.config import Config
from jaxformer.config.network import OF_TEXT
from jaxformer.config_reference import as_given
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.parallel.layout import Layout
from jaxformer.paths import expanded
from jaxformer.training.averaging import select_params
from jaxformer.training.folder_lock import WorkdirError
from jaxformer.training.leaves import leaf_names, like
from jaxformer.training.run_checkpoints import open_checkpoints
from jaxformer.training.state import TrainState
from jaxformer.training.studies.records import LabelledFacts
from jaxformer.training.study import MakeStudy, open_study
from jaxformer.training.workdir import Workdir, differences

_LOGGER = logging.getLogger(__name__)

_MAY_DIFFER = ("dropout", "attention_dropout", "activation_dropout", "attention_table")
"""Fields of `model` that change no parameter, nor what one means; nor does `max_length`, but of learned positions."""

_VOCABULARY = ("vocabulary_size", "tokenizer", "joint_vocabulary", "byte_fallback", "spelling")

_MEANING = (
    "task.members", "task.linear_members", "task.pooling", "data.normalization", "series.window", "series.patch_length",
    "series.patch_stride", "series.reversible", "series.linear_skip", "series.market_days",
)  # fmt: skip
"""Other fields that decide what parameters mean, or which there are."""

_OUTPUTS = re.compile(r"((?:members\.\d+\.)?(?:heads\.[^.]+|part_weights|encoder\.weights))(?:\.|$)")
"""Beginnings of the names of parameters that belong to one output, as all of a linear member (`models.linear`) do: they
may begin anew."""


def check_beginning(
    config: Config, workdir: Workdir | None = None, make_study: MakeStudy = open_study
) -> None:
    """Refuses, before data is read, to begin with a run that is not there, or whose network is another one.

    Args:
      config: of the new run; without `training.start_from` there is nothing to refuse.
      workdir: of the new run, if there is one yet.
      make_study: of a configuration.

    Raises:
      OSError: if there is no trained run.
      ValueError: naming every field that differs, with the flags that make it as it is there.
    """
    if not config.training.start_from:
        return
    run = Workdir(config.training.start_from)
    if workdir is not None and run.path.absolute() == workdir.path.absolute():
        raise ValueError(f"training.start_from={config.training.start_from} is the run itself: name another one")
    try:
        there = run.load_config()
        known = make_study(there).load_facts(run)
        run.check_trained(run.checkpoints)
    except OSError as error:
        raise WorkdirError(f"training.start_from: {error}") from None
    if there.task.kind != config.task.kind:
        raise ValueError(
            f"training.start_from={config.training.start_from} is a run of task.kind={there.task.kind}, and this one "
            f"of {config.task.kind}: name one of the same kind"
        )
    if other := {name: pair for name, pair in differences(there, config).items() if _must_agree(name, config)}:
        listed = "\n".join(f"  {name}: {old!r} -> {new!r}" for name, (old, new) in other.items())
        flags = " ".join(as_given(name, old) for name, (old, _) in other.items())
        raise ValueError(
            f"training.start_from={config.training.start_from} has learnt another network (there -> here):\n{listed}\n"
            f"make it the same one: {flags}"
        )
    if given := config.data.vocabulary:
        _check_vocabulary(config, _tokenizer(known), Tokenizer.load(expanded(given)))


def _tokenizer(facts: Any) -> Tokenizer | None:
    """Of the facts of a run, if it reads text."""
    return getattr(facts, "tokenizer", None)


def _check_vocabulary(config: Config, there: Tokenizer | None, here: Tokenizer | None) -> None:
    """Refuses another vocabulary than that of the run to begin with, whose parameters would mean other tokens."""
    if there is not None and here is not None and there.digest != here.digest:
        what = f"data.vocabulary={config.data.vocabulary}" if config.data.vocabulary else "what this run has"
        raise ValueError(
            f"{what} is not the vocabulary of training.start_from={config.training.start_from}, whose parameters would "
            "mean other tokens: leave data.vocabulary out, and choose another --workdir if that run was trained anew"
        )


def _must_agree(field: str, config: Config) -> bool:
    section, _, name = field.partition(".")
    if field == "model.max_length":
        return config.model.position == "learned"
    return (
        (section == "model" and name not in _MAY_DIFFER)
        or (section == "data" and name in _VOCABULARY and config.task.kind in OF_TEXT and not config.data.vocabulary)
        or field in _MEANING
    )


def begin_with(
    state: TrainState, config: Config, layout: Layout, facts: Any, make_study: MakeStudy = open_study
) -> TrainState:
    """`state` with the parameters that the run in `training.start_from` predicts with, on any devices.

    Everything else of it stays: the optimizer has taken no step. The parameters of an output stay as they are too where
    their shapes are others, or the classes of texts are, which is said.

    Args:
      state: before its first step.
      config: of the new run.
      layout: where its state lies.
      facts: of the new run.
      make_study: of a configuration.

    Raises:
      OSError: if there is no such run, or it cannot be read.
      ValueError: if other parameters differ, naming the first one, or its vocabulary does.
    """
    run = Workdir(config.training.start_from)
    there = run.load_config()
    study = make_study(there)
    known = study.load_facts(run)
    _check_vocabulary(config, _tokenizer(known), _tokenizer(facts))
    template = study.make_task(known, layout).abstract_params(layout)
    with contextlib.closing(open_checkpoints(there, run, read_only=True)) as checkpoints:
        params, described = select_params(checkpoints, there.training, template)
    learnt, own = leaf_names(params), leaf_names(state.params)
    anew = _outputs_that_differ(learnt, own)
    if config.task.kind == "text_classification" and _classes(known) != _classes(facts):
        anew = {_output(name) for name in own} - {""}
    random = sorted({_output(name) for name in own} & anew)
    taken = {name: leaf if _output(name) in anew else learnt.get(name) for name, leaf in own.items()}
    for name in [*own, *learnt]:
        if _output(name) not in anew and _shape(learnt, name) != _shape(own, name):
            raise ValueError(
                f"training.start_from={config.training.start_from} has learnt another network: {name} has shape "
                f"{_shape(learnt, name)} there and {_shape(own, name)} here"
            )
    _LOGGER.info(
        "the parameters are those of %s at first: %s%s",
        run.path, described, f"; random are {', '.join(random)}" if random else "",
    )  # fmt: skip
    placed = {name: jax.device_put(leaf, own[name].sharding) for name, leaf in taken.items()}
    params = like(state.params, placed)
    average = None if state.ema is None else jax.tree.map(jnp.copy, params)
    return dataclasses.replace(state, params=params, ema=average)


def _output(name: str) -> str:
    """The output that the parameter belongs to; empty for what all outputs share."""
    found = _OUTPUTS.match(name)
    return found[1] if found else ""


def _classes(facts: Any) -> Any:
    """The names that the facts of a run give classes; None if they give none."""
    return facts.values.get("names") if isinstance(facts, LabelledFacts) else None


def _outputs_that_differ(learnt: Mapping[str, jax.Array], own: Mapping[str, jax.Array]) -> set[str]:
    names = [name for name in {**learnt, **own} if _output(name)]
    return {_output(name) for name in names if _shape(learnt, name) != _shape(own, name)}


def _shape(params: Mapping[str, jax.Array], name: str) -> tuple[int, ...] | None:
    return params[name].shape if name in params else None
