"""Runs the rows of docs/gpu-queue.md, what only a GPU can tell, one after another within the minutes that there are.

    python -m benchmarks.gpu_queue --list
    python -m benchmarks.gpu_queue --minutes=9 [--output=runs/queue]
    python -m benchmarks.gpu_queue --rows=15,11

Rows for more GPUs than there are, and rows that may take longer than what is left, are left out, and said to be; one
that takes longer than its own minutes is ended. What a row prints goes to a file, OUTPUT/NUMBER.txt; OUTPUT/summary.txt
has how each ended, how long it took and its last line, and is written anew after every row.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from benchmarks import report

ROOT = Path(__file__).parents[1]
QUEUE = ROOT / "docs" / "gpu-queue.md"
_COLUMNS = "| # | what | GPUs | minutes | command | expected |"
_SECONDS_TO_END = 10.0  # that a row has to save what it likes
_COUNT = "import jax; print(sum(device.platform == 'gpu' for device in jax.devices()))"


class Item(NamedTuple):
    """A row: its number, what it settles, the GPUs and minutes that it takes, its commands, what is expected."""

    number: int
    what: str
    devices: int
    minutes: float
    commands: list[str]
    expected: str


def read_queue(text: str) -> list[Item]:
    """The rows of the table in a document, in its order.

    Raises:
      ValueError: for a document without the table, or a row that has no command or another number of cells.
    """
    _, found, after = text.partition(f"{_COLUMNS}\n")
    if not found:
        raise ValueError(f"no table of the columns {_COLUMNS}")
    items = []
    for line in after.partition("\n\n")[0].splitlines()[1:]:
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        commands = re.findall(r"`([^`]+)`", cells[4]) if len(cells) == 6 else []
        if not commands:
            raise ValueError(f"a row of the queue needs 6 cells and a command in `...`: {line}")
        items.append(Item(int(cells[0]), cells[1], int(cells[2]), float(cells[3]), commands, cells[5]))
    return items


def chosen(items: Sequence[Item], numbers: str) -> list[Item]:
    """The rows with these numbers, `15,11`, in that order; all for an empty string.

    Raises:
      ValueError: for a number that no row has.
    """
    by_number = {str(item.number): item for item in items}
    wanted = [number.strip() for number in numbers.split(",")] if numbers else list(by_number)
    if unknown := [number for number in wanted if number not in by_number]:
        raise ValueError(f"--rows={numbers}: there is no row {unknown[0]!r}, but {', '.join(by_number)}")
    return [by_number[number] for number in wanted]


def take(item: Item, folder: Path) -> tuple[str, float]:
    """Runs a row; how it ended, in a word or two, and seconds. What it prints goes to a file of its number."""
    start = time.monotonic()
    with (folder / f"{item.number}.txt").open("w", encoding="utf-8") as log:
        for command in item.commands:
            print(f"$ {command}", file=log, flush=True)
            left = item.minutes * 60 - (time.monotonic() - start)
            code = _run(re.sub(r"(?<![\w./-])python(?= )", shlex.quote(sys.executable), command), log, left)
            if code is None:
                return "too long", time.monotonic() - start
            if code:
                return f"exit {code}", time.monotonic() - start
    return "ok", time.monotonic() - start


def _run(command: str, log: TextIO, seconds: float) -> int | None:
    """The exit status of a shell's command line, or None if it was ended, with all that it had started."""
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        for stop in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, stop)
                process.wait(timeout=_SECONDS_TO_END)


def count_gpus() -> int:
    """GPUs that JAX sees; in another process, as one that has seen them keeps their memory."""
    found = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False)
    if found.returncode:
        last = found.stderr.strip().splitlines()[-1:]
        raise ValueError(f"JAX finds no device: {''.join(last)}")
    return int(found.stdout)


def summary(rows: Sequence[tuple[Item, str, float]], folder: Path) -> str:
    """The table of how rows ended, each with the last line that it printed."""
    lines = []
    for item, ended, seconds in rows:
        log = folder / f"{item.number}.txt"
        text = log.read_text(encoding="utf-8", errors="replace").strip() if seconds and log.exists() else ""
        lines.append([f"{item.number} {item.what}"[:70], ended, f"{seconds:.0f}", text.rpartition("\n")[2][-100:]])
    return report.table(["row", "ended", "seconds", "last line"], lines)


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="for all rows together")
    parser.add_argument("--rows", default="", help="numbers, in the order wanted; by default all, in that of the table")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "queue", help="folder for what rows print")
    parser.add_argument("--devices", type=int, help="how many GPUs rows may need; by default those that are here")
    parser.add_argument("--list", action="store_true", help="print the rows and run none")
    options = parser.parse_args()
    try:
        items = chosen(read_queue(QUEUE.read_text(encoding="utf-8")), options.rows)
        devices = count_gpus() if options.devices is None else options.devices
        for folder in () if options.list else (options.output, ROOT / "runs"):  # rows write to both
            folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if options.list:
        listed = [[f"{one.number} {one.what}", str(one.devices), f"{one.minutes:g}"] for one in items]
        print(report.table(["row", "GPUs", "minutes at most"], listed), f"\nGPUs here: {devices}", sep="\n")
        return
    end = time.monotonic() + 60 * options.minutes
    rows: list[tuple[Item, str, float]] = []
    interrupted = False
    try:
        for item in items:
            left = (end - time.monotonic()) / 60
            if item.devices > devices:
                ended, seconds = f"needs {item.devices} GPUs", 0.0
            elif item.minutes > left:
                ended, seconds = f"left out: {left:.1f} min left", 0.0
            else:
                print(f"row {item.number}: {item.what}", flush=True)
                ended, seconds = take(item, options.output)
            rows.append((item, ended, seconds))
            (options.output / "summary.txt").write_text(summary(rows, options.output) + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        interrupted = True
    print(summary(rows, options.output), f"\nwhat each printed: {options.output}", sep="\n")
    if interrupted:
        print("interrupted")
        raise SystemExit(130)
    if any(ended == "too long" or ended.startswith("exit") for _, ended, _ in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
