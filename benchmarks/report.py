"""What every benchmark says beside its figures: machine, versions and day; and the table and JSON they go to."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxformer.cores import available_cores


def hardware() -> str:
    """The processor, its cores, and the accelerators that JAX sees."""
    import jax

    name = platform.processor() or platform.machine()
    features = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = dict(
            (part.strip() for part in line.split(":", 1)) for line in cpuinfo.read_text().splitlines() if ":" in line
        )
        name = lines.get("model name", name)
        known = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
        features = ", " + next((flag for flag in known if flag in lines.get("flags", "").split()), "no AVX2")
    cores = available_cores()
    text = f"{cores} cores of {name}{features}"
    devices = [device for device in jax.devices() if device.platform != "cpu"]
    return f"{len(devices)} x {devices[0].device_kind}; {text}" if devices else text


def versions(*packages: str) -> str:
    """Python's version and those of `packages` that are installed."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def heading(*packages: str) -> str:
    """Two lines: hardware and day, versions."""
    return f"{hardware()}; {datetime.date.today().isoformat()}\n{versions(*packages)}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned text, the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    lines = []
    for row in (columns, ["-" * width for width in widths], *rows):
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def positive(text: str) -> int:
    """The type of a flag that counts something: with 0 of it there is nothing to measure."""
    with contextlib.suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")


def positives(text: str) -> list[int]:
    """The type of a flag that names several sizes, separated by commas; see `positive`."""
    return [positive(part) for part in text.split(",")]


def share(text: str) -> float:
    """The type of a flag that is a part of a whole: above 0, and 1 at most."""
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) <= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and of at most 1")


def new_file(text: str) -> Path:
    """The type of a flag that names a file to write: refused before anything is measured, not afterwards."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder: name a file")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.absolute().parent}")
    return path


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """The flag `--json=FILE` of every benchmark."""
    parser.add_argument("--json", type=new_file, help="also write the figures to this file")


def write_json(path: Path | None, rows: Sequence[dict[str, Any]], *packages: str) -> None:
    """`{"hardware", "versions", "date", "rows"}` to `path`, if it is given; a row has `name`, `value`, `unit`."""
    if path is None:
        return
    day = datetime.date.today().isoformat()
    record = {"hardware": hardware(), "versions": versions(*packages), "date": day, "rows": list(rows)}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
