"""Scores of predicted secondary structure: Q3 or Q8, by class and by chain, segment overlap, the confusion matrix.

All are shares from 0 to 1 of residues that are scored. Not for pictures nor for models.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from jaxformer.evaluation.classification import accuracy, class_scores, confusion_matrix
from jaxformer.evaluation.segment_overlap import segment_overlap


@dataclasses.dataclass(frozen=True)
class StructureScores:
    """How well the structure of some chains was predicted.

    Attributes:
      states: a letter for each of the E classes.
      confusion: float64 [E, E], residues by observed state (row) and predicted one (column).
      chain_accuracies: float64 [number of chains], accuracy within each chain.
      segment_overlaps: float64 [number of chains], SOV'99 of each chain.
    """

    states: str
    confusion: np.ndarray
    chain_accuracies: np.ndarray
    segment_overlaps: np.ndarray

    @property
    def name(self) -> str:
        """Q3 or Q8, by the number of states."""
        return f"q{len(self.states)}"

    @property
    def accuracy(self) -> float:
        """The share of residues whose state is predicted: Q3 or Q8."""
        return accuracy(self.confusion)

    def by_class(self) -> dict[str, tuple[float, float, float, int]]:
        """(precision, recall, F1, observed residues) of each state that is observed; see `class_scores`."""
        scores = class_scores(self.confusion)
        return {
            state: (float(scores.precision[i]), float(scores.recall[i]), float(scores.f1[i]), int(scores.support[i]))
            for i, state in enumerate(self.states)
            if scores.support[i]
        }

    def metrics(self) -> dict[str, float]:
        """The numbers of a run's record, such as `q3`, `q3_chain`, `q3_chain_error`, `sov` and `f1_H`.

        `q3_chain` is the mean over chains, and `q3_chain_error` its standard error.
        """
        chains = self.chain_accuracies
        error = float(chains.std(ddof=1)) / math.sqrt(len(chains)) if len(chains) > 1 else float("nan")
        numbers = {
            self.name: self.accuracy,
            f"{self.name}_chain": float(chains.mean()),
            f"{self.name}_chain_error": error,
            "sov": float(self.segment_overlaps.mean()),
        }
        for state, (precision, recall, f1, _) in self.by_class().items():
            numbers |= {f"precision_{state}": precision, f"recall_{state}": recall, f"f1_{state}": f1}
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    def short_metrics(self) -> dict[str, float]:
        """Accuracy, and the F1 of each state, named after it: `q8`, `q8_f1_G`; beside `metrics` of three states."""
        of_states = {f"{self.name}_f1_{state}": f1 for state, (_, _, f1, _) in self.by_class().items()}
        return {self.name: self.accuracy} | {name: f1 for name, f1 in of_states.items() if math.isfinite(f1)}

    def table(self) -> str:
        """The scores as plain text."""
        numbers = self.metrics()
        error = numbers.get(f"{self.name}_chain_error")
        lines = [
            f"{self.name.upper()} by residue    {self.accuracy:.4f}",
            f"{self.name.upper()} by chain      {numbers[f'{self.name}_chain']:.4f}"
            + (f" +- {error:.4f} (standard error of {len(self.chain_accuracies)} chains)" if error is not None else ""),
            f"SOV'99 by chain  {numbers['sov']:.4f}",
            "state  precision  recall      F1   residues",
        ]
        for state, (precision, recall, f1, observed) in self.by_class().items():
            lines.append(f"{state:<5}  {precision:9.4f}  {recall:6.4f}  {f1:6.4f}  {observed:9,}")
        return "\n".join(lines)


def score_structure(chains: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], states: str) -> StructureScores:
    """Scores of the triples (observed int [S], predicted int [S], scored bool [S]), one of each chain.

    Raises:
      ValueError: if there is no scored residue, or the parts of a chain differ in length.
    """
    confusion = np.zeros((len(states), len(states)))
    accuracies, overlaps = [], []
    for number, (observed, predicted, scored) in enumerate(chains):
        if not len(observed) == len(predicted) == len(scored):
            raise ValueError(
                f"chain {number} has {len(observed)} observed and {len(predicted)} predicted states and a mask of "
                f"{len(scored)}: give one of each for every residue"
            )
        if not scored.any():
            continue
        confusion += confusion_matrix(observed, predicted, len(states), scored)
        accuracies.append(float((observed == predicted)[scored].mean()))
        overlaps.append(segment_overlap(observed, predicted, len(states), scored))
    if not accuracies:
        raise ValueError("no residue is scored: give at least one chain with an observed structure")
    return StructureScores(states, confusion, np.array(accuracies), np.array(overlaps))
