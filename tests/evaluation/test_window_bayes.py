from pathlib import Path

import numpy as np
import pytest
from sklearn.naive_bayes import CategoricalNB

from jaxformer.data.proteins import ChainCleaner
from jaxformer.data.proteins.alphabet import THREE_STATES, VOCABULARY_SIZE, classes, encode
from jaxformer.data.proteins.sources import read_chains
from jaxformer.evaluation.structure import score_structure
from jaxformer.evaluation.window_bayes import WindowBayes

NETSURFP = Path(__file__).parents[3] / "shared/data/netsurfp2_ss3"


def test_it_is_the_naive_bayes_of_scikit_learn_over_a_window():
    random = np.random.default_rng(0)
    sequences = [
        (random.integers(1, 9, length), random.integers(0, 3, length), random.random(length) < 0.7)
        for length in (30, 5, 60)
    ]
    bayes = WindowBayes(3, 9, window=5).fit(sequences)
    windows, labels = [], []
    for tokens, kinds, scored in sequences:
        padded = np.pad(tokens, 2)
        windows += [padded[i : i + 5] for i in np.flatnonzero(scored)]
        labels += kinds[scored].tolist()
    reference = CategoricalNB(alpha=1.0, min_categories=9).fit(np.array(windows), labels)
    tokens = random.integers(1, 9, 40)
    padded = np.pad(tokens, 2)
    wanted = reference.predict(np.array([padded[i : i + 5] for i in range(40)]))
    np.testing.assert_array_equal(bayes.predict(tokens), wanted)


def test_a_class_that_never_occurs_is_never_predicted():
    bayes = WindowBayes(3, 9).fit([(np.array([4, 5, 6]), np.array([0, 2, 2]), np.ones(3, bool))])
    assert set(bayes.predict(np.array([4, 5, 6, 7, 8]))) <= {0, 2}


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="window must be odd"):
        WindowBayes(3, 9, window=4)
    with pytest.raises(ValueError, match="nothing was counted"):
        WindowBayes(3, 9).predict(np.array([4]))


@pytest.mark.data
@pytest.mark.skipif(not NETSURFP.exists(), reason="needs ../shared/data/netsurfp2_ss3")
def test_it_reaches_what_was_published_on_real_chains():
    def arrays(name):
        for chain in ChainCleaner().clean(read_chains(NETSURFP / name)):
            yield encode(chain.sequence), classes(chain.three, THREE_STATES), chain.scored

    bayes = WindowBayes(3, VOCABULARY_SIZE, 17).fit(arrays("train.tsv.gz"))
    test = list(arrays("test_new364.tsv"))
    scores = score_structure(((labels, bayes.predict(ids), scored) for ids, labels, scored in test), THREE_STATES)
    assert scores.accuracy == pytest.approx(0.617, abs=0.001)
    coil = score_structure(((labels, np.full_like(labels, 2), scored) for _, labels, scored in test), THREE_STATES)
    assert coil.accuracy == pytest.approx(0.386, abs=0.001)
