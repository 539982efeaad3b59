import numpy as np
import pytest

from jaxformer.data.proteins import ChainCleaner, SyntheticChains
from jaxformer.data.proteins.alphabet import THREE_STATES, VOCABULARY_SIZE, classes, encode
from jaxformer.data.proteins.synthetic import DEFAULT_SIZES, LENGTHS
from jaxformer.evaluation.structure import score_structure
from jaxformer.evaluation.window_bayes import WindowBayes


def test_a_chain_depends_on_seed_split_and_number_alone():
    first, again = SyntheticChains("train", 5, seed=3), SyntheticChains("train", 900, seed=3)
    assert [chain.sequence for chain in first] == [chain.sequence for chain in again[:5]]
    assert first[-1].eight == first[4].eight
    others = {SyntheticChains(split, 5, seed)[0].sequence for split, seed in (("train", 3), ("train", 4), ("test", 3))}
    assert len(others) == 3


def test_chains_are_clean_and_complete():
    cleaner = ChainCleaner(deduplicate=True)
    chains = list(cleaner.clean(SyntheticChains("validation")))
    assert cleaner.report.kept == cleaner.report.read == DEFAULT_SIZES["validation"]
    assert min(map(len, chains)) >= LENGTHS[0]
    assert set("".join(chain.eight for chain in chains)) == set("HGETSC")
    assert all(0 <= chain.accessibility.min() <= chain.accessibility.max() <= 1 for chain in chains)


def test_a_window_tells_much_but_not_all():
    def arrays(split, count):
        return [
            (encode(chain.sequence), classes(chain.three, THREE_STATES), chain.scored)
            for chain in SyntheticChains(split, count)
        ]

    train, test = arrays("train", 400), arrays("test", 100)
    bayes = WindowBayes(3, VOCABULARY_SIZE).fit(train)
    q3 = score_structure(((labels, bayes.predict(ids), scored) for ids, labels, scored in test), THREE_STATES).accuracy
    coil = np.mean(np.concatenate([labels for _, labels, _ in test]) == THREE_STATES.index("C"))
    assert coil < 0.5 < 0.6 < q3 < 0.75


@pytest.mark.parametrize(("split", "size", "said"), [("dev", 0, "no bundled split 'dev'"), ("test", -1, "got -1")])
def test_unknown_splits_and_sizes_are_refused(split, size, said):
    with pytest.raises(ValueError, match=said):
        SyntheticChains(split, size)


def test_a_chain_that_is_not_there_is_an_index_error():
    with pytest.raises(IndexError, match="chain 3 of 3"):
        SyntheticChains("test", 3)[3]
