"""R-Drop's loss, fused with the output projection, against its definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import cross_entropy, linear_cross_entropy, r_drop_cross_entropy

ROWS, LENGTH, D, V = 3, 7, 6, 29
ALPHA, SMOOTHING = 5.0, 0.1


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    first, second = jnp.asarray(random.normal(size=(2, ROWS, LENGTH, D)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(V, D)), jnp.float32)
    labels = jnp.asarray(random.integers(0, V, (ROWS, LENGTH)), jnp.int32)
    weights = jnp.asarray(random.choice([0.0, 1.0, 2.5], (ROWS, LENGTH)), jnp.float32)
    return first, second, kernel, labels, weights


def _fused(labels, weights, chunk):
    return lambda first, second, kernel: r_drop_cross_entropy(
        first, second, kernel, labels, weights, alpha=ALPHA, label_smoothing=SMOOTHING, chunk=chunk
    )


def _by_definition(labels, weights):
    """Equation 4 of the paper, halved; and the divergence."""

    def loss(first, second, kernel):
        one, other = (cross_entropy(x @ kernel.T, labels, weights, label_smoothing=SMOOTHING) for x in (first, second))
        log_p, log_q = (jax.nn.log_softmax(x @ kernel.T) for x in (first, second))
        forth = (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)
        back = (jnp.exp(log_q) * (log_q - log_p)).sum(axis=-1)
        divergence = (weights * (forth + back) / 2).sum()
        return (one.loss + other.loss + ALPHA * divergence) / 2, (one, other, divergence)

    return loss


@pytest.mark.parametrize("chunk", [1, 4, 21, 512])
def test_it_equals_its_definition_in_value_and_gradient(data, chunk):
    *inputs, labels, weights = data
    fused = _fused(labels, weights, chunk)
    expected, (one, other, divergence) = _by_definition(labels, weights)(*inputs)
    sums = fused(*inputs)
    np.testing.assert_allclose(sums.loss, expected, rtol=1e-5)
    np.testing.assert_allclose(sums.divergence, divergence, rtol=1e-5)
    np.testing.assert_allclose(sums.nll, (one.nll + other.nll) / 2, rtol=1e-5)
    np.testing.assert_allclose(sums.correct, (one.correct + other.correct) / 2, rtol=1e-5)
    found = jax.value_and_grad(lambda *x: 3.0 * fused(*x).loss, (0, 1, 2))(*inputs)
    wanted = jax.value_and_grad(lambda *x: 3.0 * _by_definition(labels, weights)(*x)[0], (0, 1, 2))(*inputs)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    for ours, theirs in zip(found[1], wanted[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(jnp.abs(theirs).max()))


def test_passes_that_agree_cost_what_one_pass_does(data):
    first, _, kernel, labels, weights = data
    sums = _fused(labels, weights, 4)(first, first, kernel)
    np.testing.assert_allclose(sums.divergence, 0.0, atol=1e-4)
    alone = linear_cross_entropy(first, kernel, labels, weights, label_smoothing=SMOOTHING)
    for ours, theirs in zip(sums, alone, strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("poison", [jnp.inf, jnp.nan])
def test_tokens_without_weight_count_for_nothing_even_when_infinite(data, poison):
    first, second, kernel, labels, weights = data
    weights = weights.at[0, 0].set(0.0)
    both = jax.value_and_grad(lambda *x: _fused(labels, weights, 4)(*x).loss, (0, 1, 2))
    clean, poisoned = both(first, second, kernel), both(first, second.at[0, 0].set(poison), kernel)
    jax.tree.map(np.testing.assert_array_equal, poisoned, clean)


def test_half_precision_keeps_float32_sums(data):
    *inputs, labels, weights = data
    short = [x.astype(jnp.bfloat16) for x in inputs]
    sums, gradient = jax.value_and_grad(lambda *x: _fused(labels, weights, 4)(*x).loss, (0, 1, 2))(*short)
    expected = jax.grad(lambda *x: _by_definition(labels, weights)(*x)[0], (0, 1, 2))(*inputs)
    assert sums.dtype == jnp.float32
    for ours, theirs in zip(gradient, expected, strict=True):
        assert ours.dtype == jnp.bfloat16
        distance = jnp.linalg.norm(ours.astype(jnp.float32) - theirs)
        assert distance < 0.02 * jnp.linalg.norm(theirs)


def test_it_never_holds_all_logits():
    rows = jax.ShapeDtypeStruct((1024, 8), jnp.float32)
    kernel, labels = jax.ShapeDtypeStruct((500, 8), jnp.float32), jax.ShapeDtypeStruct((1024,), jnp.int32)
    loss = lambda a, b, k, y: r_drop_cross_entropy(a, b, k, y, jnp.ones(1024), alpha=ALPHA, chunk=64).loss  # noqa: E731
    text = jax.jit(jax.grad(loss, (0, 1, 2))).lower(rows, rows, kernel, labels).compile().as_text()
    assert "f32[128,500]" in text  # 64 tokens of both passes
    assert "[1024,500]" not in text
    assert "[2048,500]" not in text
