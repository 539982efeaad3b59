"""SOV'99 by hand from the definition of Zemla et al. 1999."""

import numpy as np
import pytest

from jaxformer.evaluation.segment_overlap import Segment, overlap, segment_overlap, segments


def _states(text):
    return np.array(["HEC".index(letter) for letter in text])


def _sov(observed, predicted, scored=None):
    return segment_overlap(_states(observed), _states(predicted), 3, scored)


def test_segments_are_runs_that_masked_residues_end():
    states = _states("HHCHHH")
    assert segments(states, 0) == [(0, 2), (3, 6)]
    assert segments(states, 1) == []
    assert segments(states, 0, np.array([1, 1, 1, 1, 0, 1], bool)) == [(0, 2), (3, 4), (5, 6)]


def test_a_perfect_prediction_has_1_and_a_wholly_wrong_one_0():
    assert _sov("CCHHHHEECC", "CCHHHHEECC") == 1.0
    assert _sov("HHHH", "EEEE") == 0.0


def test_one_pair_by_hand():
    # Observed 2..10 (8 residues), predicted 4..10 (6): minov 6, maxov 8, delta = min(8 - 6, 6, 8 // 2, 6 // 2) = 2.
    assert overlap([Segment(2, 10)], [Segment(4, 10)]) == (8.0, 8)
    # Predicted 6..14: minov 4, maxov 12, delta = min(8, 4, 4, 4) = 4, so (4 + 4) / 12 * 8.
    assert overlap([Segment(2, 10)], [Segment(6, 14)]) == pytest.approx((64 / 12, 8))
    # Predicted 9..10: minov 1, maxov 8, delta = min(7, 1, 4, 1 // 2) = 0.
    assert overlap([Segment(2, 10)], [Segment(9, 10)]) == (1.0, 8)


def test_an_observed_segment_counts_once_for_each_predicted_one_that_it_meets():
    # Observed 0..10; predicted 0..4: (4 + min(6, 4, 5, 2)) / 10 * 10 = 6, and 6..10: the same.
    assert overlap([Segment(0, 10)], [Segment(0, 4), Segment(6, 10)]) == (12.0, 20)
    assert overlap([Segment(0, 10)], []) == (0.0, 10)
    assert overlap([], [Segment(0, 10)]) == (0.0, 0)


def test_states_are_put_together_by_their_residues():
    # H: observed 0..4, predicted 0..2: minov 2, maxov 4, delta = min(2, 2, 2, 1) = 1: 3 / 4 * 4 = 3 of 4.
    # C: observed 4..8, predicted 2..8: minov 4, maxov 6, delta = min(2, 4, 2, 3) = 2: 6 / 6 * 4 = 4 of 4.
    assert _sov("HHHHCCCC", "HHCCCCCC") == pytest.approx(7 / 8)


def test_a_broken_helix_loses_more_than_its_accuracy():
    observed, broken = "CCHHHHHHHHHHCC", "CCHHHHCCHHHHCC"
    accuracy = np.mean(_states(observed) == _states(broken))
    assert _sov(observed, broken) < accuracy < 1.0


def test_masked_residues_take_no_part():
    scored = np.array([0, 0, 1, 1], bool)
    assert _sov("HHEE", "CCEE", scored) == 1.0
    assert np.isnan(_sov("HH", "HH", np.zeros(2, bool)))


def test_sides_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 observed states but 1 predicted"):
        _sov("HH", "H")


def _by_the_paper(observed, predicted):
    """The definition over sets of residues, in no way like the library's."""

    def found(states, state):
        runs, run = [], set()
        for place, own in enumerate([*states, -1]):
            if own == state:
                run.add(place)
            elif run:
                runs.append(run)
                run = set()
        return runs

    total, residues = 0.0, 0
    for state in range(3):
        for one in found(observed, state):
            meeting = [other for other in found(predicted, state) if one & other]
            residues += len(one) * max(1, len(meeting))
            for other in meeting:
                common, extent = len(one & other), len(one | other)
                allowed = min(extent - common, common, int(0.5 * len(one)), int(0.5 * len(other)))
                total += (common + allowed) / extent * len(one)
    return total / residues


def test_random_chains_against_the_definition():
    random = np.random.default_rng(0)
    for _ in range(50):
        observed = np.repeat(random.integers(0, 3, 12), random.integers(1, 6, 12))
        predicted = np.roll(np.where(random.random(len(observed)) < 0.85, observed, 2), random.integers(-2, 3))
        assert segment_overlap(observed, predicted, 3) == pytest.approx(_by_the_paper(observed, predicted))
