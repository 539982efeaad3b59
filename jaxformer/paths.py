"""Paths as a person types them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """`path` with a leading `~` replaced by the home folder: shells leave the one in `--flag=~/folder` as it is.

    Raises:
      ValueError: if nobody knows what that folder is.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{os.fspath(path)}: {error} Give the path in full, or set HOME.") from None
