"""A trained run as something that translates.

Not for training (`session`) or for what is done with the translations (`entry`).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from jaxformer.config import Config, MeshConfig
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.mesh import first_copy, make_layout
from jaxformer.tasks.translation import TranslationTask
from jaxformer.tasks.translator import Translator
from jaxformer.training.averaging import select_params
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.session import open_checkpoints
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
      ValueError: for a field or value that does not exist.
    """
    run = Workdir(Path(workdir))
    config = evaluation_config(run, {f"decoding.{name}": value for name, value in decoding.items()})
    return open_translator(config, run)[0]


def open_translator(config: Config, workdir: Workdir) -> tuple[Translator, str]:
    """The translator of the run in `workdir` with its configuration, and words for which parameters it uses.

    Raises:
      OSError: if there is no trained run, or it cannot be read.
    """
    for needed in (workdir.tokenizer, workdir.checkpoints):
        if not needed.exists():
            raise FileNotFoundError(f"{needed} is not there: {workdir.path} holds no trained run; train it first")
    task = TranslationTask(config, Tokenizer.load(workdir.tokenizer))
    with contextlib.closing(open_checkpoints(config, workdir, read_only=True)) as checkpoints:
        # One device translates, however many have trained.
        return best_translator(config, task, checkpoints, make_layout(MeshConfig(data=1)))


def best_translator(
    config: Config, task: TranslationTask, checkpoints: Checkpoints, layout: Layout
) -> tuple[Translator, str]:
    """A translator with the parameters that `select_params` chooses, and words for which they are."""
    params, described = select_params(checkpoints, config.training, task.abstract_params(layout))
    return task.translator(first_copy(params, layout), config.decoding), described
