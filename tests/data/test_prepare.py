"""From text to tokens: what is kept, counted, cached and refused."""

import dataclasses
import logging
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxformer.config import DataConfig
from jaxformer.data import prepare as prepare_module
from jaxformer.data.prepare import PreparedData, prepare, tokenize
from jaxformer.data.sources import open_splits
from jaxformer.types import EOS_ID, Pair
from tests.data.test_sources import write
from tests.data.test_tokenizer import pairs


def config(tmp_path: Path, **fields: object) -> DataConfig:
    values = {"path": str(tmp_path / "text"), "cache_dir": str(tmp_path / "cache"), "vocabulary_size": 300, **fields}
    return DataConfig(**values)  # type: ignore[arg-type]


def texts(data: PreparedData) -> list[Pair]:
    decode = data.tokenizer.decode_source, data.tokenizer.decode_target
    records = (data.train[i] for i in range(len(data.train)))
    return [Pair(decode[0](source), decode[1](target)) for source, target in records]


def counts(report: str) -> dict[str, int]:
    rows = [line.split() for line in report.splitlines()]
    return {" ".join(row[:-3]): int(row[-3].replace(",", "")) for row in rows}


def test_records_are_the_cleaned_pairs_in_order(tmp_path: Path) -> None:
    clean = list(dict.fromkeys(pairs()))
    long = Pair("ba " * 200, "du")
    write(tmp_path / "text", "train", [clean[0], Pair("", "x"), clean[1], Pair("  " + clean[0].source, clean[0].target),
                                       long, *clean[2:]])  # fmt: skip
    data = prepare(config(tmp_path, max_length=32))
    kept = [p for p in clean if max(map(len, (*data.tokenizer.encode_source([p.source]),
                                              *data.tokenizer.encode_target([p.target])))) <= 32]  # fmt: skip
    assert texts(data) == kept
    assert all(row[-1] == EOS_ID for i in range(len(data.train)) for row in data.train[i])
    found = counts(data.report)
    assert found["pairs read"] == len(clean) + 3
    assert found["dropped: empty side"] == 1
    assert found["dropped: exact repetition"] == 1
    assert found["dropped: longer than max_length tokens"] == 1 + len(clean) - len(kept)
    assert found["pairs kept"] == len(kept)
    assert max(data.train.source_lengths.max(), data.train.target_lengths.max()) <= 32
    assert (data.validation, data.test) == (None, None)
    assert data.variants == (data.train,)


def test_repetitions_stay_if_wanted(tmp_path: Path) -> None:
    write(tmp_path / "text", "train", pairs() * 2)
    assert len(prepare(config(tmp_path, deduplicate=False)).train) == 800
    assert len(prepare(config(tmp_path)).train) == len(set(pairs()))


def test_evaluation_splits_keep_every_line_normalised(tmp_path: Path) -> None:
    write(tmp_path / "text", "train", pairs())
    odd = [Pair("a  b", "e\u0301"), Pair("", "empty"), Pair("a  b", "e\u0301"), Pair("long " * 500, "x")]
    write(tmp_path / "text", "dev", odd)
    for _ in range(2):  # built, then from the cache
        data = prepare(config(tmp_path, max_length=20))
        long = Pair(("long " * 500)[:-1], "x")
        assert data.validation == [Pair("a b", "é"), Pair("", "empty"), Pair("a b", "é"), long]
        assert all(isinstance(pair, Pair) for pair in data.validation)


def test_evaluation_tokens_are_cut_not_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "text", "train", pairs())
    tokenizer = prepare(config(tmp_path)).tokenizer
    with caplog.at_level(logging.WARNING, logger="absl"):
        dataset = tokenize([Pair("ba", "du"), Pair("ba " * 50, "du")], tokenizer, max_length=10)
    assert "1 of 2 evaluation pairs are cut to 10 tokens" in caplog.text
    assert dataset.source_lengths.tolist()[1] == 10
    plain = tokenizer.encode_source(["ba " * 50])[0]
    assert dataset[1][0].tolist() == [*plain[:9], EOS_ID]
    assert dataset[0][0].tolist() == tokenizer.encode_source(["ba"])[0]


def test_a_second_call_reads_the_cache_and_shows_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "text", "train", pairs(), kind="text.gz")
    first = prepare(config(tmp_path))

    def refuse(*_: object) -> None:
        raise AssertionError("read the text again")

    monkeypatch.setattr("jaxformer.data.text.TextFile.__init__", refuse)
    monkeypatch.setattr("jaxformer.data.prepare.train_tokenizer", refuse)
    second = prepare(config(tmp_path))
    assert (second.report, second.cache_path) == (first.report, first.cache_path)
    assert second.tokenizer.digest == first.tokenizer.digest
    assert texts(second) == texts(first)


