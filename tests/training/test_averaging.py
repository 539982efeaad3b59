"""Which parameters are evaluated when a checkpoint of a finished run is damaged."""

import logging

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxformer.config import TrainingConfig
from jaxformer.training.averaging import select_params
from jaxformer.training.checkpoint import CheckpointError, Checkpoints
from jaxformer.training.state import create_state

NOISE = np.random.default_rng(0).normal(size=8192).astype(np.float32)
"""So many values, which cannot be compressed, that the largest file of a checkpoint holds them, not a description."""


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path, best_metric="validation/bleu", keep=3)
    for step, bleu in ((1, 10.0), (2, 30.0), (3, 20.0)):
        state = create_state({"w": jnp.asarray(step + NOISE)}, optax.sgd(1.0), seed=0, ema=False)
        opened.save(step, state, {}, {"validation/bleu": bleu})
    opened.wait()
    yield opened
    opened.close()


def _step_of(params):
    """The step whose parameters, or the mean step of whose parameters, these are."""
    values = np.asarray(params["w"]) - NOISE
    np.testing.assert_allclose(values, round(float(values.mean())), atol=1e-5)
    return round(float(values.mean()))


def _damage(folder):
    max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size).unlink()


def test_the_last_checkpoints_are_averaged_where_there_are_more(checkpoints):
    config = TrainingConfig(average_checkpoints=2, checkpoint_every=1)
    params, described = select_params(checkpoints, config, {"w": jnp.zeros(len(NOISE))})
    np.testing.assert_allclose(params["w"], 2.5 + NOISE, atol=1e-5)
    assert described == "the mean of the checkpoints of steps 2, 3"


def test_the_newest_readable_one_takes_the_place_of_a_damaged_best(checkpoints, tmp_path, caplog):
    template = {"w": jnp.zeros(len(NOISE))}
    params, described = select_params(checkpoints, TrainingConfig(), template)
    assert (_step_of(params), described) == (2, "the parameters of step 2, best validation/bleu")
    _damage(tmp_path / "2" / "params")
    with caplog.at_level(logging.WARNING):
        params, described = select_params(checkpoints, TrainingConfig(), template)
    assert (_step_of(params), described) == (3, "the parameters of step 3, in place of step 2")
    assert "the checkpoint of step 2" in caplog.text
    assert "cannot be read" in caplog.text

    config = TrainingConfig(average_checkpoints=3, checkpoint_every=1)
    params, described = select_params(checkpoints, config, template)
    assert (_step_of(params), described) == (2, "the mean of the checkpoints of steps 1, 3")

    for step in (1, 3):
        _damage(tmp_path / str(step) / "params")
    for each in (TrainingConfig(), config):
        with pytest.raises(CheckpointError, match="cannot be read"):
            select_params(checkpoints, each, template)
