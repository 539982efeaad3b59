"""Splits found, splits refused: every source gives the same records."""

import gzip
import pickle
from pathlib import Path

import pytest

from jaxformer.config import DataConfig
from jaxformer.data.sources import View, open_splits
from jaxformer.types import Pair

PAIRS = [Pair(f"word {i}", f"Wort {i} ä") for i in range(150)]


def write(folder: Path, stem: str, pairs: list[Pair] = PAIRS, kind: str = "text") -> None:
    folder.mkdir(exist_ok=True)
    if kind.startswith("tsv"):
        files = {f"{stem}.tsv": "".join(f"{p.source}\t{p.target}\n" for p in pairs)}
    else:
        files = {f"{stem}.en": "".join(f"{p.source}\n" for p in pairs),
                 f"{stem}.de": "".join(f"{p.target}\n" for p in pairs)}  # fmt: skip
    for name, content in files.items():
        if kind.endswith("gz"):
            (folder / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
        else:
            (folder / name).write_text(content, encoding="utf-8")


def config(tmp_path: Path, **fields: object) -> DataConfig:
    values = {"path": str(tmp_path / "text"), "cache_dir": str(tmp_path / "cache"), **fields}
    return DataConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["text", "text.gz", "tsv", "tsv.gz"])
def test_all_layouts_give_the_same_records(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "text", "train", kind=kind)
    train = pickle.loads(pickle.dumps(open_splits(config(tmp_path))["train"]))
    assert len(train) == 150
    assert train.read(0, 1000) == PAIRS
    assert train[77] == PAIRS[77]
    assert train[-1] == PAIRS[-1]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_validation_and_test_are_found_under_usual_names(tmp_path: Path, name: str) -> None:
    write(tmp_path / "text", "train")
    write(tmp_path / "text", name, PAIRS[:5])
    write(tmp_path / "text", "test2016", PAIRS[:7], kind="tsv")
    splits = open_splits(config(tmp_path))
    assert {split: len(source) for split, source in splits.items()} == {"train": 150, "validation": 5, "test": 7}


def test_the_exact_test_split_comes_before_others_and_several_others_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "text", "train")
    write(tmp_path / "text", "test2016", PAIRS[:7])
    write(tmp_path / "text", "test2017", PAIRS[:8])
    with pytest.raises(ValueError, match=r"several test splits: test2016, test2017; choose one with --config"):
        open_splits(config(tmp_path))
    assert len(open_splits(config(tmp_path, test="test2017"))["test"]) == 8
    write(tmp_path / "text", "test", PAIRS[:9])
    assert len(open_splits(config(tmp_path))["test"]) == 9


def test_splits_may_be_absent_or_named_by_path(tmp_path: Path) -> None:
    write(tmp_path / "text", "train")
    write(tmp_path / "other", "mine", PAIRS[:3])
    write(tmp_path / "other", "table", PAIRS[:4], kind="tsv.gz")
    assert set(open_splits(config(tmp_path))) == {"train"}
    named = config(tmp_path, validation=str(tmp_path / "other/mine"), test=str(tmp_path / "other/table.tsv.gz"))
    assert {split: len(source) for split, source in open_splits(named).items()} == {
        "train": 150, "validation": 3, "test": 4,
    }  # fmt: skip


def test_reverse_exchanges_the_sides_of_every_split(tmp_path: Path) -> None:
    write(tmp_path / "text", "train")
    write(tmp_path / "text", "val", PAIRS[:2])
    splits = open_splits(config(tmp_path, reverse=True))
    assert splits["train"][3] == Pair("Wort 3 ä", "word 3")
    assert splits["validation"].read(0, 1) == [Pair("Wort 0 ä", "word 0")]


def test_num_examples_limits_training_only(tmp_path: Path) -> None:
    write(tmp_path / "text", "train")
    write(tmp_path / "text", "val", PAIRS[:50])
    splits = open_splits(config(tmp_path, num_examples=10))
    assert len(splits["train"]) == 10
    assert splits["train"].read(0, 100) == PAIRS[:10]
    assert len(splits["validation"]) == 50
    with pytest.raises(IndexError, match=r"record 10 of 10"):
        splits["train"][10]


def test_a_missing_split_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "text", "training")
    with pytest.raises(FileNotFoundError, match=r"train\.en with train\.de.*holds training\.de, training\.en"):
        open_splits(config(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no validation split: looked for .*nope.en"):
        open_splits(config(tmp_path, train="training", validation="nope"))
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        open_splits(config(tmp_path, path=str(tmp_path / "nowhere")))
    with pytest.raises(FileNotFoundError, match=r"training\.en is a file, not a folder"):
        open_splits(config(tmp_path, path=str(tmp_path / "text" / "training.en")))
    with pytest.raises(ValueError, match=r"--config.data.path"):
        open_splits(config(tmp_path, path=""))


def test_a_trained_run_is_evaluated_where_there_is_no_training_text(tmp_path: Path) -> None:
    write(tmp_path / "text", "test")
    with pytest.raises(FileNotFoundError, match=r"no train split"):
        open_splits(config(tmp_path))
    assert list(open_splits(config(tmp_path), train=False)) == ["test"]
    with pytest.raises(FileNotFoundError, match=r"no validation or test split: the folder .*nowhere does not exist"):
        open_splits(config(tmp_path, path=str(tmp_path / "nowhere")), train=False)


def test_a_missing_side_is_named(tmp_path: Path) -> None:
    write(tmp_path / "text", "train")
    (tmp_path / "text" / "train.de").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.en exists, but .*train\.de \(or \.gz\) does not"):
        open_splits(config(tmp_path))


def test_one_file_is_not_read_as_both_sides(tmp_path: Path) -> None:
    write(tmp_path / "text", "train")
    with pytest.raises(ValueError, match=r"train\.de would be source and target at once: .*--config.data.reverse=true"):
        open_splits(config(tmp_path, source_language="de"))
    (tmp_path / "text" / "train.de").unlink()
    write(tmp_path / "text", "train", kind="tsv")  # which has two sides, whatever they are called
    assert open_splits(config(tmp_path, source_language="de"))["train"].read(0, 200) == PAIRS


def test_sides_of_different_length_are_refused_with_both_counts(tmp_path: Path) -> None:
    write(tmp_path / "text", "train")
    (tmp_path / "text" / "train.de").write_text("eins\nzwei\n")
    with pytest.raises(ValueError, match=r"train\.en has 150 lines but .*train\.de has 2 lines"):
        len(open_splits(config(tmp_path))["train"])


def test_the_fingerprint_changes_with_files_and_view(tmp_path: Path) -> None:
    write(tmp_path / "text", "train")
    first = open_splits(config(tmp_path))["train"]
    same = open_splits(config(tmp_path))["train"]
    assert first.fingerprint() == same.fingerprint()
    assert open_splits(config(tmp_path, reverse=True))["train"].fingerprint() != first.fingerprint()
    assert View(first, limit=3).fingerprint() != first.fingerprint()
    before = first.fingerprint()
    write(tmp_path / "text", "train", PAIRS[:-1])
    assert open_splits(config(tmp_path))["train"].fingerprint() != before
