"""The translation task: the model of a configuration, its loss, and the scores of its translations.

Not for the search (`translator`), for the step or for parameters over time (`training`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from jaxformer.config import Config, DecodingConfig
from jaxformer.models import EncoderDecoder
from jaxformer.ops import fold_seed, linear_cross_entropy, r_drop_cross_entropy
from jaxformer.ops.cross_entropy import CrossEntropy
from jaxformer.ops.dropout import row_seeds
from jaxformer.ops.linear_cross_entropy import RDrop
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.sharding import split_axes
from jaxformer.tasks.source_lines import TextTokenizer
from jaxformer.tasks.task import Metrics, ModelTask, abstract_sequences
from jaxformer.tasks.translator import Translator
from jaxformer.types import Batch, Mean, Pair

_SECOND_PASS = 1 << 16
"""What seeds of R-Drop's second pass are folded with: more than any place in a network has for its number."""


class Vocabularies(TextTokenizer, Protocol):
    """What is needed of `data.tokenizer.Tokenizer`."""

    @property
    def source_vocabulary_size(self) -> int:
        """Pieces of the source vocabulary."""

    @property
    def target_vocabulary_size(self) -> int:
        """Pieces of the target vocabulary."""


class Scores(NamedTuple):
    """The scores of some translations.

    Attributes:
      values: `bleu`, `chrf`, `exact_match` and, with tokenised references, `tokenized_bleu`; in per cent.
      signatures: of each, to be quoted beside it.
    """

    values: dict[str, float]
    signatures: dict[str, str]


class TranslationTask(ModelTask[EncoderDecoder, Batch]):
    """Translation as `config` describes it, with the vocabulary of `tokenizer`; see `ModelTask`.

    Args:
      config: of the run.
      tokenizer: of the run.
      layout: over which devices a loss is evaluated; None for one.
    """

    def __init__(self, config: Config, tokenizer: Vocabularies, layout: Layout | None = None) -> None:
        self.tokenizer = tokenizer
        super().__init__(config, layout)
        self._cast_params = jax.jit(self._cast)

    @property
    def max_length(self) -> int:
        """The longest side, in tokens, that the trained model has seen and that it is given."""
        return min(self.config.model.max_length, self.config.data.max_length)

    def init_model(self, rngs: nnx.Rngs) -> EncoderDecoder:
        """A new network with random parameters in float32."""
        return EncoderDecoder(
            self.config.model,
            source_vocabulary_size=self.tokenizer.source_vocabulary_size,
            target_vocabulary_size=self.tokenizer.target_vocabulary_size,
            remat=self.config.memory.remat,
            rngs=rngs,
        )

    def abstract_batch(self, shape: tuple[int, int, int]) -> Batch:
        """The shapes of a batch of rows, source slots and target slots."""
        rows, source, target = shape
        return Batch(abstract_sequences(rows, source), abstract_sequences(rows, target))

    def loss(
        self, model: EncoderDecoder, batch: Batch, seed: jax.Array | None, *, r_drop: float = 0.0
    ) -> tuple[Mean, Metrics]:
        """Label-smoothed cross-entropy over the target tokens of `batch`, undivided.

        Args:
          model: the network.
          batch: source and labels.
          seed: uint32 for dropout, one or one for each row; None for none.
          r_drop: alpha of R-Drop, which passes every row twice; 0 for one pass. Needs a seed.

        Returns:
          The loss, and `loss`, `nll` (without smoothing), `accuracy` (of the next token) and, with R-Drop, `divergence`
          of its two passes, all weighted by tokens.
        """
        training = self.config.training
        labels, weights = jnp.asarray(batch.target.tokens), jnp.asarray(batch.target.weights)
        sums: CrossEntropy | RDrop
        if r_drop:
            assert seed is not None
            rows, seeds = _twice(batch, seed)
            first, second = jnp.split(model.hidden(rows, seed=seeds), 2)
            sums = r_drop_cross_entropy(
                first, second, model.output_kernel, labels, weights, alpha=r_drop,
                label_smoothing=training.label_smoothing, vocabulary_axes=split_axes("vocabulary"),
            )  # fmt: skip
        else:
            sums = linear_cross_entropy(
                model.hidden(batch, seed=seed), model.output_kernel, labels, weights,
                label_smoothing=training.label_smoothing, vocabulary_axes=split_axes("vocabulary"),
            )  # fmt: skip
        weight = weights.sum()
        means = {name: Mean(value, weight) for name, value in sums._asdict().items()}
        means["accuracy"] = means.pop("correct")
        return means["loss"], means

    def loss_function(
        self, params: nnx.State, batch: Batch, seed: jax.Array, *, r_drop: float | None = None
    ) -> tuple[Mean, Metrics]:
        """`loss` as a function of the parameters, for `training.step`; with the configuration's `r_drop` by default."""
        alpha = self.config.training.r_drop if r_drop is None else r_drop
        return self.loss(self.model(params), batch, seed, r_drop=alpha)

    def translator(self, params: nnx.State, decoding: DecodingConfig) -> Translator:
        """A translator with `params` that searches as `decoding` says."""
        return Translator(
            self.model(params),
            self.tokenizer,
            decoding,
            self.max_length,
            normalization=self.config.data.normalization,
        )

    def update_translator(self, translator: Translator, params: nnx.State) -> None:
        """Makes `translator` use `params` from now on; compiles nothing new."""
        translator.update(self._cast_params(params))


def _twice(batch: Batch, seed: jax.Array) -> tuple[Batch, jax.Array]:
    """The rows of `batch` and, after them, the same rows again; and a seed for each, the second pass's its own."""
    seeds = row_seeds(seed, batch.target.tokens.shape[0])
    again = fold_seed(seeds, _SECOND_PASS)
    assert again is not None
    return jax.tree.map(lambda x: jnp.concatenate([x, x]), batch), jnp.concatenate([seeds, again])


def score_translations(
    hypotheses: Sequence[str], pairs: Sequence[Pair], *, tokenized_references: Sequence[str] | None = None,
    language: str = "",
) -> Scores:
    """Scores `hypotheses` against the targets of `pairs`, line by line.

    Args:
      hypotheses: one translation for each pair.
      pairs: the references, as plain text.
      tokenized_references: the same references tokenised, for `tokenized_bleu`; None to leave that out.
      language: of the target (ISO 639-1), for tokenisers.

    Raises:
      ValueError: if there are not equally many.
    """
    from jaxformer import evaluation

    references = [pair.target for pair in pairs]
    found = [
        evaluation.corpus_bleu(hypotheses, references, language=language),
        evaluation.corpus_chrf(hypotheses, references),
        evaluation.exact_match(hypotheses, references),
    ]
    if tokenized_references is not None:
        found.append(evaluation.tokenized_bleu(hypotheses, tokenized_references, language))
    return Scores({score.name: score.value for score in found}, {score.name: score.signature for score in found})


def prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    """`values` under names such as `validation/bleu`."""
    return {f"{prefix}/{name}": value for name, value in values.items()}
