"""What studies of labelled records share: batches, validation, scores beside baselines, tables, the plan.

A study of its own kind derives from `LabelledStudy`, says how data is prepared, which task learns it, and how
predictions are measured and shown. Not for any one kind of data.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxformer.config import Config, nearest
from jaxformer.data.bucketing import Shape
from jaxformer.data.pipeline import BatchPipeline
from jaxformer.monitoring.flops import describe_encoder_flops, encoder_flops
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.labelling import LabellingTask
from jaxformer.training.memory import predicting_advice
from jaxformer.training.studies.measuring import LabelledEvaluation, score_table
from jaxformer.training.studies.records import LabelledData, LabelledFacts, LabelPredictor, Split
from jaxformer.training.study import Curves, Scored
from jaxformer.training.workdir import Workdir

_LOGGER = logging.getLogger(__name__)

_NOT_PACKED = (
    "data.batching=pack puts several records into a row, which labels of whole records do not allow: set "
    "--config.data.batching=bucket"
)

Predicted = Mapping[str, np.ndarray]
"""What `LabelPredictor` gives, by name of the objective."""


class LabelledStudy(abc.ABC):
    """A `training.study.Study` of labelled records, but for what the abstract methods say.

    Attributes:
      noun: what records are called, in the plural.
      metrics: what `measure` and the task's loss give, without `validation/`: what `training.best_metric` may name.
      of_positions: whether labels belong to positions, so that rows may hold several records.
      curves: what the picture of a run shows.
    """

    noun = "records"
    counted = "tokens"
    metrics: tuple[str, ...] = ("loss",)
    of_positions = True
    curves = Curves("nats per label", {"validation/accuracy": "validation accuracy"}, 100.0)

    def __init__(self, config: Config) -> None:
        self.config = config

    # What a study of its own kind says.

    @abc.abstractmethod
    def prepare(self, *, download: bool = False) -> LabelledData:
        """The data, cleaned; see `Study.prepare`."""

    @abc.abstractmethod
    def make_task(self, facts: LabelledFacts, layout: Layout | None = None) -> LabellingTask:
        """The network and its objectives."""

    @abc.abstractmethod
    def assumed_facts(self) -> LabelledFacts:
        """Facts of the right sizes, in place of data that `--mode=plan` does not read."""

    @abc.abstractmethod
    def evaluation_splits(self, facts: LabelledFacts) -> dict[str, Split]:
        """The validation and test splits that there are, from their sources, without any training data."""

    @abc.abstractmethod
    def measure(self, split: Split, predicted: Predicted) -> dict[str, float]:
        """Metrics of one split, such as `accuracy`; called on the way and at the end."""

    @abc.abstractmethod
    def predict(
        self, predictor: LabelPredictor, lines: Iterable[str], *, interactive: bool = False
    ) -> Iterator[str]:
        """See `Study.predict`."""

    @abc.abstractmethod
    def next_commands(self, command: str, flags: str) -> list[str]:
        """See `Study.next_commands`."""

    # What it may say besides.

    def baselines(self, prepared: LabelledData, splits: Mapping[str, Split]) -> dict[str, dict[str, float]]:
        """Scores of trivial and simple rivals, by their names: `naive Bayes` -> `test/accuracy` -> value."""
        return {}

    def size(self, split: Split) -> str:
        """How much of `split` the scores are of, for the table of scores."""
        return f"{len(split):,} {self.noun}"

    def write_predictions(self, name: str, split: Split, predicted: Predicted, folder: Path) -> Path | None:
        """Writes what was predicted of split `name` into `folder`, which is there; the file, or None for none."""
        return None

    def draw(self, predictor: LabelPredictor, splits: Mapping[str, Split], predicted: Mapping[str, Predicted],
             folder: Path) -> dict[str, Path]:  # fmt: skip
        """Makes pictures and pages in `folder`, which is there; files by what a person calls them."""
        return {}

    def samples(self, split: Split, predicted: Predicted, count: int) -> str:
        """A few predictions of the last split beside what was wanted."""
        return ""

    @property
    def prompt(self) -> str:
        """What a person who types is shown."""
        return "> "

    # The same for all.

    def check(self) -> None:
        """Refuses what is for translation alone, and a metric that is not measured."""
        config, kind = self.config, self.config.task.kind
        if config.training.r_drop:
            raise ValueError(
                f"training.r_drop={config.training.r_drop} is for translation, not for task.kind={kind}: set it to 0"
            )
        if config.data.subword_sampling:
            raise ValueError(
                f"data.subword_sampling={config.data.subword_sampling} is for translation, not for task.kind={kind}: "
                "set it to 0; --config.task.token_dropout hides tokens"
            )
        metric, names = config.training.best_metric, [f"validation/{name}" for name in self.metrics]
        if metric not in names:
            raise ValueError(
                f"training.best_metric={metric!r} is not measured where task.kind={kind}: {nearest(metric, names)}"
            )
        if config.data.batching == "pack" and not self.of_positions:
            raise ValueError(_NOT_PACKED)

    @property
    def part_weights(self) -> Literal["learned"] | None:
        """As a `LabellingTask` takes it."""
        return "learned" if self.config.task.part_weights == "learned" else None

    def class_weights(self, counts: Sequence[float]) -> tuple[float, ...]:
        """As `Classes` takes them, from how often each class occurs in the training data; 1 on average over it.

        A class that never occurs there counts 1, as the average label does.
        """
        if self.config.task.class_weights == "none":
            return ()
        occurring = sum(count > 0 for count in counts)
        return tuple(sum(counts) / (occurring * count) if count else 1.0 for count in counts)

    def has_facts(self, workdir: Workdir) -> bool:
        """Whether `facts.json` is there."""
        return workdir.facts.exists()

    def load_facts(self, workdir: Workdir) -> LabelledFacts:
        """From `facts.json` and, of text, `tokenizer.model`."""
        return LabelledFacts.load(workdir)

    def check_prepared(self, prepared: LabelledData) -> None:
        """Says so if there is nothing to score."""
        if not prepared.splits:
            _LOGGER.warning("there is neither a validation nor a test split: nothing will be scored")

    def slots(self, prepared: LabelledData) -> int:
        """Of an epoch, without padding."""
        return int(prepared.train.source_lengths.sum())

    def make_pipeline(
        self,
        prepared: LabelledData,
        *,
        shard_index: int = 0,
        shard_count: int = 1,
        divisor: int = 1,
        length_divisor: int = 1,
        shapes: Sequence[Shape] | None = None,
    ) -> BatchPipeline:
        """The training batches.

        Raises:
          ValueError: for records that do not make batches, or labels of records in packed rows.
        """
        if self.config.data.batching == "pack" and not all(
            labels.of_positions for labels in prepared.train.labels.values()
        ):
            raise ValueError(_NOT_PACKED)
        return BatchPipeline(
            prepared.train,
            self.config.data,
            seed=self.config.training.seed,
            shard_index=shard_index,
            shard_count=shard_count,
            divisor=divisor,
            length_divisor=length_divisor,
            shapes=shapes,
        )

    def flops(self, task: LabellingTask, shape: Shape) -> float:
        """Of the products of the encoder and its heads, forward and backward."""
        return 3.0 * sum(self._forward_flops(task, shape).values())

    def describe_flops(self, task: LabellingTask, shape: Shape) -> str:
        """The same with its parts."""
        return describe_encoder_flops(self._forward_flops(task, shape), shape.rows, shape.source_length)

    def _forward_flops(self, task: LabellingTask, shape: Shape) -> dict[str, float]:
        rows, length = shape.rows, shape.source_length
        heads, members = task.head_flops(rows, length), self.config.task.members
        return encoder_flops(
            self.config.model, rows, length, num_channels=task.num_channels, heads=heads, members=members
        )

    def validation(
        self, prepared: LabelledData, task: LabellingTask, layout: Layout
    ) -> LabelledEvaluation | None:
        """The loss over all devices, and what `measure` makes of predictions on one."""
        split = prepared.splits.get("validation")
        if split is None:
            return None
        return LabelledEvaluation(self, task, prepared.facts, layout, split.first(self.config.training.eval_examples))

    def make_predictor(self, task: LabellingTask, facts: LabelledFacts, params: Any) -> LabelPredictor:
        """Predicts records, and knows the facts of the run."""
        return LabelPredictor(task, params, facts, self.config)

    def score(
        self,
        predictor: LabelPredictor,
        splits: Mapping[str, Split],
        *,
        predictions: Path,
        report: Path | None = None,
        prepared: LabelledData | None = None,
    ) -> Scored:
        """Predicts every split once, and measures, writes, draws and tells what was found."""
        predicted = {name: predictor(split.records) for name, split in splits.items()}
        metrics = {
            f"{name}/{metric}": value
            for name, split in splits.items()
            for metric, value in self.measure(split, predicted[name]).items()
        }
        baselines = self.baselines(prepared, splits) if prepared is not None else {}
        files: dict[str, Path] = {}
        if not jax.process_index():
            predictions.mkdir(parents=True, exist_ok=True)
            for name, split in splits.items():
                if (file := self.write_predictions(name, split, predicted[name], predictions)) is not None:
                    files[f"predictions of {name}"] = file
            if report is not None:
                report.mkdir(parents=True, exist_ok=True)
                try:
                    files |= self.draw(predictor, splits, predicted, report)
                except Exception as error:  # the scores are there: no picture is worth a run
                    _LOGGER.warning("pictures are missing in %s, the scores are not: %s", report, error, exc_info=True)
        samples = ""
        if splits and (count := self.config.monitoring.samples):
            last = list(splits)[-1]
            samples = self.samples(splits[last], predicted[last], count)
            samples = samples and f"sample predictions ({last})\n\n{samples}"
        sizes = {name: self.size(split) for name, split in splits.items()}
        details = {"baselines": baselines} if baselines else {}
        return Scored(metrics, score_table(metrics, baselines, sizes), samples, files, details=details)

    def predicting(self) -> str:
        """For the log."""
        return "predicting"

    def searching(self) -> str:
        """There is one way."""
        return ""

    def memory_advice(self) -> str:
        """Smaller batches."""
        return predicting_advice(self.config.decoding)
