"""Writing records that survive: atomic replacement, strict JSON, and disk errors that say what to do.

Not for what the records mean (`training.workdir`, `monitoring.trackers`).
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class DiskError(OSError):
    """The operating system's refusal to write, with what to do about it."""


_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space or choose another {flag}",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another {flag}",
    errno.EACCES: "no permission to write there: change that or choose another {flag}",
    errno.EPERM: "no permission to write there: change that or choose another {flag}",
    errno.EROFS: "the file system is read-only: choose another {flag}",
    errno.ENOENT: "the folder is not there: make it or choose another {flag}",
    errno.ENOTDIR: "a part of the path is a file: choose another {flag}",
    errno.EEXIST: "it is a file, not a folder: choose another {flag}",
    errno.EISDIR: "it is a folder, not a file: move it away or choose another {flag}",
}


@contextlib.contextmanager
def explain_disk_errors(path: str | os.PathLike[str], flag: str = "--workdir") -> Iterator[None]:
    """Turns an `OSError` from writing `path` into a `DiskError` that says what to do.

    A pipe whose reader has gone is no fault of the disk, and passes as `BrokenPipeError`.

    Args:
      path: what is written.
      flag: that a person gave it, or the folder it is in, with.
    """
    try:
        yield
    except (DiskError, BrokenPipeError):
        raise
    except OSError as error:
        number = error.errno or 0
        remedy = _REMEDIES.get(number, f"{error.strerror or error}: choose another {{flag}}").replace("{flag}", flag)
        explained = DiskError(f"cannot write {os.fspath(path)}: {remedy}")
        explained.errno = number
        raise explained from error


def atomic_write(path: Path, content: str | bytes) -> None:
    """Writes `path` so that a reader, or a crash, finds the old content or the new, never a part; text in UTF-8.

    Raises:
      DiskError: if it cannot be written; the old content is then still there.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with explain_disk_errors(path):
        try:
            with open(partial, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise


def plain(value: Any) -> Any:
    """`value` in what strict JSON holds: scalars of numpy and jax as Python's; NaN and infinities as strings.

    `float` reads those strings back; strict readers of JSON would refuse the bare words.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
