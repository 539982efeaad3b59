import numpy as np
import pytest
from sklearn import metrics as reference

from jaxformer.evaluation.structure import score_structure


def _chains(states, number=7, seed=0):
    random = np.random.default_rng(seed)
    for length in random.integers(5, 60, number):
        observed, predicted = random.integers(0, states, (2, length))
        yield observed, predicted, random.random(length) < 0.8


@pytest.mark.parametrize("letters", ["HEC", "HGIEBTSC"])
def test_scores_agree_with_scikit_learn(letters):
    chains = list(_chains(len(letters)))
    scores = score_structure(chains, letters)
    observed, predicted = (np.concatenate([chain[i][chain[2]] for chain in chains]) for i in (0, 1))
    numbers = scores.metrics()
    assert numbers[f"q{len(letters)}"] == pytest.approx(reference.accuracy_score(observed, predicted), abs=1e-12)
    np.testing.assert_array_equal(scores.confusion, reference.confusion_matrix(observed, predicted))
    wanted = reference.precision_recall_fscore_support(observed, predicted, zero_division=0.0)
    np.testing.assert_allclose(list(scores.by_class().values()), np.array(wanted).T, atol=1e-12)


def test_chains_weigh_alike_in_their_mean_and_the_standard_error_is_of_it():
    whole = np.ones(4, bool)
    right, half = np.zeros(4, int), np.array([0, 0, 1, 1])
    numbers = score_structure([(right, right, whole), (right, half, whole)], "HEC").metrics()
    assert (numbers["q3"], numbers["q3_chain"]) == (0.75, 0.75)
    assert numbers["q3_chain_error"] == pytest.approx(0.25)  # of 1 and 0.5: 0.35355 / sqrt(2)


def test_the_mean_over_chains_is_of_what_is_scored_and_long_chains_count_as_short_ones():
    right, wrong = np.zeros(2, int), np.ones(6, int)
    scored = np.array([True, True, True, True, False, False])
    predicted = np.array([0, 1, 1, 1, 0, 0])
    chains = [(right, right, np.ones(2, bool)), (wrong, predicted, scored)]
    numbers = score_structure(chains, "HEC").metrics()
    assert (numbers["q3"], numbers["q3_chain"]) == (5 / 6, (1 + 3 / 4) / 2)


def test_segment_overlap_is_of_the_observed_segments():
    observed, predicted = np.zeros(10, int), np.array([1, 1, 0, 0, 0, 0, 0, 1, 1, 1])
    scores = [
        score_structure([(*pair, np.ones(10, bool))], "HEC").metrics()["sov"]
        for pair in ((observed, predicted), (predicted, observed))
    ]
    # One segment of 10 overlaps in 5, which may be 2 more: min(10 - 5, 5, 10 / 2, 5 / 2) = 2, and (5 + 2) / 10.
    assert scores[0] == pytest.approx(0.7)
    assert scores[1] == pytest.approx(0.7 * 5 / 10)  # the strands are observed, and not found


def test_a_class_that_never_occurs_has_no_scores_and_one_never_predicted_has_precision_0():
    observed, predicted = np.array([0, 0, 2]), np.array([0, 0, 0])
    scores = score_structure([(observed, predicted, np.ones(3, bool))], "HEC")
    assert scores.by_class() == {"H": (pytest.approx(2 / 3), 1.0, pytest.approx(0.8), 2), "C": (0.0, 0.0, 0.0, 1)}
    assert "f1_E" not in scores.metrics()
    assert "q3_chain_error" not in scores.metrics()  # of one chain
    assert "Q3 by residue    0.6667" in scores.table()


def test_nothing_scored_and_parts_that_do_not_fit_are_refused():
    three, two = np.zeros(3, int), np.zeros(2, int)
    with pytest.raises(ValueError, match="no residue is scored"):
        score_structure([(three, three, np.zeros(3, bool))], "HEC")
    with pytest.raises(ValueError, match="chain 0 has 3 observed and 2 predicted"):
        score_structure([(three, two, np.ones(3, bool))], "HEC")
