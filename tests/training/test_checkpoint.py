"""Checkpoints: exact round trips, retention, damage, and models that do not fit."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxformer.training.checkpoint import CheckpointError, Checkpoints
from jaxformer.training.leaves import digest, leaf_names
from jaxformer.training.state import TrainState, create_state

OPTIMIZER = optax.adam(1e-3)
WIDE = 2048
"""Wide enough that the largest file of a checkpoint holds arrays, and not their description."""


class Net(nnx.Module):
    def __init__(self, width: int = 8) -> None:
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(4, width, rngs=rngs), nnx.Linear(width, 4, rngs=rngs)])


def _state(width: int = 8, *, ema: bool = True, loss_scale: bool = False) -> TrainState:
    return create_state(nnx.state(Net(width), nnx.Param), OPTIMIZER, seed=7, ema=ema, loss_scale=loss_scale)


def _advanced(state: TrainState, by: int) -> TrainState:
    def move(leaf: jax.Array) -> jax.Array:
        return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf + jnp.asarray(by / 3, leaf.dtype)

    return jax.tree.map(move, state)


def _assert_equal(one: TrainState, other: TrainState) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def _largest_file(folder: Path) -> Path:
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


@pytest.fixture
def open_in(tmp_path):
    opened = []

    def open_(**options) -> Checkpoints:
        opened.append(Checkpoints(tmp_path / "checkpoints", **options))
        return opened[-1]

    yield open_
    for checkpoints in opened:
        checkpoints.close()


def test_every_leaf_and_every_float_comes_back_exactly(open_in):
    state, run = _advanced(_state(), 1), {"window": {"loss": [0.1 + 0.2, 1 / 3]}, "iterator": {"batch": 3}}
    checkpoints = open_in()
    checkpoints.save(5, state, run)
    checkpoints.close()
    restored, found = open_in().restore(_state())
    _assert_equal(restored, state)
    assert {name: found[name] for name in run} == run


def test_the_loss_scale_of_float16_comes_back(open_in):
    state = _advanced(_state(loss_scale=True), 2)
    checkpoints = open_in()
    checkpoints.save(5, state, {})
    checkpoints.wait()
    restored, _ = checkpoints.restore(_state(loss_scale=True))
    assert restored.loss_scale is not None
    _assert_equal(restored, state)
    with pytest.raises(ValueError, match=r"optimizer.loss_scale.good_steps of shape \(\) is there and not here"):
        checkpoints.restore(_state())


def test_a_checkpoint_that_is_replaced_stays_until_the_new_one_is_complete(open_in, tmp_path, monkeypatch):
    old, new = _advanced(_state(), 1), _advanced(_state(), 2)
    checkpoints = open_in(keep=1)
    checkpoints.save(5, old, {"evaluated": 0})

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED")

    checkpoints.wait()
    with monkeypatch.context() as broken:
        broken.setattr(checkpoints._manager, "save", full)
        with pytest.raises(CheckpointError, match="the disk is full; the ones before it are kept"):
            checkpoints.save(5, new, {"evaluated": 5}, replace=True)
    again = open_in(keep=1)
    found = again.restore(_state())
    _assert_equal(found[0], old)
    again.save(5, new, {"evaluated": 5}, {"validation/bleu": 1.0}, replace=True)
    restored, run = open_in(keep=1).restore(_state())
    _assert_equal(restored, new)
    assert run["evaluated"] == 5
    assert [entry.name for entry in (tmp_path / "checkpoints").iterdir() if entry.name.startswith("replaced")] == []


def test_the_state_may_be_donated_as_soon_as_save_returns(open_in):
    step = jax.jit(lambda state: _advanced(state, 3), donate_argnums=0)
    state = step(_state())
    wanted = jax.tree.map(jnp.copy, state)
    checkpoints = open_in()
    checkpoints.save(1, state, {})
    for _ in range(20):
        state = step(state)
    checkpoints.wait()
    _assert_equal(checkpoints.restore(_state())[0], wanted)


def test_no_checkpoint_is_none(open_in):
    assert open_in().restore(_state()) is None


def test_the_newest_and_the_best_stay_even_after_a_restart(open_in):
    scores = {20: 9.0, 30: 2.0}
    checkpoints = open_in(keep=1, best_metric="validation/bleu")
    for step, score in scores.items():
        checkpoints.save(step, _state(), {}, {"validation/bleu": score})
    checkpoints.close()
    again = open_in(keep=1, best_metric="validation/bleu")
    again.save(40, _state(), {})
    again.wait()
    assert again.steps() == [20, 40]
    assert again.best_step() == 20


def test_orbax_is_told_which_stay(open_in):
    checkpoints = open_in(keep=1, average=3, period=10)
    infos = [SimpleNamespace(step=step) for step in (10, 13, 20, 25, 30, 31, 40, 44)]
    stay = checkpoints.should_preserve(infos, context=None)
    assert [info.step for info, stays in zip(infos, stay, strict=True) if stays] == [30, 40, 44]


@pytest.mark.parametrize("damage", ["cut", "flipped", "removed"])
def test_a_damaged_newest_checkpoint_is_put_aside_for_the_one_before(open_in, tmp_path, caplog, damage):
    checkpoints = open_in()
    states = {step: _advanced(_state(WIDE), step) for step in (1, 2)}
    for step, state in states.items():
        checkpoints.save(step, state, {})
    checkpoints.wait()
    file = _largest_file(tmp_path / "checkpoints" / "2" / "params")
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "removed":
        file.unlink()
    else:
        content[len(content) * 3 // 4] ^= 0xFF
        file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        restored, _ = open_in().restore(_state(WIDE))
    _assert_equal(restored, states[1])
    assert "checkpoint of step 2 is damaged (" in caplog.text
    assert (tmp_path / "checkpoints" / "damaged-2").is_dir()
    again = open_in()
    again.save(2, states[2], {})
    again.wait()
    assert again.steps() == [1, 2]


def test_only_damaged_checkpoints_are_an_error_and_not_a_fresh_start(open_in, tmp_path):
    checkpoints = open_in()
    checkpoints.save(1, _state(WIDE), {})
    checkpoints.wait()
    _largest_file(tmp_path / "checkpoints" / "1" / "params").unlink()
    for _ in range(2):  # none is put aside: a disk that fails for a moment must not cost every checkpoint
        with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read \(step 1: "):
            checkpoints.restore(_state(WIDE))


def test_another_shape_is_refused_naming_the_first_leaf_and_both_shapes(open_in):
    checkpoints = open_in()
    checkpoints.save(4, _state(8), {})
    checkpoints.wait()
    message = r"step 4 .* another model: params.layers.0.bias has shape \(8,\) there and shape \(16,\) here"
    with pytest.raises(ValueError, match=message):
        checkpoints.restore(_state(16))
    with pytest.raises(ValueError, match=r"ema.layers.0.bias has shape \(8,\) there and shape \(16,\) here"):
        checkpoints.restore_params(4, _state(16).params)
    assert checkpoints.steps() == [4], "a checkpoint of another model is not a damaged one"


def test_a_missing_or_extra_leaf_is_named(open_in):
    checkpoints = open_in()
    checkpoints.save(4, _state(ema=False), {})
    checkpoints.wait()
    with pytest.raises(ValueError, match=r"ema.layers.0.bias is not in it and shape \(8,\) here"):
        checkpoints.restore(_state(ema=True))


def test_the_moving_average_is_what_is_evaluated(open_in):
    state = _state()
    average = jax.tree.map(lambda leaf: leaf + 1, state.params)
    checkpoints = open_in()
    checkpoints.save(1, TrainState(state.step, state.params, average, state.opt_state, state.key), {})
    checkpoints.wait()
    found = checkpoints.restore_params(1, state.params)
    for name, leaf in leaf_names(found).items():
        np.testing.assert_array_equal(leaf, leaf_names(average)[name])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write a checkpoint to .*file/checkpoints"):
        Checkpoints(tmp_path / "file" / "checkpoints")


def test_a_full_disk_is_told_in_one_sentence_without_the_stack_traces_of_orbax(open_in, monkeypatch, caplog):
    checkpoints = open_in()

    def full() -> None:
        # What Orbax's threads do on a full tmpfs: they log the exception, and `wait_until_finished` raises it.
        try:
            raise ValueError('RESOURCE_EXHAUSTED: Error writing "key/0" in OCDBT database at local file "w/40"')
        except ValueError as error:
            record = logging.LogRecord("absl", logging.ERROR, "orbax/checkpoint/x.py", 1, "failed", (), sys.exc_info())
            logging.getLogger("absl").handle(record)
            raise error

    monkeypatch.setattr(checkpoints._manager, "wait_until_finished", full)
    with pytest.raises(CheckpointError, match="the disk is full; the ones before it are kept: free some space, then"):
        checkpoints.wait()
    assert not caplog.records
    monkeypatch.undo()


def test_a_checksum_notices_one_bit_and_two_exchanged_words():
    values = np.arange(12, dtype=np.float32)
    flipped, exchanged = values.copy(), values.copy()
    flipped.view(np.uint32)[5] ^= 1
    exchanged[[2, 9]] = exchanged[[9, 2]]
    sums = [digest({"a": {"x": jnp.asarray(v)}})[1]["a"]["x"] for v in (values, values.copy(), flipped, exchanged)]
    assert sums[0] == sums[1]
    assert len(set(sums)) == 3


def test_a_checksum_notices_one_bit_of_float64():
    with jax.enable_x64(True):
        before, after = (jnp.array([1.0, value], jnp.float64) for value in (2.0, 2.0 + 2**-51))
        assert before.dtype == jnp.float64
        found = [digest({"params": {"x": x}})[1]["params"]["x"] for x in (before, after)]
    assert found[0] != found[1]