def test_settings_and_inputs_decide_the_entry(tmp_path: Path) -> None:
    write(tmp_path / "text", "train", pairs())
    base = config(tmp_path)
    paths = {"base": prepare(base).cache_path}
    for field, value in {"max_length": 20, "vocabulary_size": 290, "deduplicate": False, "reverse": True,
                         "max_length_ratio": 3.0, "normalization": "nfkc", "tokenizer": "unigram",
                         "joint_vocabulary": False, "num_examples": 390}.items():  # fmt: skip
        paths[field] = prepare(dataclasses.replace(base, **{field: value})).cache_path
    assert len(set(paths.values())) == len(paths)
    unrelated = dataclasses.replace(base, batch_tokens=999, batching="pack", num_shapes=3, prefetch=9)
    assert prepare(unrelated).cache_path == paths["base"]
    write(tmp_path / "text", "train", pairs(380))
    assert prepare(base).cache_path != paths["base"]


def test_processes_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "text", "train", pairs())
    monkeypatch.setattr(prepare_module, "_CHUNK", 50)
    alone = prepare(config(tmp_path, subword_sampling=0.1))
    monkeypatch.setattr(prepare_module, "_PARALLEL_FROM", 100)
    monkeypatch.setattr(prepare_module, "available_cores", lambda: 2)
    together = prepare(config(tmp_path, subword_sampling=0.1, cache_dir=str(tmp_path / "other")))
    assert together.report == alone.report
    assert together.tokenizer.digest == alone.tokenizer.digest
    for one, other in zip((alone.train, *alone.variants), (together.train, *together.variants), strict=True):
        for name in ("starts", "source_lengths", "target_lengths", "tokens"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_subword_sampling_stores_varied_segmentations_of_the_same_text(tmp_path: Path) -> None:
    write(tmp_path / "text", "train", pairs())
    data = prepare(config(tmp_path, subword_sampling=0.2, max_length=40))
    assert len(data.variants) == 16
    expected = texts(data)
    for variant in data.variants[:3]:
        assert texts(dataclasses.replace(data, train=variant)) == expected
        assert max(variant.source_lengths.max(), variant.target_lengths.max()) <= 40
    lengths = [int(variant.source_lengths.sum()) for variant in data.variants]
    assert len(set(lengths)) > 8
    assert min(lengths) > data.train.source_lengths.sum()


def test_the_vocabulary_is_learnt_from_a_sample_of_a_large_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "_CHUNK", 20)
    monkeypatch.setattr(prepare_module, "_VOCABULARY_PAIRS", 100)
    write(tmp_path / "text", "train", pairs())
    settings = config(tmp_path)
    train = open_splits(settings)["train"]
    sample = list(prepare_module._sample(train, settings))
    assert sample == [pair for start in (0, 80, 160, 240, 320) for pair in pairs()[start : start + 20]]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train", r"the training split has no usable pair:\npairs read +2 .*\ndropped: empty side +2"),
        # Nothing is ever dropped from it, so a table of what was dropped would contradict the sentence above it.
        ("val", r"the validation split has no usable pair: of its 2 pairs none .*--config\.data\.validation$"),
    ],
)
def test_a_split_without_usable_pairs_is_refused_and_says_why(tmp_path: Path, split: str, message: str) -> None:
    write(tmp_path / "text", "train", pairs())
    write(tmp_path / "text", "val", pairs(5))
    write(tmp_path / "text", split, [Pair("", "a"), Pair("b", "\xad ")])
    with pytest.raises(ValueError, match=message):
        prepare(config(tmp_path))


def test_an_empty_file_and_one_of_long_lines_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "text", "train", [])
    with pytest.raises(ValueError, match=r"the training split has no usable pair"):
        prepare(config(tmp_path))
    write(tmp_path / "text", "train", pairs())
    with pytest.raises(ValueError, match=r"split has no usable pair:(.|\n)*longer than max_length tokens +400"):
        prepare(config(tmp_path, max_length=1))


def test_bad_text_in_any_split_is_refused_with_file_and_line(tmp_path: Path) -> None:
    write(tmp_path / "text", "train", pairs())
    write(tmp_path / "text", "test", pairs(5))
    (tmp_path / "text" / "test.de").write_bytes(b"a\nb\n\xff\nd\ne\n")
    with pytest.raises(ValueError, match=r"test\.de, line 3: not UTF-8"):
        prepare(config(tmp_path))


