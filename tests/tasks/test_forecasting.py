"""Forecasting: it continues sines, with quantiles that are where they should be."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxformer.nn.reversible import in_own_units
from jaxformer.tasks.forecasting import ForecastingTask
from jaxformer.tasks.objectives import Classes, Numbers, Quantiles
from jaxformer.tasks.task import Task
from jaxformer.types import LabelledBatch, RowLabels, Series
from tests.tasks.learning import learn, small

PATCHES, LENGTH, HORIZON = 6, 4, 5


def _sines(number, noise=0.0):
    """Six patches of four steps of a sine, and the five steps after them, of which the last is not always known."""
    random = np.random.default_rng(number)
    period, phase = random.uniform(8, 16, (64, 1)), random.uniform(0, 2 * np.pi, (64, 1))
    steps = np.sin(2 * np.pi * np.arange(PATCHES * LENGTH + HORIZON) / period + phase)
    past = steps[:, : PATCHES * LENGTH].reshape(64, PATCHES, LENGTH).astype(np.float32)
    wanted = (steps[:, PATCHES * LENGTH :] + noise * random.normal(size=(64, HORIZON))).astype(np.float32)
    weights = np.ones_like(wanted)
    weights[::2, -1], wanted[::2, -1] = 0.0, np.nan
    positions = np.tile(np.arange(PATCHES, dtype=np.int32), (64, 1))
    return LabelledBatch(Series(past, positions, np.ones_like(positions)), {"sine": RowLabels(wanted, weights)})


def _task(*objectives, **settings):
    names = ("sine", "movement")[: len(objectives)]
    return ForecastingTask(
        small(position="learned"),
        dict(zip(names, objectives, strict=True)),
        patch_length=LENGTH,
        num_patches=PATCHES,
        horizon=HORIZON,
        **settings,
    )


def test_a_sine_is_continued():
    task = _task(Numbers("huber"))
    assert isinstance(task, Task)
    before, after = learn(task, _sines, 300)
    assert before["mse"] > 0.4
    assert after["mse"] < 0.02


def test_a_linear_map_of_the_past_is_added_in_units_of_the_row():
    inputs = _sines(0).inputs
    task, plain = (_task(Numbers("squared"), reversible=True, linear_skip=skip) for skip in (True, False))
    params, without = task.init_params(0), plain.init_params(0)
    kernel = np.random.default_rng(0).normal(size=(PATCHES * LENGTH, HORIZON)).astype(np.float32)
    assert not np.asarray(params["heads"]["sine"]["skip"][...]).any()
    params["heads"]["sine"]["skip"][...] = kernel
    own, units = in_own_units(inputs)
    added = own.values.reshape(64, -1) @ kernel * units.deviation[:, 0]
    found, expected = task.predict(params, inputs)["sine"], plain.predict(without, inputs)["sine"]
    np.testing.assert_allclose(found[..., 0], expected[..., 0] + added, atol=1e-3)


def test_quantiles_cover_their_share():
    _, after = learn(_task(Quantiles((0.1, 0.5, 0.9))), lambda number: _sines(number, 0.3), 300)
    for level in (0.1, 0.5, 0.9):
        assert abs(after[f"below_{level}"] - level) < 0.1


def test_a_series_in_other_units_is_forecast_in_these():
    task = _task(Quantiles((0.1, 0.9)), Classes(3), reversible=True)
    params, inputs = task.init_params(0), _sines(0).inputs
    found = task.predict(params, inputs)
    other = task.predict(params, dataclasses.replace(inputs, values=100 + 5 * inputs.values))
    np.testing.assert_allclose(other["sine"], 100 + 5 * found["sine"], rtol=1e-4)
    np.testing.assert_allclose(other["movement"], found["movement"], atol=1e-4)  # of classes there are no units
    plain = _task(Quantiles((0.1, 0.9)), Classes(3))
    assert np.abs(plain.predict(params, inputs)["sine"] - found["sine"]).max() > 0.01


def test_own_units_are_those_of_what_is_not_padding():
    values = np.random.default_rng(0).normal(3, 2, (2, 4, 3)).astype(np.float32)
    segments = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], np.int32)
    values[0, 3] = np.nan
    own, units = in_own_units(Series(values, segments, segments))
    for row, length in enumerate((3, 4)):
        real = values[row, :length].astype(np.float64)
        np.testing.assert_allclose(own.values[row, :length], (real - real.mean()) / real.std(), atol=1e-5)
        np.testing.assert_allclose(units.restored(own.values)[row, :length], real, rtol=1e-5)
    assert not np.asarray(own.values[0, 3]).any()
