"""The step: accumulation is exact under unequal micro-batches, the average and the randomness are as stated."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxformer.config import Config, MeshConfig, replace
from jaxformer.parallel.mesh import make_layout
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training.hooks import StopAtSkips, TrainingDiverged
from jaxformer.training.loss_scale import LossScale
from jaxformer.training.planner.share import abstract_layout
from jaxformer.training.state import create_state
from jaxformer.training.step import _slots, make_train_step
from jaxformer.types import Batch, Mean, Sequences

RNG = np.random.default_rng(0)


def _side():
    tokens = RNG.integers(0, 5, (8, 3)).astype(np.int32)
    # Rows of very different weight: a mean of micro-batch means would be far off.
    weights = (np.arange(3)[None] < np.array([3, 0, 1, 3, 0, 0, 2, 1])[:, None]).astype(np.float32)
    return Sequences(tokens, np.zeros_like(tokens), np.ones_like(tokens), weights)


BATCH = Batch(_side(), _side())
PARAMS = {"w": jnp.arange(5.0)}


def _loss(params, batch, seed):
    error = (params["w"][batch.target.tokens] - 1.0) ** 2 * batch.target.weights
    loss = Mean(error.sum(), batch.target.weights.sum())
    return loss, {"loss": loss, "seed": Mean(seed.astype(jnp.float32).sum(), jnp.ones(()))}


def _run(accumulate=1, ema_decay=0.0, steps=1, learning_rate=0.1):
    optimizer = optax.sgd(learning_rate)
    state = create_state(PARAMS, optimizer, seed=0, ema=bool(ema_decay))
    step = make_train_step(_loss, optimizer, accumulate=accumulate, ema_decay=ema_decay)
    metrics = []
    for _ in range(steps):
        state, one = step(state, BATCH)
        metrics.append({name: mean.value() for name, mean in one.items()})
    return state, metrics


def _gradient_by_hand():
    weights, tokens = BATCH.target.weights, BATCH.target.tokens
    gradient = np.zeros(5)
    for token, weight in zip(tokens.ravel(), weights.ravel(), strict=True):
        gradient[token] += weight * 2 * (token - 1.0)
    return gradient / weights.sum()


@pytest.mark.parametrize("accumulate", [1, 2, 4, 8])
def test_gradient_is_divided_once_by_the_global_weight(accumulate):
    state, metrics = _run(accumulate)
    gradient = _gradient_by_hand()
    np.testing.assert_allclose(state.params["w"], np.arange(5.0) - 0.1 * gradient, rtol=1e-6)
    np.testing.assert_allclose(metrics[0]["grad_norm"], np.linalg.norm(gradient), rtol=1e-6)
    np.testing.assert_allclose(metrics[0]["loss"], _run(1)[1][0]["loss"], rtol=1e-6)
    assert int(state.step) == 1


def test_every_step_and_row_draws_another_seed_whatever_the_micro_batches():
    seen = {}
    for accumulate in (1, 4):

        def loss(params, batch, seeds):
            rows = batch.source.positions[:, 0]  # numbered below
            placed = jnp.zeros(8, jnp.uint32).at[rows].set(seeds)
            return _loss(params, batch, seeds)[0], {"low": Mean((placed % 65536).astype(jnp.float32), jnp.ones(())),
                                                    "high": Mean((placed // 65536).astype(jnp.float32), jnp.ones(()))}

        numbered = dataclasses.replace(BATCH.source, positions=np.repeat(np.arange(8, dtype=np.int32)[:, None], 3, 1))
        batch = dataclasses.replace(BATCH, source=numbered)
        optimizer = optax.sgd(0.1)
        step = make_train_step(loss, optimizer, accumulate=accumulate)
        state, found = create_state(PARAMS, optimizer, seed=0, ema=False), []
        for _ in range(3):
            state, metrics = step(state, batch)
            found.append(65536 * np.asarray(metrics["high"].sum, np.int64) + np.asarray(metrics["low"].sum, np.int64))
        seen[accumulate] = np.stack(found)
    assert len(np.unique(seen[1])) == 24
    np.testing.assert_array_equal(seen[1], seen[4])


def test_moving_average_follows_its_formula():
    state, _ = _run(ema_decay=0.5, steps=4)
    expected = values = np.arange(5.0)
    for step in range(4):
        single, _ = _run(steps=step + 1)
        values = np.asarray(single.params["w"])
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * values
    np.testing.assert_allclose(state.ema["w"], expected, rtol=1e-6)


def test_the_state_is_donated():
    optimizer = optax.adam(0.1)
    state = create_state(PARAMS, optimizer, seed=0, ema=True)
    step = make_train_step(_loss, optimizer, ema_decay=0.9)
    compiled = step.lower(state, BATCH).compile()
    arrays = [state.params, state.ema, state.opt_state]
    aliased = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
    assert compiled.memory_analysis().alias_size_in_bytes >= aliased


def test_an_empty_batch_changes_nothing_but_the_step():
    empty = jax.tree.map(np.zeros_like, BATCH)
    optimizer = optax.sgd(0.1)
    state, metrics = make_train_step(_loss, optimizer)(create_state(PARAMS, optimizer, seed=0, ema=False), empty)
    np.testing.assert_array_equal(state.params["w"], PARAMS["w"])
    assert float(metrics["loss"].weight) == 0.0


def test_a_loss_scale_changes_not_a_bit_of_a_finite_step():
    optimizer = optax.adam(0.1)
    step = make_train_step(_loss, optimizer, ema_decay=0.9)
    plain, expected = step(create_state(PARAMS, optimizer, seed=0, ema=True), BATCH)
    state, metrics = step(create_state(PARAMS, optimizer, seed=0, ema=True, loss_scale=True), BATCH)
    jax.tree.map(np.testing.assert_array_equal, (state.params, state.ema), (plain.params, plain.ema))
    jax.tree.map(np.testing.assert_array_equal, {name: metrics[name] for name in expected}, expected)
    assert metrics["skipped"].value() == 0.0
    assert metrics["loss_scale"].value() == 2.0**15
    assert int(state.loss_scale.good_steps) == 1


def test_an_infinite_gradient_changes_the_loss_scale_alone():
    def overflowing(params, batch, seed):
        loss, metrics = _loss(params, batch, seed)
        return Mean(loss.sum * 1e36, loss.weight), metrics  # times the scale, more than float32 holds

    optimizer = optax.adam(0.1)
    state = create_state(PARAMS, optimizer, seed=0, ema=True, loss_scale=True)
    before = jax.tree.map(np.asarray, (state.params, state.ema, state.opt_state))
    state, metrics = make_train_step(overflowing, optimizer, ema_decay=0.9)(state, BATCH)
    jax.tree.map(np.testing.assert_array_equal, (state.params, state.ema, state.opt_state), before)
    assert int(state.step) == 1
    assert float(state.loss_scale.scale) == 2.0**14
    assert metrics["skipped"].value() == 1.0
    assert float(metrics["loss"].weight) == float(metrics["grad_norm"].weight) == 0.0


def test_the_loss_scale_grows_after_enough_finite_steps_and_never_falls_below_one():
    scale = LossScale.create()
    for _ in range(1999):
        scale = scale.adjusted(jnp.bool_(True))
    assert float(scale.scale) == 2.0**15
    scale = scale.adjusted(jnp.bool_(True))
    assert (float(scale.scale), int(scale.good_steps)) == (2.0**16, 0)
    for _ in range(40):
        scale = scale.adjusted(jnp.bool_(False))
    assert float(scale.scale) == 1.0


class _Sizes:
    source_vocabulary_size = target_vocabulary_size = 40


def _first_step(precision):
    sizes = {"d_model": 32, "d_ff": 64, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1}
    task = TranslationTask(replace(Config(), {"precision": precision, "model": sizes}), _Sizes())
    tokens = np.random.default_rng(0).integers(4, 40, (128, 64)).astype(np.int32)
    positions, ones = np.broadcast_to(np.arange(64, dtype=np.int32), tokens.shape), np.ones_like(tokens)
    side = Sequences(tokens, positions, ones, ones.astype(np.float32))
    optimizer = optax.sgd(0.1)
    state = create_state(task.init_params(0), optimizer, seed=0, ema=False, loss_scale=precision == "fp16")
    return make_train_step(task.loss_function, optimizer, accumulate=2)(state, Batch(side, side))[1]


def test_gradients_summed_over_thousands_of_tokens_do_not_overflow_float16_in_the_first_step():
    half, full = map(_first_step, ("fp16", "fp32"))
    assert half["skipped"].value() == 0.0
    assert half["loss_scale"].value() == 2.0**15
    assert half["grad_norm"].value() == pytest.approx(full["grad_norm"].value(), rel=5e-3)


def test_the_scale_of_a_sum_is_smaller_by_the_slots_rounded_up_to_a_power_of_two():
    scale = LossScale.create()
    found = [float(scale.of_sum(slots)) for slots in (1, 2, 3, 4096, 4097)]
    assert found == [2.0**15, 2.0**14, 2.0**13, 2.0**3, 2.0**2]


def test_slots_are_those_of_a_micro_batch_on_a_device():
    assert _slots(BATCH, 1, None) == 24
    assert _slots(BATCH, 4, make_layout(MeshConfig(data=1))) == 6
    longer = jax.tree.map(lambda x: np.repeat(x, 4, axis=1), BATCH.target)
    assert _slots(Batch(BATCH.source, longer), 2, abstract_layout(2, 1, 2, 1)) == 2 * 6
    assert _slots(np.zeros(8), 1, None) == 8  # rows of a single number


def test_too_many_skips_in_a_row_end_training_naming_the_steps():
    hook, one = StopAtSkips(), np.float32(1)
    skipped = {"skipped": Mean(one, one), "loss_scale": Mean(one, one)}
    taken = skipped | {"skipped": Mean(np.float32(0), one)}
    for step in range(1, 30):
        hook(step, skipped, None)
    hook(30, taken, None)  # one good step in between
    for step in range(31, 60):
        hook(step, skipped, None)
    with pytest.raises(TrainingDiverged, match="steps 31 to 60 were all infinite"):
        hook(60, skipped, None)
    StopAtSkips()(1, {"loss": Mean(one, one)}, None)  # other precisions know no skips


def test_the_learning_rate_follows_the_steps_counted_and_not_those_taken():
    optimizer = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(lambda count: 0.1 / (1 + count)))
    step = make_train_step(_loss, optimizer)
    state = create_state(PARAMS, optimizer, seed=0, ema=False, loss_scale=True)
    poisoned = jax.tree.map(np.copy, BATCH)
    poisoned.target.weights[:] = np.inf
    for batch in (BATCH, poisoned, poisoned, BATCH):
        state, _ = step(state, batch)
    adam, schedule = state.opt_state
    assert int(adam.count) == 2
    assert int(schedule.count) == int(state.step) == 4
