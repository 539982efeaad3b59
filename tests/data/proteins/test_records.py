"""Chains as records: which residues count, for which of their labels."""

import numpy as np

from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.folded import Folded
from jaxformer.data.proteins.records import records_of


def test_a_residue_counts_where_it_is_scored_and_its_label_is_known():
    areas = np.array([0.1, np.nan, 0.3, 0.4, np.nan], np.float32)
    scored = np.array([True, True, False, True, True])
    whole = Chain("a", "ACDEF", "HHECC", "HGECC", areas, scored)
    plain = Chain("b", "AC", "EC")
    records, _ = records_of([whole, plain], ["ss3", "ss8", "rsa"], max_length=10)
    assert records.labels["ss3"].weights.tolist() == [1, 1, 0, 1, 1, 1, 1]
    assert records.labels["ss8"].weights.tolist() == [1, 1, 0, 1, 1, 0, 0]
    assert records.labels["rsa"].weights.tolist() == [1, 0, 0, 1, 0, 0, 0]
    assert np.isfinite(records.labels["rsa"].values).all()


def test_confidence_is_told_in_tenths_rounded_down():
    shares = np.array([[0.39, 0.31, 0.30], [0.02, 0.98, 0.0], [0.0, 0.0, 1.0]])
    assert (Folded.of(shares).structure, Folded.of(shares).digits()) == ("HEC", "399")
