"""The seal of a folder: the sizes and checksums of its files, written last, by which damage is seen.

When a machine loses its power, files that were just written may be left shorter, empty or full of zeros; a failing disk
does as much later on. Not for what happens to a damaged folder: `cache.py` makes its entries again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import zlib
from pathlib import Path

_SEAL = "seal.json"
_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF)
"""What file systems say that cannot tell when something is on the disk: some in user space, and of objects."""
_BLOCK = 1 << 18  # bytes: of 100 MB in the system's memory, a checksum takes 0.05 s, and longer with larger blocks


def seal(folder: Path) -> None:
    """Brings the files of `folder`, in its folders too, to the disk, and then their sizes and checksums.

    Raises:
      OSError: the disk does not take them.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    noted = {path.relative_to(folder).as_posix(): [path.stat().st_size, _checksum(path)] for path in files}
    (folder / _SEAL).write_text(json.dumps(noted), encoding="utf-8")
    for path in (*files, folder / _SEAL):
        _sync(path)
    for inner in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync_folder(inner)


def damage(folder: Path) -> str:
    """What in `folder` is not as it was sealed, in words; empty if all of it is.

    Raises:
      PermissionError: a file may not be read, which says nothing about what is in it.
    """
    try:
        noted = json.loads((folder / _SEAL).read_bytes())
        for name, (size, _) in noted.items():  # first: it takes no time
            if (found := (folder / name).stat().st_size) != size:
                return f"{name} has {found:,} bytes instead of {size:,}"
        for name, (_, checksum) in noted.items():
            if _checksum(folder / name) != checksum:
                return f"{name} is not what was written"
    except PermissionError:
        raise
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror or error}"
    except (ValueError, TypeError, AttributeError):
        return f"{_SEAL} is torn"
    return ""


def sync_folder(folder: Path) -> None:
    """Brings the names in `folder` to the disk, on systems that do this for folders."""
    with contextlib.suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
    finally:
        os.close(descriptor)


def _checksum(path: Path) -> int:
    """CRC-32 of a file, in little memory."""
    checksum, block = 0, memoryview(bytearray(_BLOCK))
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(block):
            checksum = zlib.crc32(block[:length], checksum)
    return checksum
