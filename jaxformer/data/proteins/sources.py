"""From a folder to the chains of its splits: which file or folder a split is, and which reader it needs.

A split is a table (`train.tsv`), a folder of `.dssp` and `.cif` files (`train/`), a list of such files (`train.list`),
or FASTA with DSSP beside it (`train.fasta` and the folder `train/`, or `dssp/` for all splits). Tables, FASTA and mmCIF
may be gzipped. Nothing is split here: which chains are alike, and must not be parted, only the data's makers know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from jaxformer.config import DataConfig
from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.dssp import read_dssp, with_whole_sequences
from jaxformer.data.proteins.fasta import read_fasta
from jaxformer.data.proteins.mmcif import read_mmcif
from jaxformer.data.proteins.synthetic import DEFAULT_SIZES, SyntheticChains
from jaxformer.data.proteins.tsv import read_tsv
from jaxformer.data.text import open_text
from jaxformer.paths import expanded

_STEMS = {"train": ("train",), "validation": ("val", "valid", "validation", "dev"), "test": ("test",)}
_ENDINGS = (".tsv", ".tsv.gz", ".fasta", ".fasta.gz", ".fa", ".list", "")
_STRUCTURES = (".dssp", ".cif", ".cif.gz")


def read_splits(config: DataConfig, *, train: bool = True) -> dict[str, Iterator[Chain]]:
    """Readers of the splits that a configuration names, by `train`, `validation` and `test`; nothing is read yet.

    Args:
      config: `source`, `path`, `train`, `validation`, `test`, `num_examples` and `seed` are read.
      train: whether the training split is read, and must be there.

    Raises:
      ValueError, OSError: if a split is not there, with what is; by its reader, if it holds no chains.
    """
    if config.source == "bundled":
        sizes = DEFAULT_SIZES | {"train": config.num_examples}
        if not train:
            del sizes["train"]
        return {split: iter(SyntheticChains(split, sizes[split], config.seed)) for split in sizes}
    if not config.path:
        raise ValueError("data.source=files needs a folder of chains: set --config.data.path=DIR")
    folder = expanded(config.path)
    found = {}
    for split, stems in _STEMS.items():
        if split == "train" and not train:
            continue
        named = getattr(config, split)
        path = _find(folder, (named,) if named else stems)
        if path is None and split == "test" and not named:
            path = _only_test(folder)
        if path is None and (named or split == "train"):
            raise FileNotFoundError(
                f"no {split} split: looked for {' or '.join(stems if not named else (named,))} with one of the endings "
                f"{', '.join(filter(None, _ENDINGS))}, or a folder of that name{_present(folder)}; name it with "
                f"--config.data.{split}, the folder with --config.data.path"
            )
        if path is not None:
            found[split] = _filled(split, path)
    return found


def _filled(split: str, path: Path) -> Iterator[Chain]:
    """The chains of a split, of which there must be some."""
    chain = None
    for chain in read_chains(path):
        yield chain
    if chain is None:
        raise ValueError(
            f"the {split} split {path} holds no chains: give it some, remove it, or name another with "
            f"--config.data.{split}"
        )


def read_chains(path: Path) -> Iterator[Chain]:
    """The chains of a table, a folder, a list, FASTA with DSSP beside it, a `.dssp` or an mmCIF file.

    Raises:
      ValueError, OSError: if it is none of these, or cannot be read.
    """
    name = path.name.removesuffix(".gz")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(_STRUCTURES))
        if not files:
            raise ValueError(f"{path} holds no file that ends in {', '.join(_STRUCTURES)}{_present(path)}")
        for one in files:
            yield from read_chains(one)
    elif name.endswith(".tsv"):
        yield from read_tsv(path)
    elif name.endswith((".fasta", ".fa")):
        yield from _fasta_with_dssp(path)
    elif name.endswith(".list"):
        with open_text(path) as file:
            entries = [line.strip() for line in file if line.strip()]
        for entry in entries:
            yield from read_chains(path.parent / expanded(entry))
    elif name.endswith(".dssp"):
        yield from read_dssp(path)
    elif name.endswith(".cif"):
        yield from read_mmcif(path)
    else:
        raise ValueError(f"{path} is of no known kind: give .tsv, .fasta, .list, .dssp, .cif, or a folder")


def _fasta_with_dssp(path: Path) -> Iterator[Chain]:
    stem = re.sub(r"\.(fasta|fa)(\.gz)?$", "", path.name)
    folders = [folder for folder in (path.parent / stem, path.parent / "dssp") if folder.is_dir()]
    if not folders:
        raise FileNotFoundError(f"{path} has no structures beside it: looked for the folders {stem} and dssp")
    resolved = [chain for file in sorted(folders[0].glob("*.dssp")) for chain in read_dssp(file)]
    with open_text(path) as file:
        yield from with_whole_sequences(resolved, read_fasta(file, source=str(path)))


def _find(folder: Path, stems: tuple[str, ...]) -> Path | None:
    for stem in stems:
        given = folder / expanded(stem)
        for ending in _ENDINGS:
            path = given.with_name(given.name + ending)
            if path.is_file() or (path.is_dir() and not ending):
                return path
    return None


def _only_test(folder: Path) -> Path | None:
    """The one table whose name begins with `test`."""
    several = sorted(path for path in folder.glob("test*") if path.name.endswith((".tsv", ".tsv.gz")))
    if len(several) > 1:
        names = ", ".join(path.name for path in several)
        raise ValueError(f"{folder} holds several test splits: {names}; choose one with --config.data.test")
    return several[0] if several else None


def _present(folder: Path) -> str:
    """A clause on what `folder` holds."""
    if not folder.is_dir():
        return f": {folder} is no folder"
    names = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f": {folder} holds {shown or 'nothing'}"
