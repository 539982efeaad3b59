"""Classification of whole sequences, packed or not: it learns which token is most frequent."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxformer.config import replace
from jaxformer.tasks.classification import ClassificationTask
from jaxformer.tasks.objectives import Classes, Numbers
from jaxformer.tasks.task import Task
from jaxformer.types import SPELLING_SIZE, LabelledBatch, RowLabels, Sequences
from tests.tasks.learning import V, learn, rows, small


def _majorities(number, packed):
    """Rows of three tokens; the label of a sequence is the most frequent one of it, unless two are."""
    inputs = rows(np.random.default_rng(number), 64, packed=packed, tokens=(4, 7))
    sequences = 2 if packed else 1
    own = inputs.segment_ids[..., None] == np.arange(1, sequences + 1)
    counts = np.stack([((inputs.tokens == token)[..., None] & own).sum(axis=1) for token in (4, 5, 6)], axis=-1)
    ordered = np.sort(counts, axis=-1)
    clear = (ordered[..., -1] > ordered[..., -2]).astype(np.float32)
    return LabelledBatch(inputs, {"most": RowLabels(counts.argmax(-1), clear)})


@pytest.mark.parametrize(("pooling", "packed"), [("mean", True), ("attention", False), ("cls", True)])
def test_the_most_frequent_token_is_found(pooling, packed):
    task = ClassificationTask(small(), {"most": Classes(3)}, pooling=pooling, vocabulary_size=V)
    assert isinstance(task, Task)
    before, after = learn(task, lambda number: _majorities(number, packed), 150)
    assert before["accuracy"] < 0.7
    assert after["accuracy"] > 0.95


def test_packed_sequences_are_classified_as_they_are_alone():
    task = ClassificationTask(
        small(), {"most": Classes(3), "size": Numbers("absolute")}, pooling="attention", vocabulary_size=V
    )
    params, packed = task.init_params(0), _majorities(0, True).inputs
    together = task.predict(params, packed, num_sequences=2)
    for row in range(3):
        for g in (0, 1):
            (places,) = np.nonzero(packed.segment_ids[row] == g + 1)
            alone = jax.tree.map(lambda x, row=row, places=places: x[row : row + 1, places], packed)
            alone.segment_ids[:] = 1
            for name, found in task.predict(params, alone).items():
                np.testing.assert_allclose(found[0, 0], together[name][row, g], atol=1e-5)


def test_class_weights_change_the_loss_and_no_other_metric():
    plain, weighed = (
        ClassificationTask(small(), {"most": Classes(3, weights)}, vocabulary_size=V)
        for weights in ((), (1.0, 2.0, 5.0))
    )
    params, batch = plain.init_params(0), _majorities(0, True)
    one, other = plain.evaluate_loss(params, [batch]), weighed.evaluate_loss(params, [batch])
    assert one["accuracy"] == other["accuracy"]
    assert one["nll"] == one["loss"] == other["nll"]
    labels = batch.labels["most"]
    weights = labels.weights * np.array([1.0, 2.0, 5.0])[labels.values]
    nll = -np.log(np.take_along_axis(
        np.asarray(plain.predict(params, batch.inputs, num_sequences=2)["most"], np.float64),
        labels.values[..., None], -1)[..., 0])  # fmt: skip
    assert other["loss"] == pytest.approx((weights * nll).sum() / weights.sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("spelling", "pieces", "message"),
    [
        (8, (), r"tokens are \[2, 5\], but with spelling=8 each has its spelling beside it, \[B, S, 13\]: make rows"),
        (8, (5,), r"tokens are \[2, 5, 5\], but with spelling=8 each has its spelling beside it, \[B, S, 13\]: make"),
        (0, (1 + SPELLING_SIZE,), r"tokens are \[2, 5, 13\], but without spelling they are \[B, S\]: give the task"),
    ],
)
def test_tokens_with_and_without_spelling_are_not_confused(spelling, pieces, message):
    task = ClassificationTask(small(), {"first": Classes(2)}, vocabulary_size=V, spelling=spelling, pooling="mean")
    params, ones = task.init_params(0), np.ones((2, 5), np.int32)
    inputs = Sequences(np.ones((2, 5, *pieces), np.int32), ones.cumsum(axis=1) - 1, ones, ones.astype(np.float32))
    with pytest.raises(ValueError, match=message):
        task.predict(params, inputs)
    labels = RowLabels(np.zeros((2, 1), np.int32), np.ones((2, 1), np.float32))
    with pytest.raises(ValueError, match=message):
        task.loss_function(params, LabelledBatch(inputs, {"first": labels}), None)


@pytest.mark.parametrize(
    ("spelling", "model", "message"),
    [
        (-1, {}, "spelling must be 0, for none, or a number of buckets, got -1"),
        (8, {"neighbourhood": 2}, "spelling=8 and model.neighbourhood=2 do not go together: set one of them to 0"),
    ],
)
def test_spellings_that_cannot_be_are_refused(spelling, model, message):
    own = {"task.kind": "text_classification", "training.best_metric": "validation/loss", "model": model}
    with pytest.raises(ValueError, match=message):
        ClassificationTask(
            replace(small(), own), {"first": Classes(2)}, vocabulary_size=V, spelling=spelling, pooling="mean"
        )
