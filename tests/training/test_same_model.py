"""A checkpoint of another model is refused by what it says of its arrays, before any is read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jaxformer.training.same_model import FORMAT, OtherModelError, check_model, shapes

ITEMS = {"params": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}, "optimizer": {"step": np.zeros(())}}


def _run(**changes):
    """What a checkpoint of `ITEMS` says, after a way through JSON."""
    return json.loads(json.dumps({"format": FORMAT, "leaves": shapes(ITEMS)})) | changes


def test_the_same_arrays_are_taken_and_so_is_a_part_of_the_items():
    check_model(_run(), ITEMS, "it")
    check_model(_run(), {"params": ITEMS["params"]}, "it")


@pytest.mark.parametrize("run", [_run(format=FORMAT + 1), {"leaves": shapes(ITEMS)}])  # without one: the first
def test_parameters_that_mean_something_else_are_refused(run):
    with pytest.raises(OtherModelError, match=r"^it was written by another version of jaxformer, .* use that version"):
        check_model(run, ITEMS, "it")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"kernel": (2, 4), "bias": (3,)}, r"params\.kernel has shape \(2, 3\) there and shape \(2, 4\) here; give"),
        ({"kernel": (2, 3), "bias": (3,), "scale": (3,)}, r"params\.scale is not in it and shape \(3,\) here"),
        ({"kernel": (2, 3)}, r"params\.bias of shape \(3,\) is there and not here"),
    ],
)
def test_the_first_array_that_differs_is_named(params, words):
    here = {"params": {name: np.zeros(shape) for name, shape in params.items()}}
    with pytest.raises(OtherModelError, match=f"^it is of another model: {words}"):
        check_model(_run(), here, "it")
