"""A trained run as something that translates, or predicts what else it has learnt.

Not for training (`session`) or for what is done with the predictions (`entry`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxformer.config import Config, MeshConfig
from jaxformer.models import TranslationEnsemble
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.mesh import first_copy, make_layout
from jaxformer.tasks.translator import Translator
from jaxformer.training.averaging import select_params
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.folder_lock import WorkdirError
from jaxformer.training.run_checkpoints import open_checkpoints
from jaxformer.training.study import MakeStudy, Study, checked_maker
from jaxformer.training.workdir import Workdir, evaluation_config


def load_translator(workdir: str | os.PathLike[str], **decoding: Any) -> Translator:
    """The translator of a trained run, for use from Python.

        translator = jf.load_translator("runs/wmt-bundled", beam_size=8)
        print(translator.translate(["The house is old."])[0].text)

    Args:
      workdir: of the run; nothing else is needed.
      decoding: fields of `DecodingConfig` that shall differ from the run's own.

    Raises:
      OSError: if there is no such run, or it cannot be read.
      ValueError: for a field or value that does not exist, or that only `--mode=predict` reads.
    """
    run, config = _searching(workdir, decoding)
    if config.task.kind != "translation":
        raise ValueError(
            f"the run in {run.path} does not translate, its task.kind is {config.task.kind}: use jf.load_predictor"
        )
    predictor: Translator = open_predictor(config, run)[2]
    return predictor


def load_predictor(workdir: str | os.PathLike[str], *, study: MakeStudy | None = None, **decoding: Any) -> Any:
    """What a trained run of any kind predicts with.

    A `jf.Translator`, a `jf.TextClassifier`, of proteins a `jf.ChainPredictor`, of other records a `jf.LabelPredictor`.

        classifier = jf.load_predictor("runs/sentiment-bundled")
        print(classifier.classify(["a warm and funny film"])[0])

    Args:
      workdir: of the run; nothing else is needed.
      study: what it was trained with, if that was not the study of its `task.kind`: see `jf.train`.
      decoding: fields of `DecodingConfig` that shall differ from the run's own.

    Raises:
      OSError: if there is no such run, or it cannot be read.
      ValueError: for a field or value that does not exist, or that would not be read.
    """
    run, config = _searching(workdir, decoding, own=study is not None)
    return open_predictor(config, run, study)[2]


def _searching(
    workdir: str | os.PathLike[str], decoding: Mapping[str, Any], *, own: bool = False
) -> tuple[Workdir, Config]:
    """The run in `workdir` and its configuration with these fields of `DecodingConfig`; `own` if its study is.

    Raises:
      ValueError: for fields that would not be read.
    """
    run = Workdir(Path(workdir))
    config = evaluation_config(run, {f"decoding.{name}": value for name, value in decoding.items()})
    kind, unread = config.task.kind, sorted(set(decoding) - {"batch_tokens"})
    if unread and not own and kind != "translation":
        raise ValueError(
            f"{', '.join(unread)}: of translation, and the run in {run.path} has task.kind={kind}: leave it out"
        )
    if "processes" in decoding:
        raise ValueError(
            f"processes={decoding['processes']} is read by --mode=predict alone: leave it out, and translate with "
            f"jf.TranslatorPool(jf.load_translator({os.fspath(workdir)!r}), processes={decoding['processes']})"
        )
    return run, config


def open_predictor(
    config: Config, workdir: Workdir, make_study: MakeStudy | None = None
) -> tuple[Study, Any, Any, str]:
    """What predicts with the run in `workdir`, on one device, however many have trained.

    Args:
      config: of the run.
      workdir: of the run.
      make_study: of a configuration; None for that of `task.kind`.

    Returns:
      The study of the run, its facts, the predictor, and words for which parameters it uses.

    Raises:
      OSError: if there is no trained run, or it cannot be read.
      ValueError: for runs in `decoding.ensemble` of another task, direction or vocabulary.
    """
    if config.decoding.ensemble:
        return _open_ensemble(config, workdir, checked_maker(make_study))
    study, facts, task, params, described = _open_trained(config, workdir, checked_maker(make_study))
    return study, facts, study.make_predictor(task, facts, params), described


class _Trained(NamedTuple):
    """A trained run, and its parameters on one device."""

    study: Study
    facts: Any
    task: Any
    params: Any
    described: str


def _open_trained(config: Config, workdir: Workdir, make_study: MakeStudy) -> _Trained:
    study, layout = make_study(config), make_layout(MeshConfig(data=1))
    facts = study.load_facts(workdir)
    workdir.check_trained(workdir.checkpoints)
    task = study.make_task(facts)
    with contextlib.closing(open_checkpoints(config, workdir, read_only=True)) as checkpoints:
        params, described = select_params(checkpoints, config.training, task.abstract_params(layout))
    return _Trained(study, facts, task, first_copy(params, layout), described)


def _open_ensemble(
    config: Config, workdir: Workdir, make_study: MakeStudy
) -> tuple[Study, Any, Translator, str]:
    """A translator of the run in `workdir` and those of `decoding.ensemble` together."""
    own = _open_trained(config, workdir, make_study)
    members, described = [own], [own.described]
    for name in filter(None, (part.strip() for part in config.decoding.ensemble.split(","))):
        run = Workdir(name)
        try:
            there = run.load_config()
        except WorkdirError as error:
            raise WorkdirError(f"decoding.ensemble: {error}") from None
        if there.task.kind != "translation":
            kind = there.task.kind
            raise ValueError(f"decoding.ensemble: the run in {name} does not translate, its task.kind is {kind}")
        if (way := _languages(there)) == _languages(config)[::-1]:
            raise ValueError(
                f"decoding.ensemble: {name} translates from {way[0]} to {way[1]}, and {workdir.path} the other way "
                "round: only runs of one direction translate together"
            )
        if make_study(there).load_facts(run).digest != own.facts.digest:
            raise ValueError(
                f"decoding.ensemble: the vocabulary of {name} is not that of {workdir.path}: only runs with the same "
                "one translate together; train with --config.data.vocabulary=FOLDER of the other"
            )
        members.append(_open_trained(there, run, make_study))
        described.append(f"{name}: {members[-1].described}")
    translator = Translator(
        TranslationEnsemble([one.task.model(one.params) for one in members]),
        own.task.tokenizer,
        config.decoding,
        min(one.task.max_length for one in members),
        normalization=config.data.normalization,
    )
    return own.study, own.facts, translator, "; together with ".join(described)


def _languages(config: Config) -> tuple[str, str]:
    """Those that a run translates from and to."""
    data = config.data
    ways = data.source_language, data.target_language
    return ways[::-1] if data.reverse else ways


def best_predictor(
    study: Study, task: Any, facts: Any, checkpoints: Checkpoints, layout: Layout
) -> tuple[Any, str]:
    """What predicts with the parameters that `select_params` chooses, and words for which they are."""
    params, described = select_params(checkpoints, study.config.training, task.abstract_params(layout))
    return study.make_predictor(task, facts, first_copy(params, layout)), described
