"""The target's part of a joint vocabulary: small, enough, and without a trace in how text is cut."""

import random
from pathlib import Path

import pytest
import sentencepiece

from jaxformer.config import DataConfig
from jaxformer.data import pieces
from jaxformer.data.tokenizer import Tokenizer, train_tokenizer
from jaxformer.types import EOS_ID, Pair

KINDS = ("bpe", "unigram")


def pairs(number: int = 300) -> list[Pair]:
    """Pairs of two languages with few letters in common."""
    rng = random.Random(0)

    def words(syllables: tuple[str, ...]) -> list[str]:
        return ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(120)]

    source, target = words(("ba", "du", "ko", "mi", "ra", "lo")), words(("sen", "xt", "wel", "grü", "schö", "qua"))
    return [Pair(" ".join(rng.choices(source, k=5)), " ".join(rng.choices(target, k=5))) for _ in range(number)]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(pairs(), DataConfig(tokenizer=request.param, vocabulary_size=400))


def test_the_target_has_a_part_of_the_pieces(tokenizer: Tokenizer) -> None:
    assert tokenizer.joint
    assert tokenizer.source_vocabulary_size == 400
    assert 262 < tokenizer.target_vocabulary_size <= 384
    assert tokenizer.target_vocabulary_size % 64 == 0


def test_target_text_is_cut_as_by_the_whole_vocabulary(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.model")  # a plain model, which knows nothing of a target
    whole = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert whole.get_piece_size() == 400
    texts = [pair.target for pair in pairs()]
    assert tokenizer.encode_target(texts) == [[*ids, EOS_ID] for ids in whole.encode(texts)]


def test_any_text_is_made_of_the_targets_pieces(tokenizer: Tokenizer) -> None:
    texts = [pair.source for pair in pairs()] + ["Ελλάδα 日本 🙂", "badu koquaxt", ""]
    rows = tokenizer.encode_target(texts)
    assert max(max(row) for row in rows) < tokenizer.target_vocabulary_size
    assert [tokenizer.decode_target(row) for row in rows] == texts
    assert max(max(row) for row in tokenizer.encode_source(texts)) >= tokenizer.target_vocabulary_size


@pytest.mark.parametrize("kind", KINDS)
def test_sampled_target_text_is_made_of_the_targets_pieces(kind: str) -> None:
    tokenizer = train_tokenizer(pairs(), DataConfig(tokenizer=kind, vocabulary_size=400))
    _, target = tokenizer.samplers(kind, 0.3)
    texts = [pair.target for pair in pairs()] + [pair.source for pair in pairs(20)]
    rows = target.encode(texts, 1)
    assert max(max(row) for row in rows) < tokenizer.target_vocabulary_size
    assert [tokenizer.decode_target(row) for row in rows] == texts
    assert rows != tokenizer.encode_target(texts)


def test_a_model_without_a_part_is_used_whole() -> None:
    joint = train_tokenizer(pairs(), DataConfig(vocabulary_size=400, joint_vocabulary=False))
    model = joint.__reduce__()[1][0]
    assert not pieces.has_target_part(model)
    assert pieces.target_part(model) == model
    assert Tokenizer(model, model).target_vocabulary_size == 400


def test_no_part_is_larger_than_the_vocabulary() -> None:
    same = [Pair(pair.target, pair.target) for pair in pairs()]
    tokenizer = train_tokenizer(same, DataConfig(vocabulary_size=320))
    assert (tokenizer.source_vocabulary_size, tokenizer.target_vocabulary_size) == (320, 320)


@pytest.mark.parametrize("cut", [1, 5, 5000])
def test_a_model_that_ends_early_is_refused(cut: int) -> None:
    model = train_tokenizer(pairs(), DataConfig(vocabulary_size=400)).__reduce__()[1][0]
    with pytest.raises(ValueError, match="no sentencepiece model: it ends within"):
        pieces.target_part(model[:-cut])


def test_what_is_no_protocol_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match="a field of kind 3 at byte 0"):
        pieces.has_target_part(b"\x0b\x00")
