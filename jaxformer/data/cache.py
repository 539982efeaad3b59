"""The cache folder: entries named by a hash of what they were made from, written whole or not at all.

An entry is a folder. It is built under a temporary name, sealed, and renamed when it is on the disk, so a killed or
full-disk run leaves no half entry, and a lock makes a second process wait for the first instead of doing the work
twice. An entry whose seal tells of damage is built again. Not for what is inside an entry: `store.py` and
`tokenizer.py` know that.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from jaxformer.data.seal import damage, seal, sync_folder
from jaxformer.paths import expanded

_PREFIX = ".making-"
"""Of folders that are being filled; after it come host and process."""

_ADVICE = "choose another folder with --config.data.cache_dir, or free some space"


def cache_folder(cache_dir: str = "") -> Path:
    """`cache_dir`, or the user's cache folder (`$XDG_CACHE_HOME/jaxformer` or `~/.cache/jaxformer`) if empty."""
    if cache_dir:
        return expanded(cache_dir)
    return Path(os.environ.get("XDG_CACHE_HOME") or expanded("~/.cache")) / "jaxformer"


def digest(value: Mapping[str, Any]) -> str:
    """A short hash of a JSON-like mapping, the same for equal mappings."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Tells errors of writing into `folder` in one sentence that names the folder and the flag; others pass."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        named = isinstance(error.filename, str | os.PathLike)
        at = Path(error.filename) if named else Path()
        if full or (named and (at.is_relative_to(folder) or folder.is_relative_to(at))):
            reason = error.strerror or error
            raise OSError(f"cannot write the data cache in {folder}: {reason}: {_ADVICE}") from error
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the file lock `path`, where the system and the file system offer such locks."""
    with open(path, "a") as file:
        # Without a lock two processes may both build: the rename still lets only whole entries appear.
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_leftovers(folder: Path) -> None:
    """Removes what processes of this machine were making when they were killed."""
    here = f"{_PREFIX}{socket.gethostname()}-"
    for made in folder.glob(f"{here}*-*"):
        process = made.name.removeprefix(here).partition("-")[0]
        if process.isdigit() and not _runs(int(process)):
            shutil.rmtree(made, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def cached(cache_dir: str, name: str, build: Callable[[Path], None]) -> Path:
    """The folder of the entry `name`, made by `build(empty folder)` if it is not there yet, or damaged.

    Every byte of an entry that is there is read and compared with its seal, at some 2 GB a second.

    Args:
      cache_dir: as in `cache_folder`.
      name: a readable prefix and a `digest` of everything the entry depends on.
      build: fills the folder that it is given.

    Raises:
      OSError: the cache folder is not writable or full; the message names the folder and the flag.
    """
    folder = cache_folder(cache_dir)
    entry = folder / name
    if _is_whole(entry):
        return entry
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{name}.lock"):
            if not _is_whole(entry, warn=True):
                _remove_leftovers(folder)
                _make(entry, build)
    return entry


def _is_whole(entry: Path, *, warn: bool = False) -> bool:
    """Whether the entry is there as it was sealed; with `warn` it is said if it is there otherwise."""
    if not entry.is_dir():
        return False
    damaged = damage(entry)
    if damaged and warn:
        logging.warning("the data cache is damaged and made again: %s (%s)", entry, damaged)
    return not damaged


def _make(entry: Path, build: Callable[[Path], None]) -> None:
    """Builds `entry` under another name, and puts it in its place when it is on the disk."""
    prefix = f"{_PREFIX}{socket.gethostname()}-{os.getpid()}-"
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=entry.parent))
    try:
        made = temporary / "made"
        made.mkdir()
        build(made)
        seal(made)
        _publish(made, entry, temporary / "damaged")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(made: Path, entry: Path, aside: Path) -> None:
    """Renames `made` to `entry`, and moves a damaged one `aside`; whoever has its files open keeps them."""
    if _is_whole(entry):
        return  # without locks, another process may have been quicker: its entry is as good
    try:
        with contextlib.suppress(FileNotFoundError):
            os.rename(entry, aside)
        os.rename(made, entry)
    except OSError:
        if not _is_whole(entry):
            raise
    sync_folder(entry.parent)
