"""A trained text classifier: classes of texts with their probabilities, and the words that mattered.

Not for training (`text_classification`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxformer.data.bucketing import Shape
from jaxformer.data.classify import LABEL, TextEncoder
from jaxformer.data.cleaning import has_text
from jaxformer.data.labelled import LabelledDataset
from jaxformer.monitoring.pages import ColouredText
from jaxformer.tasks.attribution import gradient_times_input
from jaxformer.tasks.classification import ClassificationTask
from jaxformer.tasks.rows import group_rows
from jaxformer.tasks.source_lines import check_lines
from jaxformer.training.studies.records import LabelPredictor
from jaxformer.types import Sequences

_LOGGER = logging.getLogger(__name__)


class Classified(NamedTuple):
    """What is believed of one text.

    Attributes:
      label: the likeliest class; empty for an empty text.
      probabilities: of every class, by name; none for an empty text.
    """

    label: str
    probabilities: dict[str, float]


class TextClassifier(LabelPredictor):
    """Classifies texts with one set of parameters; see `LabelPredictor`."""

    @property
    def names(self) -> list[str]:
        """Of the classes."""
        return list(self.facts.values["names"])

    @property
    def encoder(self) -> TextEncoder:
        """Texts to rows, as in training."""
        assert self.facts.tokenizer is not None
        return TextEncoder(self.facts.tokenizer, self.config.data, first=self.config.task.pooling == "cls")

    def classify(self, texts: Sequence[str], *, first_line: int = 1) -> list[Classified]:
        """The class of each text.

        Args:
          texts: of any length; of long ones the beginning is read, which a warning names.
          first_line: number of the first, for that warning.

        Raises:
          ValueError: for one text that is not in a list.
        """
        check_lines(texts)
        encoder = self.encoder
        normal = [encoder.normalize(text)[0] for text in texts]
        places = [place for place, text in enumerate(normal) if has_text(text)]
        rows, long = encoder([normal[place] for place in places])
        if long:
            numbers = ", ".join(str(first_line + places[place]) for place in long[:20])
            more = f" and {len(long) - 20} more" if len(long) > 20 else ""
            _LOGGER.warning("longer than %d tokens, classified by their beginning: line %s%s",
                            self.config.data.max_length, numbers, more)  # fmt: skip
        found = [Classified("", {})] * len(texts)
        if places:
            predicted = self(encoder.records(rows, [0] * len(rows)))[LABEL][:, 0]
            for place, row in zip(places, predicted, strict=True):
                shares = {name: float(share) for name, share in zip(self.names, row, strict=True)}
                found[place] = Classified(self.names[int(row.argmax())], shares)
        return found


def coloured(
    predictor: LabelPredictor, texts: Sequence[str], records: LabelledDataset, truth: np.ndarray, names: Sequence[str]
) -> list[ColouredText]:
    """Texts, of which `records` are made, as words, each with what it adds to the prediction."""
    tokenizer = predictor.facts.tokenizer
    assert tokenizer is not None
    task = predictor.task
    assert isinstance(task, ClassificationTask)
    attribute = gradient_times_input(task, LABEL)
    probabilities = predictor(records)[LABEL][:, 0]
    found: dict[int, ColouredText] = {}
    limit = int(records.lengths.max())
    for places, rows, length in group_rows(records.lengths.tolist(), limit, predictor.config.decoding.batch_tokens):
        numbers = np.asarray(places)
        batch = records.assemble(numbers, np.arange(len(numbers)), Shape(rows, length, 0), rows)
        assert isinstance(batch.inputs, Sequences)
        scores, _ = jax.device_get(attribute(predictor.params, jax.device_put(batch.inputs)))
        for row, number in enumerate(places):
            tokens = np.asarray(batch.inputs.tokens)
            ids = (tokens if tokens.ndim == 2 else tokens[..., 0])[row, : records.lengths[number]]
            words, sums = tokenizer.words(texts[number], ids.tolist(), scores[row].tolist())
            believed = probabilities[number]
            found[number] = ColouredText(
                words, sums, names[int(believed.argmax())], names[int(truth[number])], float(believed.max())
            )
    return [found[number] for number in range(len(records))]
