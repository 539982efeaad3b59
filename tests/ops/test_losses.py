"""Losses by hand, against optax and (where it is installed) torch, in value and gradient, and at their edges."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxformer.ops import (
    absolute_error,
    binary_cross_entropy,
    cross_entropy,
    huber_loss,
    multi_label_cross_entropy,
    quantile_loss,
    squared_error,
    weigh_classes,
)

M, E = 11, 3
QUANTILES = (0.1, 0.5, 0.8)
RNG = np.random.default_rng(0)
OUTPUTS = jnp.asarray(RNG.normal(size=(M, E)) * 2, jnp.float32)
NUMBERS = jnp.asarray(RNG.normal(size=(M, E)), jnp.float32)
ANSWERS = jnp.asarray(RNG.integers(0, 2, (M, E)), jnp.float32)
CLASSES = jnp.asarray(RNG.integers(0, E, M), jnp.int32)
ROWS = jnp.asarray(RNG.choice([0.0, 1.0, 2.5], M), jnp.float32).at[0].set(0.0)
EACH = jnp.asarray(RNG.choice([0.0, 1.0, 2.5], (M, E)), jnp.float32).at[0].set(0.0)
RARE = np.array([0.5, 1.0, 4.0], np.float32)

CASES = {
    "class": (lambda z, y, w: cross_entropy(z, y, w, label_smoothing=0.1).loss, CLASSES, ROWS),
    "binary": (lambda z, y, w: binary_cross_entropy(z, y, w, positive_weight=RARE).loss, ANSWERS, EACH),
    "multi-label": (lambda z, y, w: multi_label_cross_entropy(z, y, w, positive_weights=RARE).loss, ANSWERS, ROWS),
    "squared": (squared_error, NUMBERS, EACH),
    "absolute": (absolute_error, NUMBERS, EACH),
    "huber": (functools.partial(huber_loss, delta=0.7), NUMBERS, EACH),
    "quantile": (functools.partial(quantile_loss, quantiles=QUANTILES), NUMBERS[:, 0], ROWS),
}
"""A loss of OUTPUTS, its targets and its weights."""

OPTAX = {
    "binary": lambda z: (EACH * (optax.sigmoid_binary_cross_entropy(z, ANSWERS) * jnp.where(ANSWERS > 0, RARE, 1))),
    "multi-label": lambda z: (
        ROWS[:, None] * (optax.sigmoid_binary_cross_entropy(z, ANSWERS) * jnp.where(ANSWERS > 0, RARE, 1)) / E
    ),
    "squared": lambda z: EACH * optax.squared_error(z, NUMBERS),
    "absolute": lambda z: EACH * optax.safe_norm((z - NUMBERS)[..., None], 0.0, axis=-1),
    "huber": lambda z: EACH * optax.huber_loss(z, NUMBERS, delta=0.7),
    "quantile": lambda z: ROWS[:, None] / len(QUANTILES) * jnp.where(
        NUMBERS[:, :1] > z, np.array(QUANTILES), 1 - np.array(QUANTILES)) * jnp.abs(NUMBERS[:, :1] - z),
}  # fmt: skip
"""The same of another library, before it is summed; of the pinball loss by its two cases, since optax has none."""


@pytest.mark.parametrize("name", OPTAX)
def test_value_and_gradient_are_those_of_another_library(name):
    loss, targets, weights = CASES[name]
    ours = jax.value_and_grad(lambda z: loss(z, targets, weights))(OUTPUTS)
    theirs = jax.value_and_grad(lambda z: OPTAX[name](z).sum())(OUTPUTS)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)


def test_value_and_gradient_are_those_of_torch():
    torch = pytest.importorskip("torch", reason="torch is the benchmark extra")
    f = torch.nn.functional
    tensor = lambda x: torch.tensor(np.asarray(x))  # noqa: E731
    numbers, answers, each, rows = map(tensor, (NUMBERS, ANSWERS, EACH, ROWS))
    classes, rare = tensor(CLASSES).long(), tensor(RARE)
    theirs = {
        "binary": lambda z: f.binary_cross_entropy_with_logits(z, answers, each, pos_weight=rare, reduction="sum"),
        "multi-label": lambda z: (
            rows * f.binary_cross_entropy_with_logits(z, answers, pos_weight=rare, reduction="none").mean(-1)
        ).sum(),
        "squared": lambda z: (each * f.mse_loss(z, numbers, reduction="none")).sum(),
        "absolute": lambda z: (each * f.l1_loss(z, numbers, reduction="none")).sum(),
        "huber": lambda z: (each * f.huber_loss(z, numbers, reduction="none", delta=0.7)).sum(),
        "class": lambda z: (rows * f.cross_entropy(z, classes, reduction="none", label_smoothing=0.1)).sum(),
    }
    for name, function in theirs.items():
        loss, targets, weights = CASES[name]
        value, gradient = jax.value_and_grad(lambda z, loss=loss, y=targets, w=weights: loss(z, y, w))(OUTPUTS)
        z = tensor(OUTPUTS).requires_grad_()
        expected = function(z)
        expected.backward()
        np.testing.assert_allclose(value, expected.detach(), rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(gradient, z.grad, atol=1e-5, err_msg=name)
    mean = f.cross_entropy(tensor(OUTPUTS), classes, weight=rare)
    weighed = weigh_classes(jnp.ones(M), CLASSES, RARE)
    np.testing.assert_allclose(cross_entropy(OUTPUTS, CLASSES, weighed).loss / weighed.sum(), mean, rtol=1e-5)


def test_small_cases_by_hand():
    one = jnp.ones(2)
    np.testing.assert_allclose(squared_error(jnp.array([1.0, 5.0]), jnp.array([3.0, 5.5]), one), 4.25)
    np.testing.assert_allclose(absolute_error(jnp.array([1.0, 5.0]), jnp.array([3.0, 5.5]), 2 * one), 5.0)
    np.testing.assert_allclose(huber_loss(jnp.array([1.0, 5.0]), jnp.array([3.0, 5.5]), one), 1.5 + 0.125)
    pinball = quantile_loss(jnp.array([[1.0, 4.0]]), jnp.array([2.0]), one[:1], quantiles=(0.1, 0.9))
    np.testing.assert_allclose(pinball, (0.1 + 0.2) / 2, rtol=1e-6)
    sums = binary_cross_entropy(jnp.array([0.0, -2.0]), jnp.array([1, 0]), one)
    np.testing.assert_allclose(sums.loss, np.log(2) + np.log1p(np.exp(-2)), rtol=1e-6)
    assert sums.correct == 1.0  # a logit of 0 says no
    sums = multi_label_cross_entropy(jnp.array([[3.0, -3.0], [3.0, 3.0]]), jnp.array([[1, 0], [1, 0]]), one)
    np.testing.assert_allclose(sums.loss, 1.5 * np.log1p(np.exp(-3)) + 0.5 * np.log1p(np.exp(3)), rtol=1e-6)
    assert sums.correct == 1.0
    np.testing.assert_array_equal(weigh_classes(jnp.array([1.0, 2.0, 0.0]), jnp.array([2, 0, -100]), RARE), [4, 1, 0])


def test_the_pinball_loss_is_least_at_the_quantiles():
    targets = jnp.asarray(np.sort(RNG.exponential(size=101)), jnp.float32)  # so that the quantiles are among them
    total = lambda z: quantile_loss(jnp.broadcast_to(z, (101, 3)), targets, jnp.ones(101), quantiles=(0.1, 0.5, 0.9))  # noqa: E731
    best = jnp.asarray(np.quantile(targets, (0.1, 0.5, 0.9)), jnp.float32)
    for step in (-0.05, 0.05):
        assert all(total(best.at[i].add(step)) > total(best) for i in range(3))


@pytest.mark.parametrize("poison", [jnp.inf, jnp.nan])
@pytest.mark.parametrize("name", CASES)
def test_what_has_no_weight_reaches_neither_sum_nor_gradient(name, poison):
    loss, targets, weights = CASES[name]
    clean = jax.value_and_grad(lambda z: loss(z, targets, weights))(OUTPUTS)
    unknown = targets.at[0].set(-100 if name == "class" else poison)
    poisoned = jax.value_and_grad(lambda z: loss(z, unknown, weights))(OUTPUTS.at[0].set(poison))
    jax.tree.map(np.testing.assert_array_equal, poisoned, clean)
    assert not clean[1][0].any()
    assert clean[1].any()


@pytest.mark.parametrize("name", CASES)
def test_sums_of_16_bit_numbers_are_float32(name):
    loss, targets, weights = CASES[name]
    short = OUTPUTS.astype(jnp.bfloat16)
    value = loss(short, targets, weights)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, loss(short.astype(jnp.float32), targets, weights), rtol=1e-6)


def test_mistakes_are_refused():
    column, numbers = OUTPUTS[:, :1], NUMBERS[:, 0]
    for wrong, message in (
        (lambda: squared_error(column, NUMBERS[:, 0], ROWS), r"predictions \(11, 1\), targets \(11,\)"),
        (lambda: binary_cross_entropy(column, ANSWERS[:, 0], ROWS), "must have one shape"),
        (lambda: huber_loss(OUTPUTS, NUMBERS, EACH, delta=0.0), "delta .* greater than 0, got 0.0"),
        (lambda: quantile_loss(OUTPUTS, numbers, ROWS, quantiles=(0.1, 0.5, 1.0)), r"between 0 and 1, got \(0.1"),
        (lambda: quantile_loss(OUTPUTS, numbers, ROWS, quantiles=(0.5,)), "3 predictions a target .* 1 quantiles"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
