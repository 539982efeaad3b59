"""What the trainer asks of a kind of problem, and which class answers for each.

A study prepares the data of a configuration, says what a trained run has to remember, makes the task and its batches,
and measures and uses what was trained. `entry`, `session` and what they call know this protocol alone. Not for steps
(`session`) nor for losses (`tasks`).

The order in which a run asks:

    check -> prepare -> check_prepared -> keep facts -> [slots, for the planner] -> make_task, make_pipeline
    -> [validation] -> make_predictor -> score

and, of a run that is there: load_facts -> make_task -> make_predictor -> evaluation_splits, score; or predict.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxformer.config import Config, nearest
from jaxformer.data.bucketing import Shape
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.task import Task
from jaxformer.training.memory import MakeTask
from jaxformer.training.scored import Curves, Scored
from jaxformer.training.workdir import Workdir

MakeStudy = Callable[[Config], "Study"]
"""A study of a configuration: most often its class. A run asks for several, as where the planner tries layouts."""

STUDIES = {
    "translation": "jaxformer.training.studies.translation:TranslationStudy",
    "text_classification": "jaxformer.training.studies.text_classification:TextClassificationStudy",
    "protein": "jaxformer.training.studies.protein:ProteinStudy",
    "price_movement": "jaxformer.training.studies.price_movement:PriceMovementStudy",
    "forecasting": "jaxformer.training.studies.forecasting:ForecastingStudy",
}
"""`task.kind` -> module and class, imported when it is asked for; `config.KINDS` has the same names."""


class Facts(Protocol):
    """What a trained run has to remember besides its parameters: a tokenizer, names of labels, statistics.

    With these and a checkpoint a run predicts; nothing else is needed, and nothing else is kept.
    """

    @property
    def digest(self) -> str:
        """A short hash: equal where a run may go on."""

    def save(self, workdir: Workdir) -> None:
        """Writes them to files that `Workdir` knows: `tokenizer`, `facts`."""


class Prepared(Protocol):
    """Data that is ready for training."""

    @property
    def facts(self) -> Facts:
        """Learnt from the training split."""

    @property
    def report(self) -> str:
        """What cleaning found in the training split, a table for a person."""

    @property
    def cache_path(self) -> Path | None:
        """Where it is kept; None for data that lives in memory alone."""

    @property
    def size(self) -> int:
        """Records of the training split."""

    @property
    def checksum(self) -> list[int]:
        """A few integers that change when a run could not go on with this data; a JSON value."""

    @property
    def splits(self) -> Mapping[str, Any]:
        """`validation` and `test`, those that there are: what `Study.score` takes."""


class TrainingPipeline(Protocol):
    """Batches without end, a pure function of (seed, epoch, number); `data.pipeline.BatchPipeline` is one."""

    shapes: tuple[Shape, ...]
    efficiency: float
    batches_per_epoch: int
    row_tokens: np.ndarray

    def __next__(self) -> Any:
        """The next host batch: this host's rows."""

    def get_state(self) -> dict[str, int]:
        """A few integers that say which batch is next."""

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continues where `get_state` was called."""

    def imbalances(self, parts: int) -> np.ndarray:
        """How unevenly `parts` devices are filled, by batch."""

    def close(self) -> None:
        """Stops its threads."""


class Study(Protocol):
    """One kind of problem with one configuration. Making one is cheap: nothing is read before `prepare`.

    Attributes:
      config: of the run.
      noun: what records are called, in the plural: `pairs`.
      counted: the name in `result.json` of the tokens that were trained on: `target_tokens`.
      curves: what the picture of a run shows.
    """

    config: Config
    noun: str
    counted: str
    curves: Curves

    def check(self) -> None:
        """Refuses what can be refused before data is read: fields that do not go together, files that are not there.

        Raises:
          ValueError, OSError: with what to do.
        """

    def prepare(self, *, download: bool = False) -> Prepared:
        """The data, cleaned and cached; `download` allows what only `--mode=prepare` may do.

        Raises:
          ValueError, OSError: for data that cannot be used or read.
        """

    def check_prepared(self, prepared: Any) -> None:
        """Refuses, before training and not after it, what could not be scored in the end.

        Raises:
          ValueError, OSError: with what to do.
        """

    def has_facts(self, workdir: Workdir) -> bool:
        """Whether the facts of a run are in `workdir`."""

    def load_facts(self, workdir: Workdir) -> Facts:
        """The facts that `Facts.save` wrote.

        Raises:
          OSError: if there are none, saying that the folder holds no trained run.
        """

    def assumed_facts(self) -> Any:
        """Facts of the right sizes for `make_task`, in place of data that `--mode=plan` does not read."""

    def slots(self, prepared: Any) -> int:
        """Tokens or positions of an epoch, of the longer side; batches that fill memory are a part of them."""

    def make_task(self, facts: Any, layout: Layout | None = None) -> Task[Any]:
        """The network and the loss."""

    def make_pipeline(
        self,
        prepared: Any,
        *,
        shard_index: int = 0,
        shard_count: int = 1,
        divisor: int = 1,
        length_divisor: int = 1,
        shapes: Sequence[Shape] | None = None,
    ) -> TrainingPipeline:
        """The training batches; see `data.pipeline.BatchPipeline` for the arguments."""

    def flops(self, task: Any, shape: Shape) -> float:
        """Model FLOPs of one pass, forward and backward, over a batch."""

    def describe_flops(self, task: Any, shape: Shape) -> str:
        """The same for a run's log."""

    def validation(
        self, prepared: Any, task: Any, layout: Layout
    ) -> Callable[[Any], Mapping[str, float]] | None:
        """Parameters on the mesh -> `validation/loss` and others; None without a validation split."""

    def make_predictor(self, task: Any, facts: Any, params: Any) -> Any:
        """What predicts, with parameters that are whole on one device."""

    def evaluation_splits(self, facts: Any) -> Mapping[str, Any]:
        """As `Prepared.splits`, without any training data.

        Raises:
          ValueError, OSError: for splits that cannot be read.
        """

    def score(
        self,
        predictor: Any,
        splits: Mapping[str, Any],
        *,
        predictions: Path,
        report: Path | None = None,
        prepared: Any = None,
    ) -> Scored:
        """Predicts and measures every split.

        Args:
          predictor: of `make_predictor`.
          splits: of `Prepared` or of `evaluation_splits`.
          predictions: folder for what was predicted, a file a split; written by the first process alone.
          report: folder for pictures and pages; None for none.
          prepared: the training data, for baselines that need it; None where a run is evaluated again.

        Raises:
          OSError: if they cannot be written.
        """

    def predict(self, predictor: Any, lines: Iterable[str], *, interactive: bool = False) -> Iterator[str]:
        """What `--mode=predict` writes for lines from its input, piece by piece, line ends included.

        Args:
          predictor: of `make_predictor`.
          lines: without their line ends; read a part at a time, or with `interactive` one at a time.
          interactive: a person waits for every answer.
        """

    @property
    def prompt(self) -> str:
        """What a person who types is shown."""

    def predicting(self) -> str:
        """What `predict` does, for the log: `translating`."""

    def searching(self) -> str:
        """How predictions are found, to be said beside the scores: `, beam search`; empty where there is one way."""

    def memory_advice(self) -> str:
        """What to do when predicting takes too much memory."""

    def next_commands(self, command: str, flags: str) -> list[str]:
        """The next useful commands, from `python run.py --experiment=NAME` and `--workdir=DIR`, for a shell."""


