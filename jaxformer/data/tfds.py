"""Sets of TensorFlow Datasets, of translations and of labelled texts, read from array_record files without TensorFlow.

Reading never downloads: a set that is not prepared is refused with the command that prepares it, which calls
`download_and_prepare` here. Any set whose records hold one text for each language will do (`*_translate`). Needs the
extra `jaxformer[tfds]`.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxformer.config import DataConfig, nearest
from jaxformer.paths import expanded
from jaxformer.types import Pair

_LOGGER = logging.getLogger(__name__)

_SPLITS = {"train": ("train",), "validation": ("validation", "dev", "valid", "val"), "test": ("test",)}


def _tfds() -> ModuleType:
    try:
        return importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise ValueError(
            f"data.source=tfds needs TensorFlow Datasets ({error}): pip install 'jaxformer[tfds]' "
            "(TensorFlow itself is not needed)"
        ) from None


def data_folder(path: str) -> Path:
    """`path`, or where TFDS keeps data sets if it is empty: `$TFDS_DATA_DIR` or `~/tensorflow_datasets`."""
    return expanded(path or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def prepared_folder(name: str, path: str = "") -> Path | None:
    """Where the newest version of a data set lies prepared; None if it does not. Needs no TFDS.

    Args:
      name: such as `wmt14_translate/de-en`; for an empty one there is no folder.
      path: the TFDS data folder, as in `data_folder`.
    """
    facts = data_folder(path).glob(f"{name}/**/dataset_info.json") if name else ()
    versions = [file.parent for file in facts if re.fullmatch(r"\d+\.\d+\.\d+", file.parent.name)]  # not incomplete
    return max(versions, key=lambda folder: [int(part) for part in folder.name.split(".")], default=None)


def _named_folder(config: DataConfig) -> Path | None:
    if not config.name:
        raise ValueError("data.source=tfds needs the name of a set: --config.data.name=wmt14_translate/de-en")
    if not re.fullmatch(r"\w[\w.:-]*(/\w[\w.:-]*)*", config.name):
        raise ValueError(
            f"data.name={config.name!r} is no name of a set, such as wmt14_translate/de-en; the folder that it lies in "
            "is --config.data.path"
        )
    return prepared_folder(config.name, config.path)


def has_random_access(folder: Path) -> bool:
    """Whether a prepared set can be read here: TFDS's other formats can only be read in order, and with TensorFlow."""
    return any(folder.glob("*.array_record*"))


class TfdsSource:
    """One split of a prepared data set.

    Args:
      folder: of one version, holding `dataset_info.json`.
      split: as TFDS names it.
      languages: keys of source and target text in the records.
    """

    def __init__(self, folder: Path, split: str, languages: tuple[str, str]) -> None:
        self._key = (folder, split, languages)
        self._records: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_key": self._key, "_records": None}  # workers open the files themselves

    def _open(self) -> Any:
        if self._records is None:
            folder, split, languages = self._key
            builder = _tfds().builder_from_directory(str(folder))
            known = set(builder.info.features.keys())
            if not known.issuperset(languages):
                raise ValueError(
                    f"{folder} has the fields {', '.join(sorted(known))}, not {' and '.join(languages)}: "
                    "set --config.data.source_language and --config.data.target_language"
                )
            try:
                self._records = builder.as_data_source(split=split)
            except NotImplementedError as error:
                raise ValueError(
                    f"{folder} has no random access ({error}): it was prepared in another format than array_record; "
                    "choose an empty folder with --config.data.path and run --mode=prepare"
                ) from None
        return self._records

    def __len__(self) -> int:
        return len(self._open())

    def __getitem__(self, index: int) -> Pair:
        return self._pair(self._open()[index])

    def read(self, start: int, stop: int) -> list[Pair]:
        """Records `start` to `stop` (exclusive)."""
        return [self._pair(record) for record in self._open().__getitems__(list(range(start, min(stop, len(self)))))]

    def _pair(self, record: dict[str, Any]) -> Pair:
        source, target = (record[language] for language in self._key[2])
        return Pair(_text(source), _text(target))

    def fingerprint(self) -> dict[str, Any]:
        """Facts that change when the records do."""
        folder, split, languages = self._key
        facts = hashlib.sha256((folder / "dataset_info.json").read_bytes()).hexdigest()
        return {"tfds": str(folder.resolve()), "facts": facts, "split": split, "languages": list(languages)}


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def open_splits(config: DataConfig) -> dict[str, TfdsSource]:
    """The splits of the prepared set `config.name`, by our names; validation and test only where they exist.

    Raises:
      FileNotFoundError, ValueError: see `_splits`.
    """
    return _splits(config, lambda _: (config.source_language, config.target_language))


_TEXTS = ("sentence", "text", "review")
"""Fields of text in the records of sets with labels."""


