"""A run continues on the batches it began with, or says why not."""

from __future__ import annotations

import json

import pytest

from jaxformer.training.session import check_same_batches
from jaxformer.training.workdir import Workdir

BATCHES = {"data": [20, 123456], "shapes": [[8, 16, 16], [4, 32, 32]]}


def test_the_same_batches_are_accepted_after_a_way_through_json(tmp_path):
    check_same_batches(json.loads(json.dumps(BATCHES)), BATCHES, Workdir(tmp_path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"data": [20, 654321]}, "training data has changed"), ({"shapes": [[7, 16, 16]]}, "had other shapes")],
)
def test_other_batches_are_refused_with_the_way_out(tmp_path, changed, message):
    with pytest.raises(ValueError, match=rf"{message}.*--workdir"):
        check_same_batches(BATCHES, BATCHES | changed, Workdir(tmp_path))
