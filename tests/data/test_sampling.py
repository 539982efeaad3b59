"""Random segmentations: the same in every process, true to the text, as random as asked."""

import collections
import random
import subprocess
import sys

import pytest

from jaxformer.config import DataConfig
from jaxformer.data.tokenizer import Tokenizer, train_tokenizer
from tests.data.test_tokenizer import pairs

TEXTS = [pair.source for pair in pairs(100)]


def tokenizer(kind: str, byte_fallback: bool = True) -> Tokenizer:
    size = 300 if byte_fallback else 60
    return train_tokenizer(pairs(), DataConfig(vocabulary_size=size, tokenizer=kind, byte_fallback=byte_fallback))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_text_is_kept_and_segmentations_vary(kind: str) -> None:
    model = tokenizer(kind)
    source, _ = model.samplers(kind, 0.2)
    texts = [*TEXTS, "", "日本 badu🙂"]
    first, second = source.encode(texts, 1), source.encode(texts, 2)
    for ids in (first, second):
        assert [model.decode_source(row) for row in ids] == texts
        assert all(row[-1] == 3 for row in ids)
    assert sum(a != b for a, b in zip(first, second, strict=True)) > 10
    assert source.encode(texts, 1) == first
    assert model.samplers(kind, 0.2)[0].encode(texts, 1) == first  # not a matter of what was drawn before


def test_without_dropout_bpe_is_that_of_sentencepiece() -> None:
    """An independent implementation of the merges, unknown characters with and without bytes included."""
    for byte_fallback in (True, False):
        model = tokenizer("bpe", byte_fallback)
        texts = [*TEXTS, "日本 badu🙂 x", "ba,du!"]
        assert model.samplers("bpe", 0.0)[0].encode(texts, 0) == model.encode_source(texts)


def test_a_high_alpha_is_the_best_unigram_segmentation_and_a_low_one_is_uniform() -> None:
    model = tokenizer("unigram")
    assert model.samplers("unigram", 100.0)[0].encode(TEXTS, 0) == model.encode_source(TEXTS)
    word = "badu"
    uniform = model.samplers("unigram", 0.0)[0]
    drawn = collections.Counter(tuple(uniform._from_best(word, random.Random(i))) for i in range(4000))
    best = model._source.nbest_encode(word, nbest_size=32, out_type=int)
    assert set(drawn) <= {tuple(ids) for ids in best}
    expected = 4000 / len(best)
    assert sum((drawn[tuple(ids)] - expected) ** 2 / expected for ids in best) < 3 * len(best) + 20


def test_more_dropout_means_more_pieces() -> None:
    model = tokenizer("bpe")
    lengths = [sum(map(len, model.samplers("bpe", rate)[0].encode(TEXTS, 0))) for rate in (0.0, 0.1, 0.3, 0.9)]
    assert lengths == sorted(set(lengths))
    characters = sum(len(text) + 2 for text in TEXTS)  # each with the mark of its beginning, and eos
    assert lengths[-1] > 0.8 * characters


def test_another_process_draws_the_same() -> None:
    program = """
from tests.data.test_sampling import TEXTS, tokenizer
print(tokenizer("bpe").samplers("bpe", 0.2)[0].encode(TEXTS[:20], 7, 1))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(tokenizer("bpe").samplers("bpe", 0.2)[0].encode(TEXTS[:20], 7, 1)), done.stderr


def test_memory_is_bounded_and_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tokenizer("bpe").samplers("bpe", 0.2)[0].encode(TEXTS, 5)
    monkeypatch.setattr("jaxformer.data.sampling._WORDS", 3)
    source, _ = tokenizer("bpe").samplers("bpe", 0.2)
    assert source.encode(TEXTS, 5) == wanted
    assert len(source._pools) <= 3
