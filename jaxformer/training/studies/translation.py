"""Translation, as the trainer asks for it: pairs, a tokenizer, an encoder-decoder, BLEU.

Not for how scores are written and told (`training.scoring`), nor for validation on the way (`training.validation`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.config import Config
from jaxformer.data.bucketing import Shape
from jaxformer.data.pipeline import BatchPipeline
from jaxformer.data.prepare import PreparedData, prepare
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.monitoring.console import ended_in_order, log_to_stderr
from jaxformer.monitoring.durable import atomic_write
from jaxformer.monitoring.flops import describe_flops, training_flops
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.translation import TranslationTask
from jaxformer.tasks.translator import Translation, Translator
from jaxformer.tasks.translator_pool import TranslatorPool
from jaxformer.training import scoring
from jaxformer.training.memory import decoding_advice
from jaxformer.training.study import Curves, Scored
from jaxformer.training.validation import Evaluation
from jaxformer.training.workdir import Workdir
from jaxformer.types import Pair


class _Sizes:
    """The vocabulary that a configuration asks for, in place of a tokenizer that does not exist yet."""

    def __init__(self, config: Config) -> None:
        self.source_vocabulary_size = self.target_vocabulary_size = config.data.vocabulary_size


@dataclasses.dataclass(frozen=True)
class TranslationFacts:
    """The tokenizer, which is all that a translator needs to know."""

    tokenizer: Tokenizer

    @property
    def digest(self) -> str:
        """The tokenizer's."""
        return self.tokenizer.digest

    def save(self, workdir: Workdir) -> None:
        """Writes `tokenizer.model`; other processes may be about to read it."""
        atomic_write(workdir.tokenizer, self.tokenizer.to_bytes())


class PreparedTranslation:
    """Prepared pairs as the trainer asks for them.

    Args:
      data: cleaned, tokenised and cached.
    """

    def __init__(self, data: PreparedData) -> None:
        self.data = data
        self.facts = TranslationFacts(data.tokenizer)
        self.report = data.report
        self.cache_path: Path | None = data.cache_path
        self.size = len(data.train)
        splits = {"validation": data.validation, "test": data.test}
        self.splits: dict[str, list[Pair]] = {split: pairs for split, pairs in splits.items() if pairs}

    @property
    def checksum(self) -> list[int]:
        """Pairs, and checksums of their lengths (with the seed, these decide on the batches) and of their tokens."""
        lengths = 0
        for data in self.data.variants:
            for side in (data.source_lengths, data.target_lengths):
                lengths = zlib.crc32(np.ascontiguousarray(side).data, lengths)
        tokens = [data.checksum() for data in self.data.variants]
        return [self.size, lengths, zlib.crc32(np.array(tokens, np.uint32).data)]


