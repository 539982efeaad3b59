"""Text files of proteins opened for reading: plain or gzipped, with errors that name the file."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """`path` as text in UTF-8; unpacked while it is read, if its name ends in `.gz`.

    Raises:
      ValueError: if it is no text, or no gzip.
      OSError: if it cannot be read.
    """
    opener = gzip.open if Path(path).suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError as error:
        text = f"{path} is not text in UTF-8 ({error}): give a text file, or name a gzipped one .gz"
        raise ValueError(text) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}): is it complete, and gzipped?") from None


def stem(path: str | os.PathLike[str]) -> str:
    """The name of a file without folder and endings: `1cbs` of `folder/1cbs.cif.gz`."""
    name = Path(path).name.removesuffix(".gz")
    return name.rpartition(".")[0] or name
