"""A label for every text, such as its sentiment: tokens, a pooled encoder, probabilities; naive Bayes beside it.

Not for reading and cleaning texts (`data.labelled_text`, `data.classify`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.data.classify import LABEL, ClassifiedTexts, TextEncoder, all_classified, prepare_texts
from jaxformer.data.labelled_text import SENTIMENT, LabelNames, open_texts
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.evaluation import classification
from jaxformer.evaluation.naive_bayes import NaiveBayes
from jaxformer.monitoring import pages, pictures
from jaxformer.monitoring.durable import atomic_write
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.classification import ClassificationTask
from jaxformer.tasks.objectives import Classes
from jaxformer.training.studies.labelled import LabelledStudy, Predicted
from jaxformer.training.studies.records import LabelledData, LabelledFacts, LabelPredictor, Split
from jaxformer.training.studies.text_classifier import TextClassifier, coloured
from jaxformer.training.study import Curves

_CHUNK = 2000
"""Lines that are classified together."""

_SHOWN = 60
"""Texts on the page of words that mattered."""


@dataclasses.dataclass(frozen=True)
class Texts(Split):
    """A split of texts.

    Attributes:
      names: of the classes.
    """

    names: tuple[str, ...] = ()

    @property
    def classes(self) -> np.ndarray:
        """int [n]: the true class of each."""
        return self.records.labels[LABEL].values[:, 0]


class TextClassificationStudy(LabelledStudy):
    """See `LabelledStudy`. Its splits are `Texts`."""

    noun = "texts"
    of_positions = False
    metrics = ("loss", "nll", "accuracy", "macro_f1", "mcc", "calibration_error", "brier")
    curves = Curves(
        "nats per text", {"validation/accuracy": "validation accuracy", "validation/macro_f1": "validation F1"}, 100.0
    )

    @property
    def _first(self) -> bool:
        return self.config.task.pooling == "cls"

    def prepare(self, *, download: bool = False) -> LabelledData:
        """Cleaned and tokenised texts, in memory."""
        if download and self.config.data.source == "tfds":
            from jaxformer.data.tfds import download_and_prepare

            download_and_prepare(self.config.data, labelled=True)
        found = prepare_texts(self.config.data_with_vocabulary, first=self._first)
        values: dict[str, Any] = {"names": list(found.names), "counts": found.counts}
        if found.spellings:
            values["spellings"] = list(found.spellings)
        facts = LabelledFacts(values, found.tokenizer)
        splits = {name: _split(one, found.names) for name, one in found.splits.items()}
        return LabelledData(facts, found.train.records, splits, found.report, extra=found.train)

    def evaluation_splits(self, facts: LabelledFacts) -> dict[str, Split]:
        """The same texts again, with the labels and the vocabulary of the run."""
        assert facts.tokenizer is not None
        encoder = TextEncoder(facts.tokenizer, self.config.data, first=self._first)
        names = LabelNames([*facts.values["names"], *facts.values.get("spellings", ())])
        splits = all_classified(open_texts(self.config.data, train=False), encoder, names)
        return {name: _split(one, names.names) for name, one in splits.items()}

    def assumed_facts(self) -> LabelledFacts:
        """Two classes, and a vocabulary of the size that is asked for."""
        return LabelledFacts({"names": list(SENTIMENT), "counts": [1, 1], "pieces": self.config.data.vocabulary_size})

    def make_task(self, facts: LabelledFacts, layout: Layout | None = None) -> ClassificationTask:
        """A pooled encoder, and the cross-entropy of its classes."""
        counts = facts.values["counts"]
        tokenizer: Tokenizer | None = facts.tokenizer
        pieces = facts.values["pieces"] if tokenizer is None else tokenizer.source_vocabulary_size
        return ClassificationTask(
            self.config,
            {LABEL: Classes(len(counts), self.class_weights(counts), self.config.training.label_smoothing)},
            pooling=self.config.task.pooling,
            vocabulary_size=pieces,
            spelling=self.config.data.spelling,
            part_weights=self.part_weights,
            layout=layout,
        )

    def make_predictor(self, task: Any, facts: LabelledFacts, params: Any) -> TextClassifier:
        """A classifier of texts."""
        return TextClassifier(task, params, facts, self.config)

    def measure(self, split: Any, predicted: Predicted) -> dict[str, float]:
        """`nll`, and those of `classification_scores`."""
        believed = predicted[LABEL][:, 0]
        scores = classification.classification_scores(believed, split.classes, split.names)
        return {"nll": classification.negative_log_likelihood(believed, split.classes), **scores}

    def baselines(self, prepared: LabelledData, splits: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Naive Bayes over the words of the same training texts, and the most frequent class."""
        train: ClassifiedTexts = prepared.extra
        counts = prepared.facts.values["counts"]
        bayes = NaiveBayes(train.texts, train.classes, len(counts))
        found: dict[str, dict[str, float]] = {"naive Bayes": {}, "most frequent": {}}
        for name, split in splits.items():
            labels = split.classes
            common = np.full(len(labels), int(np.argmax(counts)))
            for rival, guesses in (("naive Bayes", bayes.classify(split.raw)), ("most frequent", common)):
                confusion = classification.confusion_matrix(labels, guesses, len(counts))
                found[rival] |= {
                    f"{name}/accuracy": classification.accuracy(confusion),
                    f"{name}/macro_f1": float(classification.class_scores(confusion).f1.mean()),
                    f"{name}/mcc": classification.matthews_correlation(confusion),
                }
        return found

    def write_predictions(self, name: str, split: Any, predicted: Predicted, folder: Path) -> Path:
        """`SPLIT.tsv`: the true class, the predicted one, its probability, the text."""
        file = folder / f"{name}.tsv"
        lines = [
            f"{split.names[label]}\t{split.names[row.argmax()]}\t{row.max():.4f}\t{text}\n"
            for label, row, text in zip(split.classes, predicted[LABEL][:, 0], split.raw, strict=True)
        ]
        atomic_write(file, "label\tpredicted\tprobability\ttext\n" + "".join(lines))
        return file

    def draw(self, predictor: LabelPredictor, splits: Mapping[str, Any], predicted: Mapping[str, Predicted],
             folder: Path) -> dict[str, Path]:  # fmt: skip
        """Calibration of every split; of the last one the confusion of classes, and the words that mattered."""
        if not splits:
            return {}
        last = list(splits)[-1]
        names = splits[last].names
        files = {name: folder / file for name, file in (
            ("calibration", "calibration.png"), ("confusion", "confusion.png"), ("words that mattered", "words.html")
        )}  # fmt: skip
        curves = {
            name: classification.reliability(predicted[name][LABEL][:, 0], split.classes)
            for name, split in splits.items()
        }
        title = self.config.experiment
        pictures.draw_calibration(curves, files["calibration"], title=title)
        guesses = predicted[last][LABEL][:, 0].argmax(axis=-1)
        confusion = classification.confusion_matrix(splits[last].classes, guesses, len(names))
        pictures.draw_confusion(confusion, names, files["confusion"], title=f"{title} {last}".strip())
        shown = _spread(len(splits[last]), _SHOWN)
        raw = [splits[last].raw[place] for place in shown]
        texts = coloured(predictor, raw, splits[last].records.take(shown), splits[last].classes[shown], names)
        explanation = (
            f"{len(texts)} texts of the {last} split. Green words speak for the prediction, red ones against it: "
            "gradient times input, a first-order estimate of what each word adds to the logit."
        )
        pages.write_coloured_texts(
            texts, files["words that mattered"], title=f"Words that mattered, {title}", explanation=explanation
        )
        return files

    def samples(self, split: Any, predicted: Predicted, count: int) -> str:
        """Texts evenly spread over the split: what is believed, how surely, and whether that is wrong."""
        rows, width = predicted[LABEL][:, 0], max(map(len, split.names))
        lines = []
        for place in _spread(len(split), count):
            found = int(rows[place].argmax())
            verdict = "     " if found == split.classes[place] else "WRONG"
            lines.append(f"  {split.names[found]:<{width}}  {rows[place].max():4.0%}  {verdict}  {split.raw[place]}")
        return "\n".join(lines) + "\n"

    def predict(
        self, predictor: LabelPredictor, lines: Iterable[str], *, interactive: bool = False
    ) -> Iterator[str]:
        """A line for each line: the class and, after tabs, `NAME=PROBABILITY` of all; an empty one for an empty one."""
        assert isinstance(predictor, TextClassifier)
        rest, first_line = iter(lines), 1
        while texts := list(itertools.islice(rest, 1 if interactive else _CHUNK)):
            for one in predictor.classify(texts, first_line=first_line):
                shares = (f"{name}={share:.4f}" for name, share in one.probabilities.items())
                yield "\t".join(filter(None, [one.label, *shares])) + "\n"
            first_line += len(texts)

    @property
    def prompt(self) -> str:
        """What a person who types is shown."""
        return "text> "

    def predicting(self) -> str:
        """For the log."""
        return "classifying"

    def next_commands(self, command: str, flags: str) -> list[str]:
        """Classify a file; score other texts."""
        return [
            f"{command} --mode=predict {flags} < texts.txt",
            f"{command} --mode=evaluate {flags}",
        ]


def _split(found: ClassifiedTexts, names: Sequence[str]) -> Texts:
    return Texts(found.records, found.texts, tuple(names))


def _spread(number: int, count: int) -> np.ndarray:
    """`count` of `number` places, evenly spread."""
    count = min(number, count)
    return np.arange(count) * number // max(1, count)
