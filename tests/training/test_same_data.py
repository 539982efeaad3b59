"""A run continues on the data it began with, or says why not."""

from __future__ import annotations

import json

import pytest

from jaxformer.training.same_data import check_same_data
from jaxformer.training.workdir import Workdir

DATA = [20, 123456, 789]


def test_the_same_data_are_accepted_after_a_way_through_json(tmp_path):
    check_same_data(json.loads(json.dumps(DATA)), DATA, Workdir(tmp_path))


def test_a_run_that_kept_no_checksum_of_its_tokens_goes_on(tmp_path):
    check_same_data(DATA[:2], DATA, Workdir(tmp_path))


@pytest.mark.parametrize("before", [[20, 654321, 789], [21, 123456, 789], [20, 123456, 987], [20, 654321], None])
def test_other_data_are_refused_with_the_way_out(tmp_path, before):
    with pytest.raises(ValueError, match=r"training data has changed.*--workdir"):
        check_same_data(before, DATA, Workdir(tmp_path))
