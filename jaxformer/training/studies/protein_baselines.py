"""What a network has to beat where protein structure is predicted: the commonest state, and counts over a window.

Not for the network's own scores (`protein`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxformer.data.proteins.alphabet import VOCABULARY_SIZE, classes, encode
from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.folded import scored
from jaxformer.data.proteins.records import STATES, chains_of
from jaxformer.evaluation.structure import StructureScores, score_structure
from jaxformer.evaluation.window_bayes import WindowBayes
from jaxformer.training.studies.records import Split

ALL_COIL, BAYES = "all coil", "window naive Bayes"


def protein_baselines(
    train: Sequence[Chain], parts: Sequence[str], splits: Mapping[str, Split]
) -> dict[str, dict[str, float]]:
    """All coil (and the median accessibility of training), and naive Bayes over windows of 17 residues.

    Args:
      train: the training chains.
      parts: what they have labels for; see `parts_of`.
      splits: to be scored.

    Returns:
      Rival -> `test/q3` -> value.
    """
    found: dict[str, dict[str, float]] = {ALL_COIL: {}, BAYES: {}}
    for part in parts:
        if part == "rsa":
            found[ALL_COIL] |= _accessibility_errors(train, splits)
            continue
        for rival, predict in _rivals(train, part).items():
            for name, split in splits.items():
                if split.records.labels[part].weights.any():
                    scores = _scores(split, part, predict)
                    metrics = scores.metrics() if part == "ss3" else scores.short_metrics()
                    found[rival] |= {f"{name}/{metric}": value for metric, value in metrics.items()}
    return found


def _rivals(train: Sequence[Chain], part: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    states = STATES[part]
    coil = states.index("C")
    bayes = WindowBayes(len(states), VOCABULARY_SIZE).fit(
        (encode(one.sequence), classes(_letters(one, part), states), scored(one))
        for one in train
        if _letters(one, part)
    )
    return {ALL_COIL: lambda ids: np.full(len(ids), coil), BAYES: bayes.predict}


def _letters(chain: Chain, part: str) -> str:
    return chain.three if part == "ss3" else chain.eight


def _scores(split: Split, part: str, predict: Callable[[np.ndarray], np.ndarray]) -> StructureScores:
    chains = (chain for chain in chains_of(split.raw) if _letters(chain, part))
    rows = ((classes(_letters(one, part), STATES[part]), predict(encode(one.sequence)), scored(one)) for one in chains)
    return score_structure(rows, STATES[part])


def _accessibility_errors(train: Sequence[Chain], splits: Mapping[str, Split]) -> dict[str, float]:
    areas = [chain.accessibility[scored(chain)] for chain in train if chain.accessibility is not None]
    known = np.concatenate(areas)
    known = known[np.isfinite(known)]
    found: dict[str, float] = {}
    if not len(known):
        return found
    median = float(np.median(known))
    for name, split in splits.items():
        labels = split.records.labels["rsa"]
        if labels.weights.any():
            errors = np.abs(labels.values - median)
            found[f"{name}/rsa_mae"] = float(np.average(errors, weights=labels.weights))
    return found
