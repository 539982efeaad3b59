"""The final evaluation of a translator: translate its splits, score them, keep the translations, say it to a person.

Not for validation on the way (`validation`), nor for how a score is computed (`evaluation`).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from jaxformer.config import Config, DataConfig
from jaxformer.data.cleaning import Cleaner
from jaxformer.data.sources import open_splits
from jaxformer.data.text import read_lines
from jaxformer.monitoring.durable import atomic_write
from jaxformer.paths import expanded
from jaxformer.tasks.translation import Scores, score_translations
from jaxformer.tasks.translator import Translator
from jaxformer.types import Pair

SPLITS = ("validation", "test")

_REFERENCES = "give the tokenised references of the test split, or none with --config.data.references="
_LEAST_AGREEMENT = 0.2
"""Share of lines that our tokeniser must find as the references have them; other rules differ in some, not in most."""


@dataclasses.dataclass(frozen=True)
class ScoredSplit:
    """One split, translated and scored.

    Attributes:
      split: `validation` or `test`.
      pairs: the text.
      hypotheses: one a pair.
      scores: of them.
      file: where the translations are.
    """

    split: str
    pairs: Sequence[Pair]
    hypotheses: Sequence[str]
    scores: Scores
    file: Path


def evaluation_splits(config: DataConfig) -> dict[str, list[Pair]]:
    """The raw validation and test pairs that exist, normalised as in training."""
    cleaner = Cleaner(config)
    sources = open_splits(config, train=False)
    return {
        split: [cleaner.evaluation_pair(pair) for pair in sources[split].read(0, len(sources[split]))]
        for split in SPLITS
        if split in sources
    }


def reference_lines(config: DataConfig) -> list[str] | None:
    """The lines of `data.references`, or None when it is not given.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: if it is no UTF-8 text.
    """
    if not config.references:
        return None
    path = expanded(config.references)
    if not path.is_file():
        raise FileNotFoundError(f"data.references={config.references} is not a file: {_REFERENCES}")
    return read_lines(path)


def read_references(config: DataConfig, test: Sequence[Pair] | None) -> list[str] | None:
    """The lines of `data.references`, which must be the tokenised form of the targets of `test`.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: if there is no test split, or the file belongs to another one.
    """
    from jaxformer.evaluation import tokenize_like

    lines = reference_lines(config)
    if lines is None:
        return None
    if test is None or len(lines) != len(test):
        have = "there is no test split" if test is None else f"the test split has {len(test)}"
        raise ValueError(f"data.references={config.references} has {len(lines)} lines, but {have}: {_REFERENCES}")
    tokenized, _ = tokenize_like([pair.target for pair in test], lines, target_language(config))
    agreeing = sum(ours == line for ours, line in zip(tokenized, lines, strict=True))
    if agreeing < _LEAST_AGREEMENT * len(lines):
        raise ValueError(
            f"data.references={config.references} is not the tokenised form of the test split: only {agreeing} of its "
            f"{len(lines)} lines agree with it: {_REFERENCES}"
        )
    return lines


def target_language(config: DataConfig) -> str:
    """The language that is translated into."""
    return config.source_language if config.reverse else config.target_language


def score_splits(
    config: Config, folder: Path, translator: Translator, splits: Mapping[str, Sequence[Pair]]
) -> list[ScoredSplit]:
    """Translates every split with the configured search, scores it, and writes `SPLIT.LANGUAGE` into `folder`.

    Raises:
      ValueError: for references that do not fit.
      OSError: if the translations cannot be written.
    """
    references = read_references(config.data, splits.get("test"))
    language = target_language(config.data)
    found = []
    for split, pairs in splits.items():
        hypotheses = [translation.text for translation in translator.translate([pair.source for pair in pairs])]
        scores = score_translations(
            hypotheses, pairs, tokenized_references=references if split == "test" else None, language=language
        )
        file = folder / f"{split}.{language}"
        if jax.process_index() == 0:
            os.makedirs(folder, exist_ok=True)
            atomic_write(file, "".join(f"{line}\n" for line in hypotheses))
        found.append(ScoredSplit(split, pairs, hypotheses, scores, file))
    return found


def metrics_of(scored: Sequence[ScoredSplit]) -> dict[str, float]:
    """All scores under names such as `test/bleu`."""
    return {f"{one.split}/{name}": value for one in scored for name, value in one.scores.values.items()}


def signatures_of(scored: Sequence[ScoredSplit]) -> dict[str, str]:
    """The signature of every score, under the names of `metrics_of`."""
    return {f"{one.split}/{name}": text for one in scored for name, text in one.scores.signatures.items()}


def score_table(scored: Sequence[ScoredSplit]) -> str:
    """The scores for a person, each with its signature."""
    rows = [
        (f"{one.split}/{name}", f"{value:.2f}", f"{len(one.pairs)} sentences", one.scores.signatures[name])
        for one in scored
        for name, value in one.scores.values.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)] if rows else []
    return "\n".join(
        f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]}" for row in rows
    )


def sample_table(scored: Sequence[ScoredSplit], count: int) -> str:
    """`count` translations of the last split, evenly spread over it, beside their sources and references."""
    usable = [index for index, pair in enumerate(scored[-1].pairs) if pair.source] if scored else []
    count = min(count, len(usable))
    chosen = [usable[place * len(usable) // count] for place in range(count)]
    rows = "\n".join(
        f"  source       {scored[-1].pairs[index].source}\n"
        f"  reference    {scored[-1].pairs[index].target}\n"
        f"  translation  {scored[-1].hypotheses[index]}\n"
        for index in chosen
    )
    return f"sample translations ({scored[-1].split})\n\n{rows}" if rows else ""
