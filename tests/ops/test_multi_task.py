"""Several losses as one: by hand, additive over micro-batches, and at the least where Kendall et al. say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import optimize, stats

from jaxformer.nn import LearnedWeights
from jaxformer.ops import uncertainty_total, weighted_total
from jaxformer.tasks.objectives import Numbers, Quantiles
from jaxformer.types import Mean

PARTS = {"class": Mean(jnp.float32(6.0), jnp.float32(4.0)), "number": Mean(jnp.float32(1.0), jnp.float32(2.0))}


def test_totals_by_hand():
    total = weighted_total(PARTS, {"class": 1.0, "number": 0.5})
    assert (float(total.sum), float(total.weight)) == (6.5, 3.0)
    s = {"class": jnp.float32(0.5), "number": jnp.float32(-1.0)}
    total = uncertainty_total(PARTS, s, {"class": 1.0, "number": 0.5})
    expected = np.exp(-0.5) * 6 + 0.25 * 4 + 0.5 * np.exp(1.0) * 1 - 0.5 * 2
    np.testing.assert_allclose(total.sum, expected, rtol=1e-6)
    assert float(total.weight) == 3.0


def test_two_micro_batches_are_one_batch():
    layer = LearnedWeights({"class": 1.0, "number": 0.5})
    layer.log_variances[...] = jnp.array([0.3, -0.7])
    halves = layer(PARTS) + layer(PARTS)
    whole = layer({name: part + part for name, part in PARTS.items()})
    np.testing.assert_allclose(halves, whole, rtol=1e-6)


def test_the_gradient_and_where_it_is_zero():
    graph, state = nnx.split(LearnedWeights({"number": 0.5, "class": 1.0}))
    total = lambda state: nnx.merge(graph, state)(PARTS).sum  # noqa: E731
    gradient = jax.grad(total)(state)["log_variances"][...]
    np.testing.assert_allclose(gradient, [-6 + 2, -0.5 + 1], rtol=1e-6)  # -f * sum + weight / 2, in order of name
    best = jax.tree.map(lambda x: jnp.log(jnp.array([2 * 1.5, 2 * 0.5 * 0.5])), state)  # exp(s) = 2 f loss
    np.testing.assert_allclose(jax.grad(total)(best)["log_variances"][...], 0.0, atol=1e-6)
    assert nnx.merge(graph, best).weights() == pytest.approx({"class": 1 / 3, "number": 1.0})


def asymmetric(level):
    """Of unit scale in the pinball loss; `scale` of scipy is that of its own definition."""
    skew = np.sqrt(level / (1 - level))
    return lambda e, scale: stats.laplace_asymmetric.logpdf(e, skew, scale=scale / np.sqrt(level * (1 - level)))


@pytest.mark.parametrize(
    ("objective", "logarithm", "scale", "share"),
    [
        (Numbers("squared"), lambda e, deviation: stats.norm.logpdf(e, scale=deviation), lambda s: np.exp(s / 2), 1.0),
        (Numbers("absolute"), lambda e, b: stats.laplace.logpdf(e, scale=b), lambda s: np.exp(s) / 2, 0.5),
        (Quantiles((0.2,)), asymmetric(0.2), lambda s: np.exp(s) / 2, 0.5),
    ],
    ids=["normal", "Laplace", "asymmetric Laplace"],
)
def test_the_least_over_s_is_where_the_errors_are_likeliest(objective, logarithm, scale, share):
    errors = np.random.default_rng(0).laplace(scale=0.7, size=50)
    loss = objective.sums(jnp.zeros((50, 1)), jnp.asarray(errors, jnp.float32), jnp.ones(50))["loss"]

    def total(s):
        return float(uncertainty_total({"x": loss}, {"x": s}, {"x": objective.likelihood_factor}).value())

    def surprise(s):
        return -float(logarithm(errors, scale(s)).mean())

    constant = total(0.0) - share * surprise(0.0)
    for s in (-1.0, 0.5, 2.0):
        assert total(s) == pytest.approx(share * surprise(s) + constant, abs=1e-5)
    best = optimize.minimize_scalar(surprise, (-1.0, 1.0)).x
    assert optimize.minimize_scalar(total, (-1.0, 1.0)).x == pytest.approx(best, abs=1e-3)
    assert objective.likelihood_factor * np.exp(-best) == pytest.approx(1 / (2 * float(loss.value())), rel=1e-4)
