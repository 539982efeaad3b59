"""Where sentence pairs come from: random-access sources that all give the same records, `Pair`.

`open_splits` turns a `DataConfig` into the sources of its splits: the bundled corpus, parallel text files, or a
prepared TFDS data set (`tfds.py`). A source is small, can be sent to worker processes, and reads records when asked.
Not for changing text: `cleaning.py` does that.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

from jaxformer.config import DataConfig
from jaxformer.data import cache
from jaxformer.data.text import TextFile, unpack
from jaxformer.paths import expanded
from jaxformer.types import Pair

VALIDATION_NAMES = ("val", "valid", "validation", "dev")
"""File stems under which a validation split is looked for, in this order."""


class Source(Protocol):
    """Sentence pairs by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...

    def read(self, start: int, stop: int) -> list[Pair]:
        """Records `start` to `stop` (exclusive), cheaper than one by one."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """JSON-like facts that change when the records do; found without reading the records."""
        ...


class FilesSource:
    """Parallel text: two files of equal length, or one of lines `source<TAB>target`; each may be `.gz`.

    The files are read when the first record is asked for: once through, to check them and to note where lines are.

    Args:
      paths: the source and target file, or one TSV file.
      cache_dir: where `.gz` files are unpacked, as in `cache.cache_folder`.

    Raises (on the first use):
      ValueError: sides of different length, binary or wrongly encoded text, a TSV line without exactly one tab.
      OSError: a file cannot be read.
    """

    def __init__(self, paths: tuple[Path, ...], *, cache_dir: str = "") -> None:
        self.paths = paths
        self._cache_dir = cache_dir
        self._files: tuple[TextFile, ...] | None = None
        self._facts: list[dict[str, Any]] | None = None

    def _open(self) -> tuple[TextFile, ...]:
        if self._files is None:
            tabs = 1 if len(self.paths) == 1 else None
            self._facts = [_file_facts(path) for path in self.paths]  # of the content that is about to be read
            files = tuple(TextFile(self._plain(path), tabs=tabs, name=path) for path in self.paths)
            if len({len(file) for file in files}) > 1:
                sides = zip(self.paths, files, strict=True)
                counts = " but ".join(f"{path} has {len(file):,} lines" for path, file in sides)
                raise ValueError(
                    f"the two sides differ in length: {counts}; line i of one must translate line i of the other"
                )
            self._files = files
        return self._files

    def _plain(self, path: Path) -> Path:
        """`path`, or where its text was unpacked to: gzip files have no random access."""
        if path.suffix != ".gz":
            return path
        name = f"text-{cache.digest({**_file_facts(path), 'sealed': True})}"
        return cache.cached(self._cache_dir, name, lambda folder: unpack(path, folder / path.stem)) / path.stem

    def __len__(self) -> int:
        return len(self._open()[0])

    def __getitem__(self, index: int) -> Pair:
        return _pair([file[index] for file in self._open()])

    def read(self, start: int, stop: int) -> list[Pair]:
        """Records `start` to `stop` (exclusive)."""
        columns = [file.read(start, stop) for file in self._open()]
        return [_pair(sides) for sides in zip(*columns, strict=True)]

    def fingerprint(self) -> dict[str, Any]:
        """Facts that change when the records do."""
        return {"files": self._facts or [_file_facts(path) for path in self.paths]}


def _pair(sides: Any) -> Pair:
    return Pair(*sides) if len(sides) == 2 else Pair(*sides[0].split("\t"))


def _file_facts(path: Path) -> dict[str, Any]:
    try:
        facts = path.stat()
    except OSError as error:
        raise type(error)(f"cannot read {path}: {error.strerror}") from None
    return {"path": str(path.resolve()), "size": facts.st_size, "modified": facts.st_mtime_ns}


class BundledSource:
    """The bundled English-German corpus, generated record by record (`jaxformer.data.bundled`)."""

    def __init__(self, split: str, num_examples: int, seed: int) -> None:
        self._key = (split, num_examples, seed)
        self._corpus: Any = None

    def _open(self) -> Any:
        if self._corpus is None:
            from jaxformer.data.bundled import BundledCorpus

            split, num_examples, seed = self._key
            self._corpus = BundledCorpus(split, num_examples, seed)
        return self._corpus

    def __getstate__(self) -> dict[str, Any]:
        return {"_key": self._key, "_corpus": None}  # a worker makes its own: cheaper than to send it

    def __len__(self) -> int:
        return len(self._open())

    def __getitem__(self, index: int) -> Pair:
        return self._open()[index]

    def read(self, start: int, stop: int) -> list[Pair]:
        """Records `start` to `stop` (exclusive)."""
        corpus = self._open()
        return [corpus[index] for index in range(start, min(stop, len(corpus)))]

    def fingerprint(self) -> dict[str, Any]:
        """Facts that change when the records do."""
        code = hashlib.sha256()  # the generator is its own source text: any change of it changes the records
        for path in sorted((Path(__file__).parent / "bundled").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                code.update(path.name.encode() + path.read_bytes())
        return {"bundled": list(self._key), "generator": code.hexdigest()[:20]}


class View:
    """The first records of another source, both sides exchanged if asked.

    Args:
      source: where the records come from.
      limit: how many of its records to show; 0 for all.
      reverse: exchange source and target.
    """

    def __init__(self, source: Source, *, limit: int = 0, reverse: bool = False) -> None:
        self._source = source
        self._limit = limit
        self._reverse = reverse

    def __len__(self) -> int:
        return min(len(self._source), self._limit or len(self._source))

    def __getitem__(self, index: int) -> Pair:
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        pair = self._source[index % len(self)]
        return Pair(pair.target, pair.source) if self._reverse else pair

    def read(self, start: int, stop: int) -> list[Pair]:
        """Records `start` to `stop` (exclusive)."""
        pairs = self._source.read(start, min(stop, len(self)))
        return [Pair(pair.target, pair.source) for pair in pairs] if self._reverse else pairs

    def fingerprint(self) -> dict[str, Any]:
        """Facts that change when the records do."""
        return {**self._source.fingerprint(), "limit": self._limit, "reverse": self._reverse}


def open_splits(config: DataConfig, *, train: bool = True) -> dict[str, Source]:
    """The sources of `config`: `train`, and `validation` and `test` where they exist.

    Args:
      config: says where they are.
      train: whether there must be a training split; a trained run is evaluated without one.

    Raises:
      FileNotFoundError: a split that must exist does not; says what was looked for and what is there.
      ValueError: the settings do not name data, or name it ambiguously.
    """
    splits: dict[str, Source]
    if config.source == "files":
        splits = _files_splits(config, train=train)
    elif config.source == "tfds":
        from jaxformer.data import tfds

        splits = {**tfds.open_splits(config)}
    else:
        splits = {
            "train": BundledSource("train", config.num_examples, config.seed),
            "validation": BundledSource("validation", 0, config.seed),  # 0: the corpus' own size
            "test": BundledSource("test", 0, config.seed),
        }
    limits = {"train": config.num_examples}
    return {
        name: View(source, limit=limits.get(name, 0), reverse=config.reverse) for name, source in splits.items()
    }


def _files_splits(config: DataConfig, *, train: bool) -> dict[str, Source]:
    if not config.path:
        raise ValueError("data.source=files needs a folder of parallel text: set --config.data.path=DIR")
    folder = expanded(config.path)
    found = {
        "train": _find(folder, config, "train", [config.train or "train"], needed=train),
        "validation": _find(folder, config, "validation", [config.validation] if config.validation else
                            VALIDATION_NAMES, needed=bool(config.validation)),
        "test": _find(folder, config, "test", [config.test] if config.test else _test_stems(folder, config),
                      needed=bool(config.test)),
    }  # fmt: skip
    if not any(found.values()):
        raise FileNotFoundError(
            f"no validation or test split{_present(folder)}; name the folder with --config.data.path, "
            "a split with --config.data.validation or --config.data.test"
        )
    return {name: FilesSource(paths, cache_dir=config.cache_dir) for name, paths in found.items() if paths}


def _find(folder: Path, config: DataConfig, split: str, stems: Any, *, needed: bool) -> tuple[Path, ...]:
    """The file or files of the first stem that has any; empty if none has and the split is not `needed`."""
    languages = (config.source_language, config.target_language)
    looked_for = []
    for stem in stems:
        given = folder / expanded(stem)  # an absolute stem wins over the folder
        if given.is_file() and given.name.removesuffix(".gz").endswith(".tsv"):
            return (given,)
        sides = []
        for language in languages:
            names = [f"{given}.{language}", f"{given}.{language}.gz"]
            sides.append(next((Path(name) for name in names if Path(name).is_file()), None))
        found = tuple(side for side in sides if side)
        if len(found) == len(sides):
            _check_two_languages(config, found[0])
            return found
        for name in (f"{given}.tsv", f"{given}.tsv.gz"):
            if Path(name).is_file():
                return (Path(name),)
        if found:
            missing = languages[0] if sides[0] is None else languages[1]
            there = found[0]
            raise FileNotFoundError(f"{there} exists, but {given}.{missing} (or .gz) does not{_present(given.parent)}")
        looked_for.append(f"{given}.{languages[0]} with {given.name}.{languages[1]}, or {given.name}.tsv")
    if needed:
        raise FileNotFoundError(
            f"no {split} split: looked for {'; '.join(looked_for)} (each also .gz){_present(folder)}; "
            f"name it with --config.data.{split}, the folder with --config.data.path"
        )
    return ()


def _check_two_languages(config: DataConfig, side: Path) -> None:
    """Refuses to read one file as both sides: a model that copies would score as perfect."""
    if config.source_language == config.target_language:
        raise ValueError(
            f"{side} would be source and target at once: data.source_language and data.target_language are both "
            f"{config.source_language!r}; name the endings of the two files, and to translate from the second to the "
            "first set --config.data.reverse=true"
        )


def _present(folder: Path) -> str:
    """A clause on what `folder` holds."""
    if folder.exists() and not folder.is_dir():
        return f": {folder} is a file, not a folder"
    if not folder.is_dir():
        return f": the folder {folder} does not exist"
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f": {folder} holds {shown or 'no files'}"


def _test_stems(folder: Path, config: DataConfig) -> list[str]:
    """`test` if there is one, else the only stem that starts with it."""
    suffixes = (f".{config.source_language}", f".{config.target_language}", ".tsv")
    stems = set()
    for path in folder.glob("test*"):
        name = path.name.removesuffix(".gz")
        stems |= {name.removesuffix(suffix) for suffix in suffixes if name.endswith(suffix)}
    if "test" in stems:
        return ["test"]
    if len(stems) > 1:
        raise ValueError(
            f"{folder} holds several test splits: {', '.join(sorted(stems))}; choose one with --config.data.test"
        )
    return sorted(stems)