def test_a_vocabulary_larger_than_the_corpus_allows_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "text", "train", pairs())
    with pytest.raises(ValueError, match=r"vocabulary_size=8000 is larger than this text allows: lower .* to [0-9]+"):
        prepare(config(tmp_path, vocabulary_size=8000))


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write(tmp_path / "text", "train", pairs())
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OSError, match=r"cannot write the data cache in .*/cache.*--config.data.cache_dir"):
        prepare(config(tmp_path))


def _prepare_elsewhere(settings: DataConfig, results: "multiprocessing.Queue[str]") -> None:
    results.put(prepare(settings).report)


def test_two_processes_may_prepare_at_once(tmp_path: Path) -> None:
    write(tmp_path / "text", "train", pairs())
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_prepare_elsewhere, args=(config(tmp_path), results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    reports = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert reports[0] == reports[1]
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "cache").iterdir() if path.is_dir()) == [
        "pairs", "tokenizer",
    ]  # fmt: skip


def test_the_bundled_corpus_needs_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"train": 500, "validation": 20, "test": 20}
    monkeypatch.setattr("jaxformer.data.bundled.corpus.DEFAULT_SIZES", small)
    data = prepare(config(tmp_path, source="bundled", path="", vocabulary_size=400))
    assert 400 < len(data.train) <= 500
    assert data.validation is not None
    assert data.test is not None
    assert len(data.validation) == len(data.test) == 20
    assert not {p.source for p in texts(data)} & {p.source for p in data.validation + data.test}
    reverse = prepare(config(tmp_path, source="bundled", path="", vocabulary_size=400, reverse=True))
    assert reverse.validation == [Pair(p.target, p.source) for p in data.validation]


def test_pairs_that_are_in_training_too_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unseen = [Pair("unseen one", "nie gesehen"), Pair("unseen two", "auch nie")]
    write(tmp_path / "text", "train", pairs())
    write(tmp_path / "text", "dev", unseen)
    write(tmp_path / "text", "test", [*unseen, pairs()[7], Pair(pairs()[3].source + " ", pairs()[3].target)])
    for _ in range(2):  # built, then from the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="absl"):
            prepare(config(tmp_path))
        assert [record.getMessage() for record in caplog.records] == [
            "2 of the 4 pairs of the test split are in the training split too: its scores flatter the model"
        ]


@pytest.mark.parametrize(
    ("file", "damaged"),
    [
        ("pairs-*/plain/tokens.npy", lambda content: content[: len(content) // 2]),
        ("pairs-*/plain/tokens.npy", lambda content: b""),
        ("pairs-*/plain/tokens.npy", lambda content: content[:-2000] + bytes(2000)),
        ("pairs-*/cleaning.txt", None),
        ("pairs-*/hashes.npy", None),
        ("validation-*/pairs.json", lambda content: content[:150]),
        ("tokenizer-*/tokenizer.model", lambda content: content[:1000]),
        ("text-*/val.en", lambda content: content[:-1] + b"!"),
    ],
)
def test_what_a_crash_leaves_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damaged: Callable[[bytes], bytes] | None
) -> None:
    write(tmp_path / "text", "train", pairs(100))
    write(tmp_path / "text", "val", pairs(5), kind="text.gz")
    settings = config(tmp_path, vocabulary_size=290)
    first = prepare(settings)
    report, validation, expected = first.report, first.validation, texts(first)
    del first  # what it has mapped is about to be cut
    (found,) = (tmp_path / "cache").glob(file)
    if damaged:
        found.write_bytes(damaged(found.read_bytes()))
    else:
        found.unlink()
    with caplog.at_level(logging.WARNING, logger="absl"):
        if file.startswith("text"):  # which is read only to make others from it
            (made,) = (tmp_path / "cache").glob("validation-*/")
            shutil.rmtree(made)
        second = prepare(settings)
    assert [record.getMessage().split(":")[0] for record in caplog.records if "cache" in record.getMessage()] == [
        "the data cache is damaged and made again"
    ]
    assert (second.report, second.validation, texts(second)) == (report, validation, expected)


def test_text_that_changes_under_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "text", "train", pairs())
    learn = prepare_module.train_tokenizer

    def slow(*arguments: object) -> object:
        file = next((tmp_path / "text").glob("train.*"))
        file.write_text(file.read_text() + "one line more\n")
        return learn(*arguments)

    monkeypatch.setattr(prepare_module, "train_tokenizer", slow)
    with pytest.raises(ValueError, match=r"has changed while it was being read: run the same command again"):
        prepare(config(tmp_path))
    assert not list((tmp_path / "cache").glob("pairs-*/plain"))
