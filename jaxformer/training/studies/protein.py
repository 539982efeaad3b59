"""Secondary structure of proteins from their sequence: a state for every residue, and accessibility where it is known.

Beside it are printed what always saying coil scores, and naive Bayes over a window of 17 residues. Not for reading and
cleaning chains (`data.proteins`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.config import nearest
from jaxformer.data.labelled import class_counts
from jaxformer.data.proteins import ChainCleaner, ChainReport, read_splits
from jaxformer.data.proteins.alphabet import EIGHT_STATES, THREE_STATES, VOCABULARY_SIZE
from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.fasta import checked_chunks, read_fasta, typed
from jaxformer.data.proteins.folded import Folded, observed
from jaxformer.data.proteins.records import STATES, by_chain, chains_of, parts_of, records_of
from jaxformer.evaluation.classification import confusion_matrix, reliability
from jaxformer.evaluation.structure import StructureScores, score_structure
from jaxformer.monitoring import chain_picture, pictures
from jaxformer.monitoring.durable import atomic_write
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.objectives import Classes, Numbers, Objective
from jaxformer.tasks.tagging import TaggingTask
from jaxformer.training.studies.chain_predictor import ChainPredictor
from jaxformer.training.studies.labelled import LabelledStudy, Predicted
from jaxformer.training.studies.protein_baselines import protein_baselines
from jaxformer.training.studies.records import LabelledData, LabelledFacts, LabelPredictor, Split
from jaxformer.training.study import Curves

_LOGGER = logging.getLogger(__name__)

_CHUNK = 20_000
"""Residues that are predicted together."""

_SHOWN = 60
"""Residues of a chain in a sample."""


class ProteinStudy(LabelledStudy):
    """See `LabelledStudy`. The raw side of a split is its pieces, see `data.proteins.records`."""

    noun = "chains and windows"
    counted = "residues"
    curves = Curves("nats per residue", {"validation/q3": "validation Q3", "validation/q8": "validation Q8"}, 100.0)
    metrics = ("loss", "nll", "accuracy", "ss3/loss", "ss8/loss", "rsa/loss", "q3", "q3_chain", "sov", "q8",
               "rsa_mae")  # fmt: skip

    def check(self) -> None:
        """Also refuses sources that hold no chains."""
        super().check()
        if self.config.data.source == "tfds":
            raise ValueError("data.source=tfds has no chains: set --config.data.source=files, with a path, or bundled")

    def check_prepared(self, prepared: LabelledData) -> None:
        """Also refuses a metric of labels that these chains do not have."""
        super().check_prepared(prepared)
        parts = prepared.facts.values["parts"]
        alone = ("nll", "accuracy") if len(parts) == 1 else tuple(f"{part}/loss" for part in parts)
        measured = {"loss", "q3", "q3_chain", "sov", *alone}
        measured |= ({"q8"} if "ss8" in parts else set()) | ({"rsa_mae"} if "rsa" in parts else set())
        metric = self.config.training.best_metric
        if metric.removeprefix("validation/") not in measured:
            raise ValueError(
                f"training.best_metric={metric} is not measured on chains with labels for {', '.join(parts)}: "
                + nearest(metric, (f"validation/{name}" for name in measured))
            )

    def prepare(self, *, download: bool = False) -> LabelledData:
        """Cleaned chains, in memory."""
        config = self.config.data
        readers = read_splits(config)
        chains, report = self._cleaned(
            itertools.islice(readers.pop("train"), config.num_examples or None), deduplicate=config.deduplicate
        )
        if not chains:
            raise ValueError(f"no training chain is left after cleaning:\n{report.table()}")
        parts = parts_of(chains)
        train, _ = records_of(chains, parts, config.max_length)
        counts = {
            part: class_counts([train.labels[part]], len(states)).tolist()
            for part, states in STATES.items()
            if part in parts
        }
        self._check_counts(counts["ss3"])
        if self.config.task.class_weights == "balanced" and not all(counts.get("ss8", [1])):
            never = [state for state, count in zip(EIGHT_STATES, counts["ss8"], strict=True) if not count]
            _LOGGER.warning(
                "no scored residue of the training chains is in state %s of the eight: the other states are balanced, "
                "and residues in such a state count 1 in the loss of other splits",
                " or ".join(never),
            )
        facts = LabelledFacts({"parts": parts, "counts": counts})
        found = {name: self._cleaned(reader) for name, reader in readers.items()}
        for name, (own, other) in found.items():
            if not own:
                raise ValueError(f"no chain of the {name} split is left after cleaning:\n{other.table()}")
        splits = {name: self._split(own, facts) for name, (own, _) in found.items()}
        table = _report(chains, report, found, len(train))
        return LabelledData(facts, train, splits, table, extra=chains)

    def evaluation_splits(self, facts: LabelledFacts) -> dict[str, Split]:
        """The same chains again; no training chain is read."""
        readers = read_splits(self.config.data, train=False)
        found = {name: self._cleaned(reader)[0] for name, reader in readers.items()}
        return {name: self._split(chains, facts) for name, chains in found.items() if chains}

    def _cleaned(self, chains: Iterable[Chain], *, deduplicate: bool = False) -> tuple[list[Chain], ChainReport]:
        cleaner = ChainCleaner(deduplicate=deduplicate)
        return list(cleaner.clean(chains)), cleaner.report

    def _split(self, chains: Sequence[Chain], facts: LabelledFacts) -> Split:
        return Split(*records_of(chains, facts.values["parts"], self.config.data.max_length))

    def _check_counts(self, counts: Sequence[float]) -> None:
        missing = [state for state, count in zip(THREE_STATES, counts, strict=True) if not count]
        if len(missing) > 1:
            raise ValueError(
                f"no scored residue of the training chains is in state {' or '.join(missing)}: there is nothing to "
                "tell apart; give chains with more than one state"
            )
        if missing and self.config.task.class_weights == "balanced":
            raise ValueError(
                f"state {missing[0]} never occurs among the training chains, and cannot be balanced: set "
                "--config.task.class_weights=none"
            )

    def assumed_facts(self) -> LabelledFacts:
        """Three states."""
        return LabelledFacts({"parts": ["ss3"], "counts": {"ss3": [1, 1, 1]}})

    def make_task(self, facts: LabelledFacts, layout: Layout | None = None) -> TaggingTask:
        """Cross-entropy of states and, where it is known, the absolute error of accessibility."""
        smoothing = self.config.training.label_smoothing
        objectives: dict[str, Objective] = {}
        for part in facts.values["parts"]:
            if part == "rsa":
                objectives[part] = Numbers("absolute")
                continue
            weights = self.class_weights(facts.values["counts"][part])
            objectives[part] = Classes(len(STATES[part]), weights, smoothing)
        return TaggingTask(
            self.config, objectives, vocabulary_size=VOCABULARY_SIZE, part_weights=self.part_weights, layout=layout
        )

    def make_predictor(self, task: Any, facts: LabelledFacts, params: Any) -> ChainPredictor:
        """Predicts chains."""
        return ChainPredictor(task, params, facts, self.config)

    def measure(self, split: Split, predicted: Predicted) -> dict[str, float]:
        """Q3, and Q8 and the error of accessibility where they are known; see `StructureScores`."""
        found = _scores(split, "ss3", predicted["ss3"].argmax(axis=-1)).metrics()
        for name, values in predicted.items():
            labels = split.records.labels[name]
            if name == "ss3" or not labels.weights.any():
                continue
            if name == "rsa":
                errors = np.abs(values[:, 0] - labels.values)
                found["rsa_mae"] = float(np.average(errors, weights=labels.weights))
            else:
                found |= _scores(split, name, values.argmax(axis=-1)).short_metrics()
        return found

    def size(self, split: Split) -> str:
        """The scored residues, and the chains that they are of."""
        residues = int((split.records.labels["ss3"].weights > 0).sum())
        return f"{residues:,} residues of {len(chains_of(split.raw)):,} chains"

    def baselines(self, prepared: LabelledData, splits: Mapping[str, Split]) -> dict[str, dict[str, float]]:
        """See `protein_baselines`."""
        return protein_baselines(prepared.extra, prepared.facts.values["parts"], splits)

    def write_predictions(self, name: str, split: Split, predicted: Predicted, folder: Path) -> Path:
        """`SPLIT.txt`: of each chain its name and Q3, residues, observed and predicted states, confidence."""
        text = []
        for chain, shares in by_chain(split.raw, predicted["ss3"]):
            folded = Folded.of(shares)
            text.append(f">{chain.name} q3={folded.q3(chain):.3f}\n{chain.sequence}\n{observed(chain)}\n")
            text.append(f"{folded.structure}\n{folded.digits()}\n")
        file = folder / f"{name}.txt"
        atomic_write(file, "".join(text))
        return file

    def draw(self, predictor: LabelPredictor, splits: Mapping[str, Split], predicted: Mapping[str, Predicted],
             folder: Path) -> dict[str, Path]:  # fmt: skip
        """Of every split the calibration; of the last one the confusion of states, and the median chain."""
        if not splits:
            return {}
        last, title = list(splits)[-1], self.config.experiment
        split = splits[last]
        files: dict[str, Path] = {}
        for name, values in predicted[last].items():
            labels = split.records.labels[name]
            if name in STATES and labels.weights.any():
                confusion = confusion_matrix(labels.values, values.argmax(axis=-1), len(STATES[name]), labels.weights)
                files[f"confusion, {name}"] = folder / f"confusion-{name}.png"
                heading = f"{title} {last}: Q{len(STATES[name])} {np.trace(confusion) / confusion.sum():.4f}"
                pictures.draw_confusion(confusion, tuple(STATES[name]), files[f"confusion, {name}"], title=heading)
        files["calibration"] = folder / "calibration.png"
        known = {name: one.records.labels["ss3"] for name, one in splits.items()}
        curves = {
            name: reliability(predicted[name]["ss3"], labels.values, labels.weights) for name, labels in known.items()
        }
        pictures.draw_calibration(curves, files["calibration"], title=title)
        chain, folded = _middling(split, predicted[last]["ss3"])
        files["a chain"] = folder / "chain.png"
        chain_picture.draw_chain(
            chain.sequence, folded.structure, folded.confidence, files["a chain"], observed=chain.three,
            scored=chain.scored, title=f"{chain.name} of {last}, Q3 {folded.q3(chain):.3f}: the median chain",
        )  # fmt: skip
        return files

    def samples(self, split: Split, predicted: Predicted, count: int) -> str:
        """The beginnings of chains evenly spread over the split: residues, observed, predicted, confidence."""
        found = list(by_chain(split.raw, predicted["ss3"]))
        lines = []
        for place in np.arange(min(count, len(found))) * len(found) // max(1, min(count, len(found))):
            chain, folded = found[place][0], Folded.of(found[place][1])
            lines.append(f"  >{chain.name} Q3 {folded.q3(chain):.3f}")
            rows = (chain.sequence, observed(chain), folded.structure, folded.digits())
            lines += [f"  {row[:_SHOWN]}{'...' if len(row) > _SHOWN else ''}" for row in rows]
        return "\n".join(lines) + "\n"

    def predict(
        self, predictor: LabelPredictor, lines: Iterable[str], *, interactive: bool = False
    ) -> Iterator[str]:
        """FASTA in; out come four lines a chain: `>name`, residues, states, and their confidence in tenths.

        A person who types gets an answer for every line, which is a sequence of its own.

        Raises:
          ValueError: for a letter that is no amino acid, with its line; chains before it have been written.
        """
        assert isinstance(predictor, ChainPredictor)
        records = typed(lines) if interactive else read_fasta(lines)
        for chunk in checked_chunks(records, 1 if interactive else _CHUNK):
            sequences = [sequence for _, sequence in chunk]
            for (record, sequence), folded in zip(chunk, predictor.fold(sequences), strict=True):
                yield f">{record.title}\n{sequence}\n{folded.structure}\n{folded.digits()}\n"

    @property
    def prompt(self) -> str:
        """What a person who types is shown."""
        return "residues> "

    def predicting(self) -> str:
        """For the log."""
        return "predicting structure"

    def next_commands(self, command: str, flags: str) -> list[str]:
        """Predict a FASTA file; score other chains."""
        return [f"{command} --mode=predict {flags} < chains.fasta", f"{command} --mode=evaluate {flags}"]


def _scores(split: Split, part: str, predicted: np.ndarray) -> StructureScores:
    labels = split.records.labels[part]
    both = np.stack([labels.values, predicted, labels.weights > 0], axis=-1)
    rows = (values.T for _, values in by_chain(split.raw, both))
    return score_structure(((row[0], row[1], row[2] > 0) for row in rows), STATES[part])


def _middling(split: Split, shares: np.ndarray) -> tuple[Chain, Folded]:
    """The chain of median Q3 among those that fit a picture, or among all."""
    found = [(chain, Folded.of(own)) for chain, own in by_chain(split.raw, shares)]
    fitting = [one for one in found if 60 <= len(one[0]) <= 400] or found
    return sorted(fitting, key=lambda one: one[1].q3(one[0]))[len(fitting) // 2]


def _report(
    chains: Sequence[Chain], report: ChainReport, found: Mapping[str, tuple[list[Chain], ChainReport]], records: int
) -> str:
    """What cleaning found in the training split, and in short of the others; and which of these were trained on."""
    known = {chain.sequence for chain in chains}
    lines = [report.table(), f"training records: {records:,} chains, or windows of longer ones"]
    for name, (own, other) in found.items():
        shared = sum(chain.sequence in known for chain in own)
        lines.append(
            f"{name}: {other.kept:,} of {other.read:,} chains, {other.scored:,} scored residues; {shared:,} have a "
            "sequence that is trained on"
        )
    return "\n".join(lines)