class TranslationStudy:
    """See `training.study.Study`."""

    noun = "pairs"
    counted = "target_tokens"
    curves = Curves(
        "nats per target token",
        {
            "validation/bleu": "validation BLEU",
            "validation/exact_match": "validation exact match",
            "validation/chrf": "validation chrF",
        },
    )

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self) -> None:
        """Refuses a target language that cannot be scored, and references that are not there."""
        from jaxformer.evaluation import check_language  # slow to import

        check_language(scoring.target_language(self.config.data))
        scoring.reference_lines(self.config.data)

    def prepare(self, *, download: bool = False) -> PreparedTranslation:
        """Cleaned, tokenised and cached pairs."""
        if download and self.config.data.source == "tfds":
            from jaxformer.data.tfds import download_and_prepare

            download_and_prepare(self.config.data)
        return PreparedTranslation(prepare(self.config.data_with_vocabulary))

    def check_prepared(self, prepared: PreparedTranslation) -> None:
        """Refuses references that do not fit the test split."""
        scoring.read_references(self.config.data, prepared.splits.get("test"))

    def has_facts(self, workdir: Workdir) -> bool:
        """Whether there is a `tokenizer.model`."""
        return workdir.tokenizer.exists()

    def load_facts(self, workdir: Workdir) -> TranslationFacts:
        """The tokenizer."""
        workdir.check_trained(workdir.tokenizer)
        return TranslationFacts(Tokenizer.load(workdir.tokenizer))

    def assumed_facts(self) -> TranslationFacts:
        """A vocabulary of the size that is asked for."""
        return TranslationFacts(_Sizes(self.config))  # type: ignore[arg-type]

    def slots(self, prepared: PreparedTranslation) -> int:
        """Tokens of the longer side."""
        train = prepared.data.train
        return max(int(lengths.sum()) for lengths in (train.source_lengths, train.target_lengths))

    def make_task(self, facts: TranslationFacts, layout: Layout | None = None) -> TranslationTask:
        """The encoder-decoder and its loss."""
        return TranslationTask(self.config, facts.tokenizer, layout)

    def make_pipeline(
        self,
        prepared: PreparedTranslation,
        *,
        shard_index: int = 0,
        shard_count: int = 1,
        divisor: int = 1,
        length_divisor: int = 1,
        shapes: Sequence[Shape] | None = None,
    ) -> BatchPipeline:
        """The training batches."""
        return BatchPipeline(
            prepared.data.variants,
            self.config.data,
            seed=self.config.training.seed,
            shard_index=shard_index,
            shard_count=shard_count,
            divisor=divisor,
            length_divisor=length_divisor,
            shapes=shapes,
        )

    def flops(self, task: TranslationTask, shape: Shape) -> float:
        """Of the products of a training step."""
        return training_flops(self.config.model, task.tokenizer.target_vocabulary_size, *shape)

    def describe_flops(self, task: TranslationTask, shape: Shape) -> str:
        """The same with its parts."""
        return describe_flops(self.config.model, task.tokenizer.target_vocabulary_size, *shape)

    def validation(self, prepared: PreparedTranslation, task: TranslationTask, layout: Layout) -> Evaluation | None:
        """The loss, and scores of greedy translations."""
        pairs = prepared.splits.get("validation")
        return Evaluation(self.config, task, prepared.data.tokenizer, layout, pairs) if pairs else None

    def make_predictor(self, task: TranslationTask, facts: TranslationFacts, params: Any) -> Translator:
        """A translator that searches as the configuration says."""
        return task.translator(params, self.config.decoding)

    def evaluation_splits(self, facts: TranslationFacts) -> dict[str, list[Pair]]:
        """The raw pairs, normalised as in training."""
        return scoring.evaluation_splits(self.config.data)

    def score(
        self,
        predictor: Translator,
        splits: Mapping[str, list[Pair]],
        *,
        predictions: Path,
        report: Path | None = None,
        prepared: Any = None,
    ) -> Scored:
        """Translates and scores every split; there are neither pictures nor baselines."""
        scored = scoring.score_splits(self.config, predictions, predictor, splits)
        return Scored(
            scoring.metrics_of(scored),
            scoring.score_table(scored),
            scoring.sample_table(scored, self.config.monitoring.samples),
            {f"translations of {one.split}": one.file for one in scored},
            scoring.signatures_of(scored),
        )

    def predict(self, predictor: Translator, lines: Iterable[str], *, interactive: bool = False) -> Iterator[str]:
        """A translation for each line or, with `decoding.n_best` above 1, several, in the form of Moses."""
        with contextlib.ExitStack() as stack:
            if interactive:
                stream = predictor.translate_stream(lines, chunk=1)
            elif (processes := self.config.decoding.processes) > 1:
                begin = functools.partial(log_to_stderr, quiet=True)
                stack.enter_context(ended_in_order())
                pool = stack.enter_context(TranslatorPool(predictor, processes, begin=begin))
                stream = pool.translate_stream(lines)
            else:
                stream = predictor.translate_stream(lines)
            for number, translation in enumerate(stream):
                yield _written(translation, number, n_best=self.config.decoding.n_best > 1)

    @property
    def prompt(self) -> str:
        """The language that is translated."""
        return f"{self._language}> "

    @property
    def _language(self) -> str:
        data = self.config.data
        return data.target_language if data.reverse else data.source_language

    def predicting(self) -> str:
        """For the log."""
        return "translating"

    def searching(self) -> str:
        """The method of decoding."""
        return f", {self.config.decoding.method} search"

    def memory_advice(self) -> str:
        """Smaller batches, or a narrower beam."""
        return decoding_advice(self.config.decoding)

    def next_commands(self, command: str, flags: str) -> list[str]:
        """Translate a file; score with a wider beam."""
        return [
            f"{command} --mode=predict {flags} < text.{self._language}",
            f"{command} --mode=evaluate {flags} --config.decoding.beam_size=8",
        ]


def _written(translation: Translation, number: int, *, n_best: bool) -> str:
    if not n_best:
        return translation.text + "\n"
    candidates = [(one.text, one.score) for one in translation.n_best] or [("", 0.0)]
    return "".join(f"{number} ||| {text} ||| {score:.6g}\n" for text, score in candidates)
