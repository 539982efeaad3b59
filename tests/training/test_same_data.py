"""A run continues on the data it began with, or says why not."""

from __future__ import annotations

import json

import pytest

from jaxformer.training.same_data import check_same_data
from jaxformer.training.workdir import Workdir

DATA = [20, 123456]


def test_the_same_data_are_accepted_after_a_way_through_json(tmp_path):
    check_same_data(json.loads(json.dumps(DATA)), DATA, Workdir(tmp_path))


@pytest.mark.parametrize("before", [[20, 654321], [21, 123456], None])
def test_other_data_are_refused_with_the_way_out(tmp_path, before):
    with pytest.raises(ValueError, match=r"training data has changed.*--workdir"):
        check_same_data(before, DATA, Workdir(tmp_path))
