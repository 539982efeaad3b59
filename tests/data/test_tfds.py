"""Sets in the layout of TFDS, read without TensorFlow; sets that are not there."""

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from jaxformer.config import DataConfig
from jaxformer.data import tfds
from jaxformer.data.labelled_text import open_texts
from jaxformer.data.prepare import prepare
from jaxformer.data.sources import open_splits
from jaxformer.types import Pair
from tests.data.test_tokenizer import pairs

NEEDS_TFDS = "tensorflow_datasets is the extra `tfds`"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder holding `tiny_translate/de-en`, written by TFDS itself."""
    library = pytest.importorskip("tensorflow_datasets", reason=NEEDS_TFDS)

    class TinyTranslate(library.core.GeneratorBasedBuilder):
        VERSION = library.core.Version("1.0.0")
        BUILDER_CONFIGS: ClassVar = [library.core.BuilderConfig(name="de-en")]

        def _info(self) -> object:
            features = library.features.Translation(languages=("de", "en"))
            return library.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _: object) -> dict:
            return {"train": self._generate_examples(400), "validation": self._generate_examples(5)}

        def _generate_examples(self, number: int) -> object:
            for i, pair in enumerate(pairs(number)):
                yield i, {"en": pair.source, "de": pair.target}

    root = tmp_path_factory.mktemp("tfds")
    builder = TinyTranslate(config="de-en", data_dir=str(root), file_format="array_record")
    builder.download_and_prepare()
    return root


def config(folder: Path, **fields: object) -> DataConfig:
    values = {"source": "tfds", "path": str(folder), "name": "tiny_translate/de-en", "vocabulary_size": 300, **fields}
    return DataConfig(**values)  # type: ignore[arg-type]


def test_records_are_those_that_were_written(folder: Path) -> None:
    splits = open_splits(config(folder))
    assert {name: len(source) for name, source in splits.items()} == {"train": 400, "validation": 5}
    train = pickle.loads(pickle.dumps(splits["train"]))
    assert sorted(train.read(0, 1000)) == sorted(pairs(400))  # TFDS shuffles what it writes
    assert train[7] == train.read(7, 8)[0]
    assert "tensorflow" not in sys.modules


def test_reverse_limits_and_preparation_work_as_for_files(folder: Path, tmp_path: Path) -> None:
    forward = open_splits(config(folder))["train"]
    backward = open_splits(config(folder, reverse=True, num_examples=3))["train"]
    assert backward.read(0, 9) == [Pair(pair.target, pair.source) for pair in forward.read(0, 3)]
    data = prepare(config(folder, cache_dir=str(tmp_path)))
    assert len(data.train) == len(set(pairs(400)))
    assert data.validation is not None
    assert len(data.validation) == 5
    assert data.test is None


def test_splits_are_named_by_hand(folder: Path) -> None:
    assert len(open_splits(config(folder, test="validation"))["test"]) == 5
    with pytest.raises(ValueError, match=r"no split 'nope': it has train, validation; choose one with"):
        open_splits(config(folder, test="nope"))


def test_other_languages_are_refused_with_those_there_are(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"has the fields de, en, not en and fr"):
        len(open_splits(config(folder, target_language="fr"))["train"])


def test_a_set_in_another_format_is_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(split: str) -> None:
        raise NotImplementedError("tfrecord")

    builder = SimpleNamespace(info=SimpleNamespace(features={"de": 0, "en": 0}), as_data_source=refuse)
    monkeypatch.setattr(tfds, "_tfds", lambda: SimpleNamespace(builder_from_directory=lambda _: builder))
    with pytest.raises(ValueError, match=r"\(tfrecord\): .*; choose an empty folder with --config.data.path and run"):
        len(tfds.TfdsSource(tmp_path, "train", ("en", "de")))


def test_preparing_what_is_prepared_does_nothing(folder: Path) -> None:
    assert tfds.download_and_prepare(config(folder)) == folder / "tiny_translate/de-en/1.0.0"


def test_a_set_that_is_not_prepared_is_refused_with_the_way(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"wmt14_translate/de-en is not prepared in .*--mode=prepare.*=files"):
        open_splits(config(tmp_path, name="wmt14_translate/de-en"))
    with pytest.raises(ValueError, match=r"--config.data.name="):
        open_splits(config(tmp_path, name=""))


def test_the_newest_version_is_taken(tmp_path: Path) -> None:
    for version in ("1.0.0", "10.0.0", "9.1.0", "10.0.0.incompleteAB12CD"):
        (tmp_path / "a_translate/de-en" / version).mkdir(parents=True)
        (tmp_path / "a_translate/de-en" / version / "dataset_info.json").write_text("{}")
    found = tfds.prepared_folder("a_translate/de-en", str(tmp_path))
    assert found == tmp_path / "a_translate/de-en/10.0.0"


def test_the_usual_folder_is_that_of_tfds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert tfds.data_folder("") == tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", "")
    assert tfds.data_folder("") == tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", "/data")
    assert tfds.data_folder("") == Path("/data")


def test_without_the_extra_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'jaxformer\[tfds\]'"):
        tfds._tfds()


def test_unknown_sets_and_variants_are_refused_with_the_nearest(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_datasets", reason=NEEDS_TFDS)
    with pytest.raises(ValueError, match=r"no translation set 'wmt41_translate/de-en'.*Did you mean 'wmt1"):
        tfds.download_and_prepare(config(tmp_path, name="wmt41_translate/de-en"))
    with pytest.raises(ValueError, match=r"does not know the variant in 'wmt14_translate/xx-en'"):
        tfds.download_and_prepare(config(tmp_path, name="wmt14_translate/xx-en"))


def test_a_failed_download_says_that_local_files_do_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("tensorflow_datasets", reason=NEEDS_TFDS)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(library.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(OSError, match=r"could not prepare wmt14_translate(.|\n)*no route to host(.|\n)*source=files"):
        tfds.download_and_prepare(config(tmp_path, name="wmt14_translate/de-en"))


@pytest.mark.parametrize("name", ["/data/wmt14_translate/de-en", "wmt*", "../x"])
def test_a_path_is_no_name_of_a_set(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no name of a set, such as wmt14_translate/de-en; .*--config.data.path"):
        open_splits(config(tmp_path, name=name))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder holding `tiny_texts`, whose test split has withheld labels."""
    library = pytest.importorskip("tensorflow_datasets", reason=NEEDS_TFDS)
    import numpy as np

    class TinyTexts(library.core.GeneratorBasedBuilder):
        VERSION = library.core.Version("1.0.0")

        def _info(self) -> object:
            features = library.features.FeaturesDict({
                "sentence": library.features.Text(), "idx": np.int32, "label": np.int64,
            })  # fmt: skip
            return library.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _: object) -> dict:
            return {"train": self._generate_examples(40), "validation": self._generate_examples(6),
                    "test": self._generate_examples(3, label=-1)}  # fmt: skip

        def _generate_examples(self, number: int, label: int | None = None) -> object:
            for i in range(number):
                yield i, {"sentence": f"text {i} is é", "idx": i, "label": i % 2 if label is None else label}

    root = tmp_path_factory.mktemp("tfds")
    TinyTexts(data_dir=str(root), file_format="array_record").download_and_prepare()
    return root


def test_labelled_texts_are_read_and_splits_without_labels_left_out(texts: Path) -> None:
    fields = {"source": "tfds", "path": str(texts), "name": "tiny_texts"}
    splits = open_texts(DataConfig(**fields))  # type: ignore[arg-type]
    assert {name: len(split.records) for name, split in splits.items()} == {"train": 40, "validation": 6}
    assert sorted(splits["validation"].records)[0] == ("0", "text 0 is é")
    part = open_texts(DataConfig(**fields, train="train[:50%]", num_examples=15))  # type: ignore[arg-type]
    assert len(part["train"].records) == 15
    assert "tensorflow" not in sys.modules


def test_a_set_without_labels_is_refused_with_its_fields(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"has the fields de, en: a label and one of sentence, text, review are"):
        open_texts(config(folder))
