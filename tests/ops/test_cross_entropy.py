"""Both forms of the cross-entropy against torch, against each other, and at their edges."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.ops import cross_entropy, linear_cross_entropy, r_drop_cross_entropy
from jaxformer.ops.vocabulary import chunks_of

M, D, V = 13, 6, 29


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(M, D)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(V, D)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, V, M), jnp.int32)
    weights = jnp.asarray(rng.choice([0.0, 1.0, 2.5], M), jnp.float32)
    return hidden, kernel, labels, weights


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_plain_form_agrees_with_torch(data, smoothing):
    torch = pytest.importorskip("torch", reason="torch is the benchmark extra")
    hidden, kernel, labels, weights = data
    logits = hidden @ kernel.T
    each = torch.nn.functional.cross_entropy(
        torch.tensor(np.asarray(logits)), torch.tensor(np.asarray(labels)).long(),
        label_smoothing=smoothing, reduction="none",
    ).numpy()
    sums = cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    np.testing.assert_allclose(sums.loss, (each * weights).sum(), rtol=1e-5)


def test_uniform_logits_by_hand():
    labels, weights = jnp.array([[0, 1, 2]]), jnp.array([[1.0, 1.0, 0.0]])
    sums = cross_entropy(jnp.zeros((1, 3, 4)), labels, weights, label_smoothing=0.3)
    np.testing.assert_allclose(sums.loss, 2 * np.log(4), rtol=1e-6)  # smoothing cannot change a uniform prediction
    np.testing.assert_allclose(sums.nll, 2 * np.log(4), rtol=1e-6)
    sums = cross_entropy(jnp.array([[2.0, 0.0]]), jnp.array([0]), jnp.ones(1), label_smoothing=0.2)
    normaliser = np.log(np.exp(2) + 1)
    np.testing.assert_allclose(sums.loss, 0.9 * (normaliser - 2) + 0.1 * normaliser, rtol=1e-6)
    np.testing.assert_allclose(sums.correct, 1.0)


@pytest.mark.parametrize("chunk", [1, 4, 13, 512])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_fused_form_equals_the_plain_one_in_value_and_gradient(data, smoothing, chunk):
    hidden, kernel, labels, weights = data

    def plain(hidden, kernel):
        return cross_entropy(hidden @ kernel.T, labels, weights, label_smoothing=smoothing)

    def fused(hidden, kernel):
        return linear_cross_entropy(hidden, kernel, labels, weights, label_smoothing=smoothing, chunk=chunk)

    for ours, expected in zip(fused(hidden, kernel), plain(hidden, kernel), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)
    ours = jax.grad(lambda *x: 3.0 * fused(*x).loss, (0, 1))(hidden, kernel)
    expected = jax.grad(lambda *x: 3.0 * plain(*x).loss, (0, 1))(hidden, kernel)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    value = jax.value_and_grad(lambda h: fused(h, kernel).loss)(hidden)[0]  # the value on the way to a gradient
    np.testing.assert_allclose(value, plain(hidden, kernel).loss, rtol=1e-5)


def test_fused_form_never_holds_all_logits():
    shapes = [jax.ShapeDtypeStruct(s, d) for s, d in
              [((1024, 8), jnp.float32), ((500, 8), jnp.float32), ((1024,), jnp.int32), ((1024,), jnp.float32)]]
    step = jax.jit(jax.grad(lambda h, k, y, w: linear_cross_entropy(h, k, y, w, chunk=64).loss, (0, 1)))
    text = step.lower(*shapes).compile().as_text()
    assert "f32[64,500]" in text
    assert "[1024,500]" not in text
    assert "[16,64,500]" not in text


@pytest.mark.parametrize("poison", [jnp.inf, jnp.nan])
def test_tokens_without_weight_count_for_nothing_even_when_infinite(data, poison):
    hidden, kernel, labels, weights = data
    weights = weights.at[0].set(0.0)

    def plain(logits):
        return cross_entropy(logits, labels, weights, label_smoothing=0.1).loss

    def fused(hidden, kernel):
        return linear_cross_entropy(hidden, kernel, labels, weights, label_smoothing=0.1, chunk=4).loss

    for loss, tokens, rest in ((plain, hidden @ kernel.T, ()), (fused, hidden, (kernel,))):
        gradient = jax.value_and_grad(loss, argnums=tuple(range(1 + len(rest))))
        clean, poisoned = gradient(tokens, *rest), gradient(tokens.at[0].set(poison), *rest)
        jax.tree.map(np.testing.assert_array_equal, poisoned, clean)
        assert not clean[1][0][0].any()


@pytest.mark.parametrize("label", [-100, V, 2**31 - 1])
@pytest.mark.parametrize("chunk", [4, 512])
def test_labels_of_tokens_without_weight_may_be_anything(data, label, chunk):
    hidden, kernel, labels, weights = data
    strange = jnp.where(weights > 0, labels, label)

    def fused(hidden, kernel, labels):
        sums = linear_cross_entropy(hidden, kernel, labels, weights, label_smoothing=0.1, chunk=chunk)
        return sums.loss, sums

    value = jax.value_and_grad(fused, (0, 1), has_aux=True)
    for found, expected in zip(
        jax.tree.leaves((value(hidden, kernel, strange), fused(hidden, kernel, strange))),
        jax.tree.leaves((value(hidden, kernel, labels), fused(hidden, kernel, labels))),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def _of_two_passes(hidden, *operands, **options):
    return r_drop_cross_entropy(hidden, hidden, *operands, alpha=1.0, **options)


@pytest.mark.parametrize("form", [linear_cross_entropy, _of_two_passes])
def test_no_tokens_have_no_loss_and_no_gradient_as_in_the_plain_form(data, form):
    hidden, kernel, labels, weights = (x if x.shape[0] == V else x[:0] for x in data)
    loss = jax.value_and_grad(lambda *x: form(*x, labels, weights, label_smoothing=0.1).loss, (0, 1))
    plain = jax.value_and_grad(lambda h, k: cross_entropy(h @ k.T, labels, weights, label_smoothing=0.1).loss, (0, 1))
    jax.tree.map(np.testing.assert_array_equal, loss(hidden, kernel), plain(hidden, kernel))
    assert form(hidden, kernel, labels, weights).loss == 0.0


def test_large_logits_do_not_overflow():
    logits = jnp.array([[1e4, -1e4, 0.0]])
    sums = cross_entropy(logits, jnp.array([1]), jnp.ones(1))
    np.testing.assert_allclose(sums.loss, 2e4, rtol=1e-6)


def test_bfloat16_inputs_keep_float32_sums(data):
    hidden, kernel, labels, weights = data
    sums = linear_cross_entropy(hidden.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), labels, weights)
    assert sums.loss.dtype == jnp.float32
    np.testing.assert_allclose(sums.loss, cross_entropy(hidden @ kernel.T, labels, weights).loss, rtol=0.02)


def test_float16_gradients_are_rounded_after_the_loss_scale_not_before():
    hidden, kernel = jnp.ones((1, 2), jnp.float16), jnp.array([[0.0, 0.0], [-8.0, 0.0]], jnp.float16)
    labels, weights, loss_scale = jnp.zeros(1, jnp.int32), jnp.full(1, 2.0**-14), 2.0**20
    gradient = jax.grad(lambda *x: loss_scale * linear_cross_entropy(*x, labels, weights).loss, (0, 1))
    to_hidden, to_kernel = gradient(hidden, kernel)
    assert to_hidden.dtype == to_kernel.dtype == jnp.float16
    other = 1 / (1 + np.exp(8))  # the probability of the row that is not the label
    assert np.float16(2.0**-14 * other) == 0, "float16 has nothing between 0 and 2**-24"
    np.testing.assert_allclose(to_kernel[1], [2.0**6 * other] * 2, rtol=5e-3)
    np.testing.assert_allclose(to_hidden[0], [-8 * 2.0**6 * other, 0.0], rtol=5e-3)


@pytest.mark.parametrize(
    ("tokens", "chunk", "shape"),
    [(4096, 512, (8, 512)), (25600, 2048, (13, 1984)), (600, 512, (2, 320)), (7, 512, (1, 7))],
)
def test_chunks_are_of_one_size_and_hardly_padded(tokens, chunk, shape):
    hidden, labels, weights = jnp.ones((tokens, 4)), jnp.ones(tokens, jnp.int32), jnp.ones(tokens)
    chunks = chunks_of(hidden, labels, weights, chunk)
    assert chunks[0].shape == (*shape, 4)
    assert chunks[2].shape == shape
    assert chunks[2].sum() == tokens


def test_an_accelerator_makes_more_logits_at_a_time(monkeypatch):
    loss = jax.jit(lambda *x: linear_cross_entropy(*x).loss)
    hidden, kernel = jnp.ones((4096, 8)), jnp.ones((32, 8))
    operands = (hidden, kernel, jnp.ones(4096, jnp.int32), jnp.ones(4096))
    assert "tensor<512x32xf32>" in loss.lower(*operands).as_text()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "tensor<4096x32xf32>" in jax.jit(lambda *x: linear_cross_entropy(*x).loss).lower(*operands).as_text()
