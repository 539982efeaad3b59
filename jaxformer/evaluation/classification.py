"""How good predicted classes are: accuracy, by class, correlation, calibration. For tagging as for whole sequences.

Written out in numpy and held against scikit-learn by the tests. Everything starts from a confusion matrix, or from
probabilities; weights leave out what has no label. Not for where predictions come from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


def confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """float64 [E, E]: how much weight has each true class (row) where each class was predicted (column).

    Args:
      labels: int [n], true classes; anything where the weight is 0.
      predicted: int [n].
      num_classes: E.
      weights: float [n]; None for 1 each.

    Raises:
      ValueError: for a class that is none of the E.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    weights = np.ones(labels.shape) if weights is None else np.asarray(weights, np.float64)
    known = weights > 0
    for name, classes in (("labels", labels[known]), ("predicted", predicted[known])):
        if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
            raise ValueError(
                f"{name} must be classes from 0 to {num_classes - 1}, got {classes.min()} to {classes.max()}"
            )
    cells = labels[known].astype(np.int64) * num_classes + predicted[known]
    return np.bincount(cells, weights[known], minlength=num_classes**2).reshape(num_classes, num_classes)


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """Scores of each class, float64 [E]; 0 where a class was never predicted, or never occurs.

    Attributes:
      precision: of what was predicted to be of the class, the share that is.
      recall: of what is of the class, the share that was found.
      f1: their harmonic mean.
      support: weight of the class among the labels.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


def class_scores(confusion: np.ndarray) -> ClassScores:
    """Precision, recall and F1 of each class, from a `confusion_matrix`."""
    right, support, found = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

    return ClassScores(share(right, found), share(right, support), share(2 * right, support + found), support)


def accuracy(confusion: np.ndarray) -> float:
    """The share that is right; nan of nothing."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def matthews_correlation(confusion: np.ndarray) -> float:
    """Matthews' correlation coefficient for any number of classes (Gorodkin 2004): 1 is all right, 0 is chance.

    0 where labels or predictions are all of one class.
    """
    right, total = np.trace(confusion), confusion.sum()
    true, found = confusion.sum(axis=1), confusion.sum(axis=0)
    covariance = right * total - true @ found
    spread = (total**2 - true @ true) * (total**2 - found @ found)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class Reliability:
    """How often predictions of like confidence are right; float64 [bins].

    Attributes:
      edges: [bins + 1], of the confidence.
      confidence: mean in each bin; 0 in an empty one.
      accuracy: share that is right in each; 0 in an empty one.
      weight: in each.
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    weight: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017, equation 3): confidence against accuracy, mean over bins."""
        total = self.weight.sum()
        return float((self.weight * np.abs(self.accuracy - self.confidence)).sum() / total) if total else float("nan")


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, *, bins: int = 15
) -> Reliability:
    """Predictions in bins of like confidence, the probability of the class that is predicted.

    Args:
      probabilities: float [n, E]; anything where the weight is 0.
      labels: int [n].
      weights: float [n]; None for 1 each.
      bins: of equal width, from 0 to 1; each holds its upper edge.
    """
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    known = weights > 0
    weights, probabilities, labels = weights[known], np.asarray(probabilities)[known], np.asarray(labels)[known]
    confidence = probabilities.max(axis=-1).astype(np.float64)
    right = probabilities.argmax(axis=-1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(place, values, minlength=bins)

    weight = total(weights)
    filled = np.maximum(weight, 1e-300)
    return Reliability(edges, total(weights * confidence) / filled, total(weights * right) / filled, weight)


def brier_score(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The mean over predictions of the squared distance of the probabilities from the truth, summed over classes."""
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    known = weights > 0
    truth = np.eye(probabilities.shape[-1])[labels[known]]
    distance = ((np.asarray(probabilities, np.float64)[known] - truth) ** 2).sum(axis=-1)
    return float((weights[known] * distance).sum() / weights.sum())


def negative_log_likelihood(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """The mean over predictions of minus the logarithm of what the truth was given, in nats."""
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    known = weights > 0
    given = np.asarray(probabilities)[known, labels[known]]
    logarithms = np.log(np.maximum(given, np.finfo(np.float32).tiny), dtype=np.float64)
    return float(-(weights[known] * logarithms).sum() / weights.sum())


def classification_scores(
    probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str], weights: np.ndarray | None = None
) -> dict[str, float]:
    """`accuracy`, `macro_f1`, `mcc`, `calibration_error` (15 bins), `brier`, and `f1/NAME` of each class.

    Args:
      probabilities: float [n, E].
      labels: int [n].
      names: of the E classes.
      weights: float [n], 0 where there is no label; None for 1 each.
    """
    confusion = confusion_matrix(labels, np.asarray(probabilities).argmax(axis=-1), len(names), weights)
    f1 = class_scores(confusion).f1
    return {
        "accuracy": accuracy(confusion),
        "macro_f1": float(f1.mean()),
        "mcc": matthews_correlation(confusion),
        "calibration_error": reliability(probabilities, labels, weights).error,
        "brier": brier_score(probabilities, labels, weights),
        **{f"f1/{name}": float(value) for name, value in zip(names, f1, strict=True)},
    }


def score_names(names: Sequence[str]) -> tuple[str, ...]:
    """What `classification_scores` gives for classes with these names."""
    return ("accuracy", "macro_f1", "mcc", "calibration_error", "brier", *(f"f1/{name}" for name in names))