def open_labelled(config: DataConfig) -> dict[str, TfdsSource]:
    """The splits of a prepared set of labelled texts, such as `glue/sst2`: pairs of a label, as text, and a text.

    Splits whose labels are withheld (the test split of GLUE) are left out, which the log says.

    Raises:
      FileNotFoundError, ValueError: see `_splits`; or a set without labels and texts.
    """

    def fields(known: set[str]) -> tuple[str, str]:
        text = next((name for name in _TEXTS if name in known), None)
        if text is None or "label" not in known:
            raise ValueError(
                f"{config.name} has the fields {', '.join(sorted(known))}: a label and one of {', '.join(_TEXTS)} are "
                "needed; choose another set with --config.data.name"
            )
        return "label", text

    splits = _splits(config, fields)
    withheld = [name for name, source in splits.items() if len(source) and source[0].source == "-1"]
    for name in withheld:
        _LOGGER.info("%s: the labels of its %s split are withheld, so it is left out", config.name, name)
    return {name: source for name, source in splits.items() if len(source) and name not in withheld}


def _splits(config: DataConfig, fields: Callable[[set[str]], tuple[str, str]]) -> dict[str, TfdsSource]:
    """The splits of the prepared set `config.name`, of which `fields` chooses two among those that there are.

    Raises:
      FileNotFoundError: the set is not prepared; says how to prepare it.
      ValueError: TFDS is not installed, or a named split does not exist.
    """
    folder = _named_folder(config)
    if folder is None:
        raise FileNotFoundError(
            f"{config.name} is not prepared in {data_folder(config.path)}: run the same command with --mode=prepare to "
            "download it, set --config.data.path to where it is, or use your own text with --config.data.source=files"
        )
    info = _tfds().builder_from_directory(str(folder)).info
    present, chosen = info.splits, fields(set(info.features.keys()))
    splits = {}
    for ours, usual in _SPLITS.items():
        named = getattr(config, ours)
        found = [name for name in ((named,) if named else usual) if name.split("[")[0] in present]
        if found:
            splits[ours] = TfdsSource(folder, found[0], chosen)
        elif named or ours == "train":
            raise ValueError(
                f"{config.name} has no split {named or 'train'!r}: it has {', '.join(sorted(present))}; "
                f"choose one with --config.data.{ours}"
            )
    return splits


_LOCAL = {
    False: "train.en and train.de (plain text, one sentence a line, or .gz) and val.*, test.*",
    True: "train.tsv, dev.tsv and test.tsv (a label, a tab and a text a line, or .gz)",
}
"""The files that stand in for a set, by whether it is of labelled texts."""


def download_and_prepare(config: DataConfig, *, labelled: bool = False) -> Path:
    """Downloads `config.name` and writes it as array_record files; returns its folder. Only for `--mode=prepare`.

    Args:
      config: names the set and the folder.
      labelled: whether it is a set of labelled texts, not of translations.

    Raises:
      OSError: the download failed (the links die from time to time, and some machines have no network).
      ValueError: there is no such set.
    """
    folder = _named_folder(config)
    if folder is not None:
        return folder
    tfds = _tfds()
    _register(tfds, config.name, "text" if labelled else "translate")
    known = [
        name
        for name in tfds.list_builders(with_community_datasets=False)
        if labelled or name.endswith("_translate")
    ]
    if config.name.split("/")[0] not in known:
        kind = "set of texts" if labelled else "translation set"
        raise ValueError(f"TFDS has no {kind} {config.name!r}: {nearest(config.name, known)}")
    try:
        builder = tfds.builder(config.name, data_dir=str(data_folder(config.path)))
    except ValueError as error:
        raise ValueError(f"TFDS does not know the variant in {config.name!r}: {error}") from None
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        raise OSError(
            f"could not prepare {config.name} in {data_folder(config.path)}: {type(error).__name__}: {error}\n"
            f"The download links die from time to time. Local files do as well: put {_LOCAL[labelled]} into a folder, "
            "then use --config.data.source=files --config.data.path=FOLDER"
        ) from error
    return Path(builder.data_dir)


def _register(tfds: ModuleType, name: str, kind: str) -> None:
    """Imports the module that defines `name`: a plain `tfds.builder` does not find builders in modules not imported.

    Args:
      tfds: the library.
      name: of a set.
      kind: the package of TFDS that holds it, `translate` or `text`.
    """
    wanted = name.split("/")[0]
    package = importlib.import_module(f"tensorflow_datasets.{kind}")
    likely = wanted.removesuffix("_translate").removesuffix("_reviews")
    stems = [likely, *(module.name for module in pkgutil.iter_modules(package.__path__))]
    for stem in stems:
        if wanted in tfds.list_builders(with_community_datasets=False):
            return
        try:
            importlib.import_module(f"tensorflow_datasets.{kind}.{stem}")
        except ImportError:
            continue  # another set's missing dependency is not our concern
