"""What validation of a translator measures on the way: the loss, and how its sentences are translated greedily.

Not for when that happens (`hooks.Validation`) nor for the scores at the end (`scoring`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from jaxformer.config import Config, DecodingConfig
from jaxformer.data.pipeline import evaluation_batches
from jaxformer.data.store import TokenizedDataset
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.mesh import first_copy, host_share, place_batch
from jaxformer.tasks.translation import TranslationTask, prefixed, score_translations
from jaxformer.training.memory import decoding_advice, explained_out_of_memory
from jaxformer.types import Pair

_LOGGER = logging.getLogger(__name__)


def greedily(decoding: DecodingConfig) -> DecodingConfig:
    """How validation translates on the way: the configured search takes a few times longer, and scores the end."""
    return dataclasses.replace(decoding, method="greedy", n_best=1)


class Evaluation:
    """Parameters -> `validation/loss`, `validation/bleu` and others.

    Args:
      config: of the run.
      task: whose loss and translator are used; its tokenizer is `tokenizer`.
      tokenizer: of the run.
      layout: over which the loss is computed; translating takes one device.
      pairs: the validation split; `training.eval_examples` of them are translated.
    """

    def __init__(
        self, config: Config, task: TranslationTask, tokenizer: Any, layout: Layout, pairs: list[Pair]
    ) -> None:
        self._config, self._task, self._layout = config, task, layout
        self._batches = self._loss_batches(tokenizer, pairs)
        self._data = config.data
        if self._batches is not None:  # a row on every device must fit, however long it is
            longest = int(max(self._batches.source_lengths.max(), self._batches.target_lengths.max()))
            slots = max(config.data.batch_tokens, -(-longest // layout.parts("length")) * layout.mesh.size)
            self._data = dataclasses.replace(config.data, batch_tokens=slots, batch_rows=0)
        self._translated = pairs[: config.training.eval_examples or None]
        self._translator: Any = None
        self._language = config.data.source_language if config.data.reverse else config.data.target_language

    def __call__(self, params: Any) -> Mapping[str, float]:
        """Evaluates `params`."""
        values: Mapping[str, float] = {}
        if self._batches is not None:
            index, count = host_share(self._layout)
            divided = evaluation_batches(
                self._batches,
                self._data,
                shard_index=index,
                shard_count=count,
                divisor=self._layout.parts("rows"),
                length_divisor=self._layout.parts("length"),
            )
            values = self._task.evaluate_loss(params, divided, lambda batch: place_batch(batch, self._layout))
        alone = first_copy(params, self._layout)
        if self._translator is None:
            self._translator = self._task.translator(alone, greedily(self._config.decoding))
        self._task.update_translator(self._translator, alone)
        with explained_out_of_memory(lambda: decoding_advice(self._config.decoding)):
            found = self._translator.translate([pair.source for pair in self._translated])
        hypotheses = [translation.text for translation in found]
        scores = score_translations(hypotheses, self._translated, language=self._language)
        return prefixed("validation", {**values, **scores.values})

    def _loss_batches(self, tokenizer: Any, pairs: list[Pair]) -> TokenizedDataset | None:
        sources = tokenizer.encode_source([pair.source for pair in pairs])
        targets = tokenizer.encode_target([pair.target for pair in pairs])
        longest = self._task.max_length
        fits = [(s, t) for s, t in zip(sources, targets, strict=True) if max(len(s), len(t)) <= longest]
        if len(fits) < len(pairs):
            _LOGGER.info(
                "%d validation pairs are longer than %d tokens: left out of the loss, but translated and scored",
                len(pairs) - len(fits), longest,
            )  # fmt: skip
        return TokenizedDataset.from_lists([s for s, _ in fits], [t for _, t in fits]) if fits else None
