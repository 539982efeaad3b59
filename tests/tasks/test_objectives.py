"""Objectives: metrics by hand, nothing that has no weight, and settings that make no sense are refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.tasks.objectives import Classes, Numbers, Quantiles, YesNo


def _values(objective, outputs, labels, weights):
    metrics = jax.jit(objective.sums)(jnp.asarray(outputs), jnp.asarray(labels), jnp.asarray(weights))
    return {name: mean.value() for name, mean in metrics.items()}


def test_metrics_by_hand():
    found = _values(Numbers("huber", 1.5), [[1.0], [5.0], [np.nan]], [3.0, 5.5, np.inf], [1.0, 3.0, 0.0])
    assert found == pytest.approx({"loss": (1.875 + 0.375) / 4, "mse": (4 + 0.75) / 4, "mae": (2 + 1.5) / 4})
    pair = _values(Numbers("absolute", num_numbers=2), [[1.0, 2.0]], [[2.0, 4.0]], [2.0])
    assert pair == pytest.approx({"loss": 1.5, "mse": 2.5, "mae": 1.5})
    outputs, labels = [[1.0, 4.0], [1.0, 4.0], [3.0, 3.0], [0.0, 0.0]], [2.0, 5.0, 3.0, np.nan]
    found = _values(Quantiles((0.1, 0.9)), outputs, labels, [1.0, 1.0, 1.0, 0.0])
    pinball = (0.1 + 0.2 + 0.4 + 0.9) / 2 / 3
    assert found == pytest.approx({"loss": pinball, "below_0.1": 1 / 3, "below_0.9": 2 / 3})
    found = _values(YesNo(), [[2.0], [-1.0]], [1, 1], [1.0, 1.0])
    assert found == pytest.approx({"loss": (np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2, "accuracy": 0.5})
    found = _values(YesNo(2, (1.0, 3.0)), [[2.0, -1.0]], [[0, 1]], [1.0])
    assert found == pytest.approx({"loss": (np.log1p(np.exp(2)) + 3 * np.log1p(np.exp(1))) / 2, "accuracy": 0.0})
    logits, weights = np.log([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]), [1.0, 1.0]
    found = _values(Classes(3, (1.0, 1.0, 3.0)), logits, [0, 2], weights)
    assert found == pytest.approx({
        "loss": -(np.log(0.5) + 3 * np.log(0.6)) / 4, "nll": -(np.log(0.5) + np.log(0.6)) / 2, "accuracy": 1.0
    })  # fmt: skip


def test_labels_are_smoothed_in_the_loss_alone_with_class_weights_and_without():
    logits, labels, weights = np.log([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]), [0, 2], [1.0, 1.0]
    plain = _values(Classes(3, label_smoothing=0.3), logits, labels, weights)
    assert plain["loss"] > plain["nll"] == pytest.approx(-(np.log(0.5) + np.log(0.6)) / 2)
    weighed = _values(Classes(3, (2.0, 2.0, 2.0), 0.3), logits, labels, weights)
    assert weighed == pytest.approx(plain)


@pytest.mark.parametrize(
    ("objective", "shape"),
    [
        (Classes(3), (4, 5)), (YesNo(), (4, 5)), (YesNo(2), (4, 5, 2)), (Numbers(), (4, 5)),
        (Numbers(num_numbers=3), (4, 5, 3)), (Quantiles((0.1, 0.9)), (4, 5)),
    ],
)  # fmt: skip
def test_labels_of_one_output_have_no_axis_of_their_own(objective, shape):
    labels, weights = objective.abstract_labels((4, 5)), jax.ShapeDtypeStruct((4, 5), jnp.float32)
    assert labels.shape == shape
    outputs = jax.ShapeDtypeStruct((4, 5, objective.num_outputs), jnp.float32)
    assert jax.eval_shape(objective.sums, outputs, labels, weights)["loss"].sum.shape == ()


def test_predictions_are_wide_whatever_the_outputs_are():
    for objective in (Classes(2), YesNo(2), Numbers(num_numbers=2), Quantiles((0.1, 0.9))):
        believed = jax.eval_shape(objective.predict, jax.ShapeDtypeStruct((2,), jnp.bfloat16))
        assert believed.dtype == jnp.float32


def test_predictions_by_hand():
    np.testing.assert_allclose(Classes(2).predict(jnp.array([0.0, np.log(3.0)])), [0.25, 0.75], rtol=1e-6)
    np.testing.assert_allclose(YesNo().predict(jnp.array([0.0], jnp.bfloat16)), [0.5])
    np.testing.assert_allclose(Quantiles((0.2, 0.8)).predict(jnp.array([[3.0, 1.0]])), [[1.0, 3.0]])
    np.testing.assert_allclose(Numbers().predict(jnp.array([3.0])), [3.0])


@pytest.mark.parametrize(
    ("objective", "outputs"),
    [
        (Classes(3), [[0.5, -1.0, 2.0], [0.0, 0.0, -200.0]]),
        (YesNo(2), [[3.0, -0.5], [0.0, 200.0]]),
        (Numbers(num_numbers=2), [[3.0, -1.0]]),
        (Quantiles((0.2, 0.8)), [[1.0, 3.0]]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_outputs_for_what_is_believed_are_finite_and_believed(objective, outputs):
    believed = objective.predict(jnp.asarray(outputs))
    again = objective.outputs_for(believed)
    assert np.isfinite(again).all()
    np.testing.assert_allclose(objective.predict(again), believed, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Classes(1), "num_classes must be 2 or more, got 1"),
        (lambda: Classes(3, (1.0, 2.0)), "2 class_weights do not fit num_classes=3"),
        (lambda: Classes(2, (1.0, 0.0)), "class_weights must be greater than 0"),
        (lambda: Classes(2, label_smoothing=1.0), "label_smoothing must be at least 0 and less than 1, got 1.0"),
        (lambda: YesNo(0), "num_labels must be 1 or more, got 0"),
        (lambda: YesNo(2, (1.0,)), "1 positive_weights do not fit num_labels=2"),
        (lambda: YesNo(1, (-1.0,)), "positive_weights must be greater than 0"),
        (lambda: Numbers("l2"), "loss 'l2' is not one of squared, absolute, huber"),
        (lambda: Numbers(delta=0.0), "delta must be greater than 0, got 0.0"),
        (lambda: Numbers(num_numbers=0), "num_numbers must be 1 or more"),
        (lambda: Quantiles(()), "levels must be numbers between 0 and 1"),
        (lambda: Quantiles((0.5, 0.1)), "levels must ascend"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
