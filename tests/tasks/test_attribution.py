"""Gradient times input: exact where a network is linear in its input, and it finds the token that decides."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxformer.config import replace
from jaxformer.models.encoder import encode_rows
from jaxformer.tasks.attribution import gradient_times_input
from jaxformer.tasks.classification import ClassificationTask
from jaxformer.tasks.objectives import Classes
from jaxformer.types import LabelledBatch, RowLabels
from tests.tasks.learning import V, learn, rows, small

KEY = 5
"""The token whose presence is the class."""


def _batch(number: int) -> LabelledBatch:
    inputs = rows(np.random.default_rng(number), 64, packed=False, tokens=(6, V))
    random = np.random.default_rng(1000 + number)
    lengths = inputs.segment_ids.sum(axis=1)
    found = random.integers(0, 2, 64)
    tokens = inputs.tokens.copy()
    place = random.integers(0, lengths)
    tokens[np.arange(64), place] = np.where(found, KEY, tokens[np.arange(64), place])
    labels = RowLabels(found[:, None].astype(np.int32), np.ones((64, 1), np.float32))
    return LabelledBatch(type(inputs)(tokens, inputs.positions, inputs.segment_ids, inputs.weights), {"key": labels})


def test_the_token_that_decides_has_the_largest_share_and_padding_none():
    task = ClassificationTask(small(), {"key": Classes(2)}, pooling="attention", vocabulary_size=V)
    kept = {}

    class Remembering:
        """The task, whose last parameters are kept."""

        def __getattr__(self, name):
            if name == "evaluate_loss":
                def evaluate(params, batches):
                    kept["params"] = jax.tree.map(jnp.copy, params)
                    return task.evaluate_loss(params, batches)
                return evaluate
            return getattr(task, name)

    _, after = learn(Remembering(), _batch, 200)
    assert after["accuracy"] > 0.95
    batch = _batch(7)
    scores, found = gradient_times_input(task, "key")(kept["params"], jax.device_put(batch.inputs))
    scores = np.asarray(scores)
    assert (scores[batch.inputs.segment_ids == 0] == 0).all()
    positive = (np.asarray(found) == 1) & (batch.labels["key"].values[:, 0] == 1)
    top = np.take_along_axis(batch.inputs.tokens, scores.argmax(axis=1)[:, None], axis=1)[:, 0]
    assert (top[positive] == KEY).mean() > 0.8


def test_it_is_the_derivative_along_the_input():
    task = ClassificationTask(small(), {"key": Classes(3)}, pooling="mean", vocabulary_size=V)
    params, inputs = task.init_params(1), jax.device_put(_batch(0).inputs)
    scores, found = gradient_times_input(task, "key")(params, inputs)
    model = task.model(params)
    embedded = model.encoder.embedding(inputs.tokens, inputs.positions)

    def logits(factor):
        encoded = encode_rows(factor * embedded, inputs, model.encoder.stack, model.encoder.norm, 0.0, None)
        return model.heads["key"](encoded, inputs, num_sequences=1, seed=None)[:, 0]

    slope = jax.jacrev(logits)(jnp.float32(1.0))
    expected = np.take_along_axis(np.asarray(slope), np.asarray(found)[:, None], axis=1)[:, 0]
    real = np.asarray(inputs.segment_ids) > 0
    assert real.sum() < real.size
    np.testing.assert_allclose(np.asarray(scores).sum(axis=1), expected, rtol=1e-3, atol=1e-5)


def test_it_looks_at_the_class_that_is_predicted_with_neighbours_and_local_layers_too():
    model = {"num_encoder_layers": 2, "local_layers": 1, "local_window": 1, "neighbourhood": 1, "position": "rotary"}
    config = replace(small(), {"task.kind": "text_classification", "training.best_metric": "validation/loss"})
    config = replace(config, {"model": model})
    task = ClassificationTask(config, {"key": Classes(8)}, pooling="attention", vocabulary_size=V)
    params, inputs = task.init_params(1), jax.device_put(_batch(0).inputs)
    _, found = gradient_times_input(task, "key")(params, inputs)
    predicted = np.asarray(task.predict(params, inputs)["key"])[:, 0].argmax(axis=-1)
    assert len(set(predicted.tolist())) > 1
    np.testing.assert_array_equal(found, predicted)
