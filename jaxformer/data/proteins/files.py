"""The names of files that hold proteins."""

from __future__ import annotations

import os
from pathlib import Path


def stem(path: str | os.PathLike[str]) -> str:
    """The name of a file without folder and endings: `1cbs` of `folder/1cbs.cif.gz`."""
    name = Path(path).name.removesuffix(".gz")
    return name.rpartition(".")[0] or name
