"""Classification of whole sequences, packed or not: it learns which token is most frequent."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxformer.tasks.classification import ClassificationTask
from jaxformer.tasks.objectives import Classes, Numbers
from jaxformer.tasks.task import Task
from jaxformer.types import LabelledBatch, RowLabels
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
