"""Optimizers and schedules against formulas computed by hand in numpy, and against torch where it has the same one."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxformer.config import OptimizerConfig
from jaxformer.training.optimizer import decay_mask, make_optimizer, make_schedule


def _rates(steps: list[int], num_steps: int = 100, **fields) -> list[float]:
    schedule = make_schedule(OptimizerConfig(learning_rate=2.0, warmup_steps=10, **fields), num_steps)
    return [float(schedule(step - 1)) for step in steps]


def test_every_schedule_warms_up_linearly_to_the_peak():
    for name in ("inverse_sqrt", "cosine", "linear", "constant"):
        np.testing.assert_allclose(_rates([1, 5, 10], schedule=name), [0.2, 1.0, 2.0], rtol=1e-6)


def test_inverse_sqrt_is_equation_3_of_the_paper():
    # lrate = d^-0.5 min(step^-0.5, step warmup^-1.5), scaled so that its peak at step = warmup is learning_rate.
    steps = [1, 9, 10, 11, 40, 90]
    noam = [min(step**-0.5, step * 10**-1.5) for step in steps]
    np.testing.assert_allclose(_rates(steps, schedule="inverse_sqrt"), [2.0 * n / 10**-0.5 for n in noam], rtol=1e-6)


def test_cosine_and_linear_end_at_the_end_factor():
    half = 2.0 * (0.1 + 0.9 * 0.5)
    np.testing.assert_allclose(_rates([55, 100, 150], schedule="cosine", end_factor=0.1), [half, 0.2, 0.2], rtol=1e-5)
    np.testing.assert_allclose(_rates([55, 100, 150], schedule="linear", end_factor=0.1), [half, 0.2, 0.2], rtol=1e-5)
    quarter = 2.0 * 0.5 * (1 + math.cos(math.pi / 4))
    np.testing.assert_allclose(_rates([28], num_steps=82, schedule="cosine"), [quarter], rtol=1e-5)


def test_no_warm_up_starts_at_the_peak():
    for name in ("inverse_sqrt", "cosine", "linear", "constant"):
        schedule = make_schedule(OptimizerConfig(learning_rate=3.0, warmup_steps=0, schedule=name), 1000)
        assert float(schedule(0)) == pytest.approx(3.0, rel=2e-3)


def test_a_traced_count_gives_the_same_rate_as_a_host_number():
    for name in ("inverse_sqrt", "cosine", "linear", "constant"):
        schedule = make_schedule(OptimizerConfig(warmup_steps=7, schedule=name, end_factor=0.2), 50)
        assert isinstance(schedule(3), np.generic | np.ndarray)
        for count in (0, 6, 7, 30, 60):
            np.testing.assert_allclose(jax.jit(schedule)(jnp.int32(count)), schedule(count), rtol=1e-6)


PARAMS = {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]], np.float32), "bias": np.array([0.3, -0.1], np.float32)}
GRADIENTS = [
    {"kernel": np.array([[0.1, -0.4], [2.0, 0.3]], np.float32) * s, "bias": np.array([1.0, -0.2], np.float32) * t}
    for s, t in ((1.0, 1.0), (-0.5, 2.0), (3.0, 0.1))
]


def _run(**fields) -> dict[str, np.ndarray]:
    config = OptimizerConfig(**{"learning_rate": 0.1, "schedule": "constant", "warmup_steps": 0} | fields)
    optimizer = make_optimizer(config, 10)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params)
    for gradient in GRADIENTS:
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, gradient), state, params)
        params = optax.apply_updates(params, updates)
    return params


def _by_torch(make) -> dict[str, np.ndarray]:
    torch = pytest.importorskip("torch", reason="torch is the benchmark extra")
    params = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in PARAMS.items()}
    optimizer = make(torch.optim, [{"params": [params["kernel"]]}, {"params": [params["bias"]], "weight_decay": 0.0}])
    for gradient in GRADIENTS:
        for name, value in gradient.items():
            params[name].grad = torch.tensor(value)
        optimizer.step()
    return {name: value.detach().numpy() for name, value in params.items()}


@pytest.mark.parametrize("case", ["adam", "adamw", "sgd", "rmsprop"])
def test_three_steps_equal_torch(case):
    ours, theirs = {
        "adam": (
            {"name": "adam", "b2": 0.98, "eps": 1e-6},
            lambda o, p: o.Adam(p, lr=0.1, betas=(0.9, 0.98), eps=1e-6, foreach=False),
        ),
        "adamw": (
            {"name": "adamw", "b2": 0.98, "eps": 1e-6, "weight_decay": 0.2},
            lambda o, p: o.AdamW(p, lr=0.1, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, foreach=False),
        ),
        "sgd": (
            {"name": "sgd", "momentum": 0.8},
            lambda o, p: o.SGD(p, lr=0.1, momentum=0.8, foreach=False),
        ),
        "rmsprop": (
            {"name": "rmsprop", "b2": 0.97, "eps": 1e-4, "momentum": 0.5},
            lambda o, p: o.RMSprop(p, lr=0.1, alpha=0.97, eps=1e-4, momentum=0.5, foreach=False),
        ),
    }[case]
    expected = _by_torch(theirs)
    got = _run(**ours)
    for name in PARAMS:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6)


def test_lion_follows_algorithm_2_of_its_paper():
    expected = {}
    for name, value in PARAMS.items():
        decay = 0.5 if name == "kernel" else 0.0
        momentum, value = np.zeros_like(value), value.copy()
        for gradient in GRADIENTS:
            direction = np.sign(0.9 * momentum + 0.1 * gradient[name])
            value = value - 0.1 * (direction + decay * value)
            momentum = 0.95 * momentum + 0.05 * gradient[name]
        expected[name] = value
    got = _run(name="lion", b1=0.9, b2=0.95, weight_decay=0.5)
    for name in PARAMS:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6)


def test_adafactor_follows_its_paper_on_a_factored_matrix():
    # Shazeer and Stern 2018, algorithm 4, one step: beta2 = 1 - t^-0.8 is 0 at t = 1.
    generator = np.random.default_rng(0)
    value = generator.normal(size=(128, 160)).astype(np.float32)
    gradient = generator.normal(size=(128, 160)).astype(np.float32)
    square = gradient.astype(np.float64) ** 2 + 1e-30
    rows, columns = square.mean(1), square.mean(0)
    direction = gradient / np.sqrt(np.outer(rows, columns) / rows.mean())
    direction = direction / max(1.0, np.sqrt((direction**2).mean()) / 1.0)
    expected = value - 0.01 * max(1e-3, np.sqrt((value.astype(np.float64) ** 2).mean())) * direction
    config = OptimizerConfig(name="adafactor", learning_rate=0.01, schedule="constant", warmup_steps=0)
    optimizer = make_optimizer(config, 10)
    state = optimizer.init(jnp.asarray(value))
    assert max(leaf.size for leaf in jax.tree.leaves(state)) <= 160, "the second moment of a matrix must be factored"
    updates, _ = optimizer.update(jnp.asarray(gradient), state, jnp.asarray(value))
    np.testing.assert_allclose(value + updates, expected, rtol=1e-5, atol=1e-6)


def test_clipping_scales_the_whole_gradient_before_the_update():
    got = _run(name="sgd", momentum=0.0, clip_norm=0.5)
    expected = {name: value.copy() for name, value in PARAMS.items()}
    for gradient in GRADIENTS:
        norm = math.sqrt(sum(float((value.astype(np.float64) ** 2).sum()) for value in gradient.values()))
        for name in expected:
            expected[name] = expected[name] - 0.1 * gradient[name] * min(1.0, 0.5 / norm)
    for name in PARAMS:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "adafactor", "lion"])
def test_decay_is_decoupled_and_spares_biases_for_every_optimizer(name):
    """With a gradient of zero, what is left of a step is `-learning_rate * weight_decay * parameter`."""
    config = OptimizerConfig(name=name, learning_rate=0.1, schedule="constant", warmup_steps=0, weight_decay=0.5)
    optimizer = make_optimizer(config, 10)
    params = jax.tree.map(jnp.asarray, PARAMS)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.05 * PARAMS["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], np.zeros(2, np.float32))


def test_mask_goes_by_name_so_that_scanned_biases_are_spared():
    params = {
        "layers": {"kernel": np.zeros((4, 2, 2)), "bias": np.zeros((4, 2)), "norm": {"scale": np.zeros((4, 2))}},
        "embedding": np.zeros((5, 2)),
        "position_embedding": np.zeros((7, 2)),
        "vector": np.zeros(3),
    }
    assert decay_mask(params) == {
        "layers": {"kernel": True, "bias": False, "norm": {"scale": False}},
        "embedding": True,
        "position_embedding": False,
        "vector": False,
    }