def open_study(config: Config) -> Study:
    """The study of `config.task.kind`.

    Raises:
      ValueError: if there is none.
    """
    kind = config.task.kind
    if kind not in STUDIES:
        raise ValueError(f"task.kind={kind!r} is not known: {nearest(kind, STUDIES)}")
    module, _, name = STUDIES[kind].partition(":")
    study: Study = getattr(importlib.import_module(module), name)(config)
    return study


def checked_maker(make: Any) -> MakeStudy:
    """What makes studies, `open_study` where `make` is None.

    Raises:
      ValueError: from what is returned, for what does not make a study.
    """
    if make is None:
        return open_study
    wanted = "study takes what makes a jf.Study of a jf.Config, such as its class"
    if not callable(make):
        raise ValueError(f"{wanted}, got {make!r}")

    def made(config: Config) -> Study:
        study: Study = make(config)
        names = (*Study.__annotations__, *(name for name in vars(Study) if not name.startswith("_")))
        if missing := [name for name in names if not hasattr(study, name)]:
            raise ValueError(f"{wanted}: {study!r} has no {', '.join(missing)}")
        return study

    return made


def check_settings(study: Study) -> None:
    """Refuses fields that do not go together, where files need not be there: `ValueError`."""
    with contextlib.suppress(OSError):
        study.check()


def task_maker(facts: Any, make_study: MakeStudy = open_study) -> MakeTask:
    """What makes the task of a configuration, whose study, one of `make_study`, has `facts`."""
    return lambda config, layout: make_study(config).make_task(facts, layout)
