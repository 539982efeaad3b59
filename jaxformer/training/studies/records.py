"""What studies of labelled records hold: facts as plain values, data in memory or mapped, and predictions of it.

Not for what a study makes of them (`labelled`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from jaxformer.config import Config
from jaxformer.data.bucketing import Shape
from jaxformer.data.labelled import LabelledDataset
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.monitoring.durable import atomic_write
from jaxformer.tasks.labelling import LabellingTask
from jaxformer.tasks.rows import group_rows
from jaxformer.training.folder_lock import WorkdirError
from jaxformer.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class LabelledFacts:
    """What a run on labelled records knows besides its parameters.

    Attributes:
      values: names of labels, means and deviations, whatever predicting needs: a JSON value, kept in `facts.json`.
      tokenizer: of text; None where inputs are no text. Kept in `tokenizer.model`.
    """

    values: Mapping[str, Any]
    tokenizer: Tokenizer | None = None

    @property
    def digest(self) -> str:
        """Of both, as JSON gives the values back."""
        text = json.dumps(self.values, sort_keys=True) + (self.tokenizer.digest if self.tokenizer else "")
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def save(self, workdir: Workdir) -> None:
        """Writes both; `facts.json` last, which says that they are there."""
        if self.tokenizer is not None:
            atomic_write(workdir.tokenizer, self.tokenizer.to_bytes())
        atomic_write(workdir.facts, json.dumps(self.values, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, workdir: Workdir) -> LabelledFacts:
        """What `save` wrote.

        Raises:
          FileNotFoundError: if the folder holds no trained run.
          WorkdirError: if the file is damaged.
        """
        workdir.check_trained(workdir.facts)
        try:
            values = json.loads(workdir.facts.read_text(encoding="utf-8"))
        except ValueError as error:  # of JSON or UTF-8
            raise WorkdirError(f"{workdir.facts} is damaged: {error}; bring it back as the run wrote it") from None
        return cls(values, Tokenizer.load(workdir.tokenizer) if workdir.tokenizer.exists() else None)


@dataclasses.dataclass(frozen=True)
class Split:
    """One split to predict and to measure.

    Attributes:
      records: with their labels.
      raw: what a person knows each record by, one a record: its text, its id, its date.
    """

    records: LabelledDataset
    raw: Sequence[Any]

    def __len__(self) -> int:
        return len(self.records)

    def first(self, count: int) -> Self:
        """The first `count` records; all if it is 0."""
        if not count or count >= len(self):
            return self
        return dataclasses.replace(self, records=self.records.take(np.arange(count)), raw=self.raw[:count])


@dataclasses.dataclass(frozen=True)
class LabelledData:
    """Prepared data of a study; see `training.study.Prepared`.

    Attributes:
      facts: learnt from the training split.
      train: the training records.
      splits: `validation` and `test`, those that there are.
      report: what cleaning found.
      cache_path: where it is kept; None for in memory alone.
      extra: whatever the study's baselines need.
    """

    facts: LabelledFacts
    train: LabelledDataset
    splits: Mapping[str, Split]
    report: str
    cache_path: Path | None = None
    extra: Any = None

    @property
    def size(self) -> int:
        """Training records."""
        return len(self.train)

    @property
    def checksum(self) -> list[int]:
        """Of all that the training records hold."""
        return self.train.checksum()


class LabelPredictor:
    """Predicts records with one set of parameters, in a few shapes that are compiled once each.

    Args:
      task: of the run.
      params: whole, on one device.
      facts: of the run.
      config: of the run; `data.max_length` is the longest record, `decoding.batch_tokens` the slots of a batch.
    """

    def __init__(self, task: LabellingTask, params: Any, facts: LabelledFacts, config: Config) -> None:
        self.task, self.params, self.facts, self.config = task, params, facts, config

    def __call__(self, records: LabelledDataset) -> dict[str, np.ndarray]:
        """What is believed of every record, in their order, by name of the objective; see `Objective.predict`.

        Returns:
          [m, E] for labels of positions, those of one record after another; else [n, G, E] or [n, T, E].
        """
        found: dict[str, np.ndarray] = {}
        limit = max(self.config.data.max_length, int(records.lengths.max(initial=0)))
        for places, rows, length in group_rows(records.lengths.tolist(), limit, self.config.decoding.batch_tokens):
            numbers = np.asarray(places)
            batch = records.assemble(numbers, np.arange(len(numbers)), Shape(rows, length, 0), rows)
            predicted = jax.device_get(self.task.predict(self.params, jax.device_put(batch.inputs)))
            real = np.asarray(batch.inputs.segment_ids) > 0
            for name, values in predicted.items():
                of_positions = records.labels[name].of_positions
                where = records.positions(numbers) if of_positions else numbers
                own = values[real] if of_positions else values[: len(numbers)]
                if name not in found:
                    count = len(records.inputs) if of_positions else len(records)
                    found[name] = np.zeros((count, *own.shape[1:]), own.dtype)
                found[name][where] = own
        return found
