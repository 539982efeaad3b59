"""Text to tokens and back, without loss; vocabularies that cannot be."""

import hashlib
import pickle
import random
from pathlib import Path

import pytest
import sentencepiece

from jaxformer.config import DataConfig, replace
from jaxformer.data.given_vocabulary import given_tokenizer
from jaxformer.data.tokenizer import Tokenizer, train_text_tokenizer, train_tokenizer
from jaxformer.types import BOS_ID, EOS_ID, UNK_ID, Pair


def pairs(number: int = 400) -> list[Pair]:
    rng = random.Random(0)
    syllables = ("ba", "du", "ko", "mi", "ra", "sen", "tor", "wel", "grü", "schö")
    words = [["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(2)] for _ in range(60)]
    chosen = [rng.choices(words, k=rng.randint(1, 8)) for _ in range(number)]
    return [Pair(" ".join(w[0] for w in c), " ".join(w[1] for w in c)) for c in chosen]


def config(**fields: object) -> DataConfig:
    return DataConfig(**{"vocabulary_size": 300, **fields})  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=[("bpe", True), ("bpe", False), ("unigram", True), ("unigram", False)])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    kind, joint = request.param
    return train_tokenizer(pairs(), config(tokenizer=kind, joint_vocabulary=joint, vocabulary_size=290))


def test_round_trip_is_lossless(tokenizer: Tokenizer) -> None:
    texts = ["house tree", "unseen: Ελλάδα 日本 🙂 ﬁ", "double  space", " leading", "</s> <pad> <s>", "e\u0301", ""]
    for encode, decode in (
        (tokenizer.encode_source, tokenizer.decode_source),
        (tokenizer.encode_target, tokenizer.decode_target),
    ):
        ids = encode(texts)
        assert all(row[-1] == EOS_ID and EOS_ID not in row[:-1] for row in ids)
        assert [decode(row) for row in ids] == texts
        assert [decode([2, 2, *row, 0, 0]) for row in ids] == texts
    assert tokenizer.encode_source([]) == []
    assert tokenizer.encode_source([""]) == [[EOS_ID]]


def test_save_load_and_pickle_keep_the_model(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.model")
    for copy in (
        Tokenizer.load(tmp_path),
        Tokenizer.load(tmp_path / "tokenizer.model"),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert copy.digest == tokenizer.digest
        assert copy.joint == tokenizer.joint
        assert copy.encode_target(["badu grükomi"]) == tokenizer.encode_target(["badu grükomi"])
        assert (copy.source_vocabulary_size, copy.target_vocabulary_size) == (290, 290)
    if tokenizer.joint:  # any other program may read the file
        plain = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
        assert [*plain.encode("house tree"), EOS_ID] == tokenizer.encode_source(["house tree"])[0]


def test_training_is_deterministic_and_depends_on_the_text() -> None:
    first = train_tokenizer(pairs(), config())
    assert train_tokenizer(pairs(), config()).digest == first.digest
    assert train_tokenizer(pairs(300), config()).digest != first.digest


def test_words_are_one_token_each_and_unknown_ones_too() -> None:
    texts = [*["a good film ."] * 5, "a bad film ."]
    tokenizer = train_text_tokenizer(texts, config(tokenizer="word", vocabulary_size=9))
    known, unknown = tokenizer.encode_source(["a bad film .", "a goodish film ."])
    assert len(known) == len(unknown) == 5
    assert UNK_ID not in known
    assert [token == UNK_ID for token in unknown] == [False, True, False, False, False]
    assert tokenizer.decode_source(known) == "a bad film ."


@pytest.mark.parametrize("joint", [True, False])
def test_neighbouring_unknown_words_are_a_token_each(joint: bool) -> None:
    texts = [Pair("a good film .", "ein guter film .")] * 5
    settings = config(tokenizer="word", vocabulary_size=10 if joint else 8, joint_vocabulary=joint)
    tokenizer = train_tokenizer(texts, settings)
    unseen = ["a film", "a goodish unheardof film", "unheardof </s> ''", "good  film", "film \u2581x", ""]
    words = [text.replace("\u2581", " ").split(" ") if text else [] for text in unseen]
    assert tokenizer.source_pieces(unseen) == words
    for copy in (tokenizer, pickle.loads(pickle.dumps(tokenizer))):
        for encode in (copy.encode_source, copy.encode_target):
            ids = encode(unseen)
            assert ids == [[*(encode([word])[0][0] if word else UNK_ID for word in row), EOS_ID] for row in words]
            assert encode([]) == []
        assert [token == UNK_ID for token in copy.encode_source(unseen)[1]] == [False, True, True, False, False]


def test_what_was_kept_under_the_digest_of_joined_words_is_not_found_again() -> None:
    def joined(tokenizer: Tokenizer) -> str:
        return hashlib.sha256(tokenizer.to_bytes() + b"|" + tokenizer.to_bytes()).hexdigest()[:20]

    words, pieces = (
        train_text_tokenizer(["a good film ."] * 5, config(tokenizer=kind, vocabulary_size=size, byte_fallback=False))
        for kind, size in (("word", 8), ("bpe", 20))
    )
    assert words.digest != joined(words)
    assert pieces.digest == joined(pieces)


@pytest.mark.parametrize("first", [[], [BOS_ID]])
def test_words_are_those_of_the_text_with_their_own_numbers(first: list[int]) -> None:
    whole = train_text_tokenizer(["a good film ."] * 5, config(tokenizer="word", vocabulary_size=8))
    pieces = train_text_tokenizer(["a good film .", "a goo"] * 5, config(vocabulary_size=17, byte_fallback=False))
    text = "a Ω 日本 good Ωo film"
    for tokenizer in (whole, pieces):
        ids = tokenizer.encode_source([text])[0]
        assert ids.count(UNK_ID) == 3
        assert tokenizer.words(text, [*first, *ids], [9.0] * (len(first) + len(ids)))[0] == text.split(" ")
    numbers = [100.0] * len(first) + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 100.0]
    ids = [*first, *whole.encode_source([text])[0]]
    assert whole.words(text, ids, numbers) == (text.split(" "), [1, 2, 3, 4, 5, 6])
    cut = [*ids[: 2 + len(first)], EOS_ID]
    assert whole.words(text, cut, numbers) == (["a", "Ω"], [1, 2])
    ids = pieces.encode_source(["a Ωo"])[0]  # as "▁a", "▁", "Ω", "o"
    assert len(ids) == 5
    assert pieces.words("a Ωo", [*first, *ids], [100.0] * len(first) + [1, 2, 4, 8, 100]) == (["a", "Ωo"], [1, 14])
    spelt = train_text_tokenizer(["a good film ."] * 5, config(vocabulary_size=275))
    for tokenizer, text in ((whole, "a </s> <unk> good"), (pieces, "a </s> <unk> goo"), (spelt, "a </s> Ωo film")):
        ids = tokenizer.encode_source([text])[0]
        assert tokenizer.words(text, ids, [1.0] * len(ids))[0] == text.split(" ")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_vocabulary_too_large_is_refused_with_the_largest(kind: str) -> None:
    with pytest.raises(ValueError, match=r"lower --config.data.vocabulary_size to ([0-9]+) or less") as refused:
        train_tokenizer(pairs(), config(tokenizer=kind, vocabulary_size=5000))
    largest = int(str(refused.value).split(" to ")[1].split()[0])
    assert train_tokenizer(pairs(), config(tokenizer=kind, vocabulary_size=largest)).source_vocabulary_size == largest


def test_a_vocabulary_too_small_is_refused_with_the_smallest() -> None:
    with pytest.raises(ValueError, match=r"raise --config.data.vocabulary_size above 2[78]"):
        train_tokenizer(pairs(), config(vocabulary_size=100))


def test_a_damaged_file_of_two_vocabularies_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    whole = train_tokenizer(pairs(), config(joint_vocabulary=False)).to_bytes()
    name, sizes, models = whole.split(b"\n", 2)
    for damaged in (
        name + b"\n", name + b"\n[3]\n" + models, name + b"\n7\n" + models, name + b'\n["a", "b"]\n' + models,
        name + b"\n\xff\n" + models, whole[:-1], b"\n".join([name, sizes, b"x" * len(models)]),
    ):  # fmt: skip
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"tokenizer\.model is damaged or .*; bring it back as the run wrote it"):
            Tokenizer.load(path)


def test_files_that_are_no_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no tokenizer at .*tokenizer.model"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"damaged or no sentencepiece model"):
        Tokenizer.load(tmp_path)
    lines = [pair.source for pair in pairs()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(tmp_path / "other"), vocab_size=30, minloglevel=2
    )
    with pytest.raises(ValueError, match=r"numbers pad, unk, bos, eos as"):
        Tokenizer.load(tmp_path / "other.model")


@pytest.mark.parametrize("kind", ["bpe", "unigram", "word"])
def test_a_vocabulary_that_is_given_is_as_the_configuration_says(kind: str, tmp_path: Path) -> None:
    asked = config(tokenizer=kind, vocabulary_size=290 if kind != "word" else 80, vocabulary=str(tmp_path))
    made = train_tokenizer(pairs(), asked)
    made.save(tmp_path / "tokenizer.model")
    assert made.kind == kind
    assert given_tokenizer(asked, sides=2).digest == made.digest
    other = "unigram" if kind == "bpe" else "bpe"
    changed = replace(asked, {"tokenizer": other, "vocabulary_size": 500, "joint_vocabulary": False})
    with pytest.raises(ValueError, match=r"of another kind than asked for: set ") as refused:
        given_tokenizer(changed, sides=2)
    flags = f"--config.data.tokenizer={kind} --config.data.vocabulary_size={asked.vocabulary_size}"
    assert str(refused.value).endswith(f"{flags} --config.data.joint_vocabulary=true")
    with pytest.raises(ValueError, match="set --config") as refused:
        given_tokenizer(changed, sides=1)
    assert str(refused.value).endswith(flags)


def test_bytes_of_a_given_vocabulary_are_as_the_configuration_says(tmp_path: Path) -> None:
    asked = config(byte_fallback=False, vocabulary_size=100, vocabulary=str(tmp_path))
    train_tokenizer(pairs(), asked).save(tmp_path / "tokenizer.model")
    assert not given_tokenizer(asked, sides=2).spells_bytes
    with pytest.raises(ValueError, match=r"set --config\.data\.byte_fallback=false$"):
        given_tokenizer(replace(asked, {"byte_fallback": True}), sides=2)


def test_a_given_vocabulary_that_is_not_there_is_told_by_its_field(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data.vocabulary=.*none.model is not there: name the folder of a run"):
        given_tokenizer(config(vocabulary=str(tmp_path / "none.model")), sides=2)


def test_two_vocabularies_that_are_equal_are_taken_for_two(tmp_path: Path) -> None:
    asked = config(vocabulary_size=290, joint_vocabulary=False, vocabulary=str(tmp_path))
    same = [Pair(pair.source, pair.source) for pair in pairs()]
    train_tokenizer(same, asked).save(tmp_path / "tokenizer.model")
    assert given_tokenizer(asked, sides=2).joint
    assert given_tokenizer(replace(asked, {"joint_vocabulary": True}), sides=2).joint


def test_a_vocabulary_of_characters_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "characters.model"
    with file.open("wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["abc abd"] * 9), model_writer=model, model_type="char", vocab_size=9,
            pad_id=0, unk_id=1, bos_id=2, eos_id=3, minloglevel=2,
        )  # fmt: skip
    with pytest.raises(ValueError, match="of single characters: give one of another kind"):
        given_tokenizer(config(vocabulary=str(file)), sides=2)
