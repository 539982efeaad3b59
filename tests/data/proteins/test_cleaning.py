from pathlib import Path

import numpy as np
import pytest

from jaxformer.data.proteins import Chain, ChainCleaner, ChainReport


def _clean(*chains, **rules):
    cleaner = ChainCleaner(**rules)
    return list(cleaner.clean(chains)), cleaner.report


@pytest.mark.parametrize(
    ("rule", "chain"),
    [
        ("empty", Chain("x", "")),
        ("empty", Chain("x", "--", "CC")),
        ("letters", Chain("x", "MK1", "CCC")),
        ("unlabelled", Chain("x", "MKV")),
        ("label_length", Chain("x", "MKV", "CC")),
        ("label_length", Chain("x", "MKV", "CCC", scored=np.ones(2, bool))),
        ("label_length", Chain("x", "MKV", "CCC", accessibility=np.ones(4))),
        ("label_letters", Chain("x", "MKV", "CQC")),
        ("label_letters", Chain("x", "MKV", "", "HXC")),
        ("unscored", Chain("x", "MKV", "CCC", scored=np.zeros(3, bool))),
        ("duplicates", Chain("x", "acdf", "CCCC")),
    ],
)
def test_a_chain_that_breaks_a_rule_is_dropped_counted_and_shown(rule, chain):
    good = Chain("good", "ACDF", "HECC")
    broken = Chain(**{**chain.__dict__, "place": "t.tsv, line 7"})
    kept, report = _clean(good, broken, deduplicate=True)
    assert [one.name for one in kept] == ["good"]
    assert (report.read, report.kept, getattr(report, rule)) == (2, 1, 1)
    assert report.first == {rule: "x (t.tsv, line 7)"}
    assert "first: x (t.tsv, line 7)" in report.table()


def test_case_and_gaps_are_normalised_with_their_labels():
    chain = Chain("x", "m-kX*", "CHEHC", "CHEGC", np.arange(5.0), np.array([1, 1, 0, 1, 1], bool))
    (clean,), report = _clean(chain)
    assert (clean.sequence, clean.three, clean.eight) == ("MKX", "CEH", "CEG")
    assert clean.accessibility.tolist() == [0.0, 2.0, 3.0]
    assert clean.scored.tolist() == [True, False, True]
    assert (report.lower_case, report.gaps, report.unknown) == (1, 1, 1)
    assert (report.residues, report.scored, report.unknown_residues) == (3, 2, 1)


def test_three_states_are_made_from_eight_and_all_is_scored_without_a_mask():
    (clean,), _ = _clean(Chain("x", "MKV", "", "GBT"))
    assert (clean.three, clean.scored.tolist()) == ("HEC", [True] * 3)


def test_three_states_that_are_given_stay():
    (clean,), _ = _clean(Chain("x", "MKV", "EEC", "HGT"))
    assert (clean.three, clean.eight) == ("EEC", "HGT")


def test_every_rule_is_explained_in_the_docs():
    text = (Path(__file__).parents[3] / "docs/protein.md").read_text(encoding="utf-8")
    lines = [line for line in ChainReport().table().splitlines() if line.startswith("dropped: ")]
    rules = [line.removeprefix("dropped: ").split("  ")[0] for line in lines]
    assert len(rules) == 7
    assert all(f"| {rule} |" in text for rule in rules)


def test_labels_of_depositors_are_counted():
    _, report = _clean(Chain("x", "MKV", "CCC", by_dssp=False))
    assert report.depositors == 1


def test_repetitions_stay_where_they_are_not_asked_for():
    kept, _ = _clean(Chain("x", "MKV", "CCC"), Chain("y", "MKV", "CCC"))
    assert len(kept) == 2


def test_a_repetition_is_one_of_what_an_earlier_chain_was_cleaned_to():
    kept, report = _clean(Chain("x", "m-kv", "HHHC"), Chain("y", "MKV", "CCC"), deduplicate=True)
    assert ([chain.name for chain in kept], report.duplicates) == (["x"], 1)
