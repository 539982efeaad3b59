"""The parts of a step add up to it, and timing them leaves the state as it is."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.config import OptimizerConfig
from jaxformer.training import breakdown
from jaxformer.training.breakdown import describe_parts, time_parts
from jaxformer.training.optimizer import make_optimizer
from jaxformer.training.state import create_state
from jaxformer.types import Batch, Mean, Sequences

OPTIMIZER = make_optimizer(OptimizerConfig(), 10)
SIDE = Sequences(*(jnp.ones((8, 4), dtype) for dtype in (jnp.int32, jnp.int32, jnp.int32, jnp.float32)))
BATCH = Batch(SIDE, SIDE)


def _loss(params, batch, seed):
    x = params["w"]
    for _ in range(8):
        x = jnp.tanh(x @ params["w"])
    loss = Mean(x.sum() * batch.source.weights.sum(), batch.source.weights.sum())
    return loss, {"loss": loss}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_parts_sum_to_the_step_and_the_state_is_left_alone(accumulate):
    state = create_state({"w": jnp.full((192, 192), 0.01)}, OPTIMIZER, seed=0, ema=True)
    before = np.asarray(state.params["w"]).copy()
    parts = time_parts(_loss, OPTIMIZER, state, BATCH, accumulate=accumulate, ema_decay=0.9, repeats=9)
    assert set(parts) == {"forward", "backward", "update", "step"}
    assert 0 < parts["forward"] < parts["step"]
    # Medians of differences: they sum to the median of the whole up to the noise of a round.
    assert sum(parts[name] for name in ("forward", "backward", "update")) == pytest.approx(parts["step"], rel=0.5)
    np.testing.assert_array_equal(np.asarray(state.params["w"]), before)
    assert int(jax.device_get(state.step)) == 0


def test_what_is_shorter_than_the_noise_is_no_negative_time(monkeypatch):
    # Rounds in which the program with the backward pass was faster than the one without.
    seconds = itertools.cycle([0.03, 0.02, 0.05])
    monkeypatch.setattr(breakdown, "_seconds", lambda program: next(seconds))
    parts = time_parts(_loss, OPTIMIZER, create_state({"w": jnp.ones((4, 4))}, OPTIMIZER, seed=0, ema=False), BATCH)
    assert parts == {"forward": 0.03, "backward": 0.0, "update": pytest.approx(0.03), "step": 0.05}
    assert "forward 30.0 ms (60%), backward within the noise, update 30.0 ms (60%)" in describe_parts(parts, BATCH)


def test_the_parts_are_told_with_their_shares():
    parts = {"forward": 0.02, "backward": 0.05, "update": 0.03, "step": 0.1}
    assert describe_parts(parts, BATCH) == (
        "a step on 8x(4+4) slots takes 100.0 ms: forward 20.0 ms (20%), backward 50.0 ms (50%), update 30.0 ms (30%)"
    )
