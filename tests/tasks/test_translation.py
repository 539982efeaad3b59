"""The translation task: its loss against plain logits, padding, precision, and the scores of translations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxformer.config import Config, replace
from jaxformer.tasks.translation import TranslationTask, score_translations
from jaxformer.types import Batch, Pair, Sequences

SIZES = {"d_model": 16, "d_ff": 32, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "max_length": 12}
CONFIG = replace(
    Config(), {"model": SIZES | {"dropout": 0.2}, "data": {"max_length": 12}, "training": {"label_smoothing": 0.2}}
)
VOCABULARY = 11


class Vocabulary:
    """Only the sizes of a tokenizer."""

    source_vocabulary_size = target_vocabulary_size = VOCABULARY


def _side(lengths: list[int], width: int, seed: int) -> Sequences:
    tokens = np.random.default_rng(seed).integers(4, VOCABULARY, (len(lengths), width)).astype(np.int32)
    real = np.arange(width) < np.array(lengths)[:, None]
    positions = np.broadcast_to(np.arange(width, dtype=np.int32), tokens.shape)
    return Sequences(tokens * real, positions * real, real.astype(np.int32), real.astype(np.float32))


BATCH = Batch(_side([5, 3, 6], 6, 0), _side([4, 7, 2], 7, 1))


@pytest.fixture(scope="module")
def task() -> TranslationTask:
    return TranslationTask(CONFIG, Vocabulary())


@pytest.fixture(scope="module")
def params(task) -> nnx.State:
    return task.init_params(0)


def test_the_loss_is_smoothed_cross_entropy_summed_over_real_tokens(task, params):
    model = task.model(params)
    logits = np.asarray(model(BATCH), np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    labels, weights = BATCH.target.tokens, BATCH.target.weights
    nll = -np.take_along_axis(log_probs, labels[..., None], -1)[..., 0]
    smoothed = 0.8 * nll + 0.2 * -log_probs.mean(-1)
    loss, metrics = task.loss(model, BATCH, None)
    assert float(loss.weight) == 13.0
    np.testing.assert_allclose(loss.sum, (smoothed * weights).sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["nll"].value(), (nll * weights).sum() / 13, rtol=1e-5)
    right = (logits.argmax(-1) == labels) * weights
    assert metrics["accuracy"].value() == pytest.approx(right.sum() / 13)


def test_evaluation_divides_once_over_unequal_batches(task, params):
    halves = [jax.tree.map(lambda x: x[:1], BATCH), jax.tree.map(lambda x: x[1:], BATCH)]
    whole, parts = task.evaluate_loss(params, [BATCH]), task.evaluate_loss(params, halves)
    assert set(whole) == {"loss", "nll", "accuracy"}
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-5)


def test_dropout_follows_the_seed_and_is_off_without_one(task, params):
    def loss(seed: int | None) -> float:
        return float(task.loss(task.model(params), BATCH, None if seed is None else jnp.uint32(seed))[0].sum)

    assert loss(3) == loss(3)
    assert loss(3) != loss(4)
    assert loss(None) not in (loss(3), loss(4))


def test_the_same_seed_makes_the_same_model_and_shapes_need_no_values(task, params):
    again = task.init_params(0)
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    abstract = task.abstract_params()
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda x: x.shape, abstract)
    assert task.num_parameters == sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(("precision", "dtype", "bound"), [("bf16", jnp.bfloat16, 0.02), ("fp16", jnp.float16, 0.002)])
def test_low_precision_computes_in_it_and_gives_float32_gradients(params, precision, dtype, bound):
    task = TranslationTask(replace(CONFIG, {"precision": precision}), Vocabulary())
    assert task.model(params).hidden(BATCH).dtype == dtype
    gradient = jax.jit(jax.grad(lambda p: task.loss_function(p, BATCH, jnp.uint32(0))[0].sum))(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype(np.float32)}
    exact = TranslationTask(CONFIG, Vocabulary()).loss(TranslationTask(CONFIG, Vocabulary()).model(params), BATCH, None)
    rounded = task.loss(task.model(params), BATCH, None)
    assert float(rounded[0].sum) == pytest.approx(float(exact[0].sum), rel=bound)


def test_scores_are_those_of_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    pairs = [Pair("a", "Das Haus ist sehr gross."), Pair("b", "Ein Hund läuft schnell.")]
    hypotheses = ["Das Haus ist gross.", "Ein Hund läuft schnell."]
    scores = score_translations(hypotheses, pairs)
    wanted = sacrebleu.corpus_bleu(hypotheses, [[pair.target for pair in pairs]]).score
    assert scores.values["bleu"] == pytest.approx(wanted)
    assert scores.values["exact_match"] == 50.0
    assert set(scores.values) == set(scores.signatures) == {"bleu", "chrf", "exact_match"}
    tokenised = ["das haus ist sehr gross .", "ein hund läuft schnell ."]
    with_tokens = score_translations(hypotheses, pairs, tokenized_references=tokenised, language="de")
    assert 0 < with_tokens.values["tokenized_bleu"] < 100
