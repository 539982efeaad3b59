"""How a study of labelled records is measured: on the way, over all devices; and the table of scores at the end.

Not for what is measured, which the study says (`labelled`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jaxformer.config import Config
from jaxformer.data.pipeline import evaluation_batches
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.mesh import first_copy, host_share, place_batch
from jaxformer.tasks.labelling import LabellingTask
from jaxformer.training.memory import explained_out_of_memory
from jaxformer.training.studies.records import LabelledFacts, LabelPredictor, Split


class Measures(Protocol):
    """What is asked of a `LabelledStudy`."""

    config: Config

    @property
    def measure(self) -> Callable[[Any, Any], dict[str, float]]:
        """Split, predictions -> metrics."""

    @property
    def memory_advice(self) -> Callable[[], str]:
        """What to do when predicting takes too much memory."""

    @property
    def make_predictor(self) -> Callable[[Any, Any, Any], LabelPredictor]:
        """Task, facts, parameters -> what predicts."""


class LabelledEvaluation:
    """Parameters -> `validation/loss`, the task's other metrics, and what the study measures.

    Args:
      study: measures predictions.
      task: evaluates the loss, and predicts.
      facts: of the run.
      layout: over which the loss is evaluated; predicting takes one device.
      split: the records.
    """

    def __init__(
        self, study: Measures, task: LabellingTask, facts: LabelledFacts, layout: Layout, split: Split
    ) -> None:
        self._study, self._task, self._facts, self._layout, self._split = study, task, facts, layout, split
        data = study.config.data
        longest = int(split.records.lengths.max())
        slots = max(data.batch_tokens, -(-longest // layout.parts("length")) * layout.mesh.size)
        self._data = dataclasses.replace(data, batch_tokens=slots, batch_rows=0, batching="bucket")

    def __call__(self, params: Any) -> Mapping[str, float]:
        """Evaluates `params`."""
        index, count = host_share(self._layout)
        batches = evaluation_batches(
            self._split.records,
            self._data,
            shard_index=index,
            shard_count=count,
            divisor=self._layout.parts("rows"),
            length_divisor=self._layout.parts("length"),
        )
        values = self._task.evaluate_loss(params, batches, lambda batch: place_batch(batch, self._layout))
        predictor = self._study.make_predictor(self._task, self._facts, first_copy(params, self._layout))
        with explained_out_of_memory(self._study.memory_advice):
            values |= self._study.measure(self._split, predictor(self._split.records))
        return {f"validation/{name}": value for name, value in values.items()}


def score_table(
    metrics: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]], sizes: Mapping[str, str]
) -> str:
    """The metrics of all splits for a person, one a line, each beside those of its baselines.

    Args:
      metrics: `test/accuracy` -> value.
      baselines: name -> the same.
      sizes: split -> such as `872 sentences`.
    """
    columns: dict[str, Mapping[str, float]] = {"model": metrics, **baselines}
    rows = [["", *columns, ""]] if baselines else []
    for name in metrics:
        shown = [f"{values[name]:.4f}" if name in values else "-" for values in columns.values()]
        rows.append([name, *shown, sizes[name.partition("/")[0]]])
    widths = [max(len(row[place]) for row in rows) for place in range(len(columns) + 1)] if rows else []
    lines = []
    for name, *shown, size in rows:
        cells = "  ".join(f"{text:>{width}}" for text, width in zip(shown, widths[1:], strict=True))
        lines.append(f"  {name:<{widths[0]}}  {cells}  {size}".rstrip())
    return "\n".join(lines)
