"""Tagging: it learns what a neighbour says, and its loss counts what has weight."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.tasks.objectives import Classes, Numbers, YesNo
from jaxformer.tasks.tagging import TaggingTask
from jaxformer.tasks.task import Task
from jaxformer.types import LabelledBatch, PositionLabels, RowLabels
from tests.tasks.learning import V, learn, rows, small


def _parities(number):
    """Tokens in packed rows; the label of each is whether the one before it is odd, and the first has none."""
    inputs = rows(np.random.default_rng(number), 64, packed=True)
    before = np.roll(inputs.tokens, 1, axis=1)
    weights = (inputs.positions > 0).astype(np.float32)
    return LabelledBatch(inputs, {"odd": PositionLabels(np.where(weights > 0, before % 2, -100), weights)})


def test_each_token_is_tagged_by_the_parity_of_its_neighbour():
    task = TaggingTask(small(position="rotary"), {"odd": Classes(2)}, vocabulary_size=V)
    assert isinstance(task, Task)
    before, after = learn(task, _parities, 250)
    assert before["accuracy"] < 0.65
    assert after["accuracy"] > 0.98


def _batch(changes=None):
    inputs = rows(np.random.default_rng(0), 4, packed=True)
    random = np.random.default_rng(1)
    weights = inputs.weights * random.choice([0.0, 1.0, 2.0], inputs.weights.shape).astype(np.float32)
    labels = {
        "class": PositionLabels(random.integers(0, 3, weights.shape), weights),
        "number": PositionLabels(random.normal(size=weights.shape).astype(np.float32), inputs.weights),
        "flags": PositionLabels(random.integers(0, 2, (*weights.shape, 2)), weights),
    }
    return LabelledBatch(inputs, {name: labels[name] for name in changes or labels})


def test_loss_of_several_parts_by_hand():
    parts = {"class": Classes(3), "number": Numbers(), "flags": YesNo(2)}
    task = TaggingTask(small(), parts, vocabulary_size=V, part_weights={"number": 0.5, "flags": 2.0})
    params, batch = task.init_params(0), _batch()
    outputs = {name: np.asarray(x, np.float64) for name, x in jax.jit(
        lambda p: task.model(p)(batch.inputs))(params).items()}  # fmt: skip
    loss, metrics = jax.jit(lambda p: task.loss(task.model(p), batch, None))(params)
    labels = batch.labels
    each = {
        "class": np.log(np.exp(outputs["class"]).sum(-1))
        - np.take_along_axis(outputs["class"], labels["class"].values[..., None], -1)[..., 0],
        "number": (outputs["number"][..., 0] - labels["number"].values) ** 2,
        "flags": np.log1p(np.exp(np.where(labels["flags"].values, -1, 1) * outputs["flags"])).mean(-1),
    }
    sums = {name: (each[name] * labels[name].weights).sum() for name in each}
    for name, value in sums.items():
        assert metrics[f"{name}/loss"].value() == pytest.approx(value / labels[name].weights.sum(), rel=1e-5)
    expected = sums["class"] + 0.5 * sums["number"] + 2.0 * sums["flags"]
    weight = np.mean([labels[name].weights.sum() for name in each])
    assert loss.value() == metrics["loss"].value() == pytest.approx(expected / weight, rel=1e-5)


def test_predictions_are_probabilities_and_numbers_of_what_is_not_padding():
    task = TaggingTask(small(), {"class": Classes(3), "number": Numbers()}, vocabulary_size=V)
    params, batch = task.init_params(0), _batch()
    found = task.predict(params, batch.inputs)
    assert found["number"].shape == (4, 16, 1)
    np.testing.assert_allclose(found["class"].sum(-1), 1.0, rtol=1e-5)
    hidden = np.where(batch.inputs.segment_ids == 0, 7, batch.inputs.tokens)
    again = task.predict(params, dataclasses.replace(batch.inputs, tokens=hidden))
    real = batch.inputs.segment_ids > 0
    np.testing.assert_array_equal(found["class"][real], again["class"][real])


def test_learned_weights_are_parameters_and_are_reported():
    task = TaggingTask(small(), {"class": Classes(3), "number": Numbers()}, vocabulary_size=V, part_weights="learned")
    before, after = learn(task, lambda number: _batch(("class", "number")), 60)
    assert before["class/weight"] == 1.0
    assert before["number/weight"] == 0.5
    # What is known by heart has little noise left, and counts for more.
    assert after["class/weight"] > 1.05
    assert after["number/weight"] > 0.55
    assert after["class/loss"] < before["class/loss"]


def test_mistakes_are_refused():
    parts = {"class": Classes(3), "number": Numbers()}
    for make, message in (
        (lambda: TaggingTask(small(), {}, vocabulary_size=V), "give at least one objective"),
        (lambda: TaggingTask(small(), parts, vocabulary_size=V, part_weights={"numbr": 1.0}), "Did you mean 'number'"),
        (lambda: TaggingTask(small(), parts, vocabulary_size=V, part_weights="learnt"), "'learnt' is not known"),
        (lambda: TaggingTask(small(), parts), "give vocabulary_size or num_channels"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    task, batch = TaggingTask(small(), parts, vocabulary_size=V), _batch()
    loss = lambda batch: jax.eval_shape(  # noqa: E731
        task.loss_function, task.abstract_params(), batch, jax.ShapeDtypeStruct((), jnp.uint32)
    )
    with pytest.raises(ValueError, match="labels for class, flags, number, but class, number are predicted"):
        loss(batch)
    wrong = {"class": RowLabels(batch.labels["class"].values, batch.labels["class"].weights)}
    with pytest.raises(ValueError, match="labels of 'class' are RowLabels, but TaggingTask takes PositionLabels"):
        loss(dataclasses.replace(batch, labels={**{"number": batch.labels["number"]}, **wrong}))
