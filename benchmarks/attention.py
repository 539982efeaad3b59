"""How fast attention is: every implementation of ours and the rivals that are installed, checked before they are timed.

    python -m benchmarks.attention [--json=FILE] [--minutes=7.5] [--only=NAME,...]

First each implementation computes small odd shapes under all masks; values and gradients are compared with ours in
float32 as plain array operations. What fails is listed with its reason and is not timed under that mask. Then forward,
and forward with backward, are timed in bfloat16 at 16,384 tokens: repetitions within one compiled call (torch: within
one CUDA graph), the implementations by turns, median and spread of five rounds. TFLOP/s count the pairs that the mask
leaves.

A kernel that hangs or takes its process down is an outcome like another: checks and timings run in processes of their
own, which are ended and replaced. On a CPU the same command runs in float32 with few tokens. Torch is compared on a
GPU only.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import report
from benchmarks.peers.attention_cases import check_cases, timing_cases
from benchmarks.peers.attention_contestants import contestants
from benchmarks.peers.attention_worker import ROUNDS

PACKAGES = ("jax", "jaxlib", "torch", "tokamax")
SILENCE = 100.0  # seconds without a word after which a process is held to hang


def listen(arguments: Sequence[str], deadline: float) -> Iterator[dict[str, Any]]:
    """What a worker says; last, unless it ended well, {"broke": how, "at": its last beginning}."""
    # Several processes share the GPU, so that none may take all of its memory beforehand.
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "benchmarks.peers.attention_worker", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stderr is not None
    lines: queue.Queue[str | None] = queue.Queue()
    errors: list[str] = []

    def read_lines(stream: Any) -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    readers = [
        threading.Thread(target=read_lines, args=(process.stdout,), daemon=True),
        threading.Thread(target=lambda stream: errors.extend(stream), args=(process.stderr,), daemon=True),
    ]
    for reader in readers:
        reader.start()
    last, ended, broke = {}, False, ""
    while not ended:
        try:
            line = lines.get(timeout=max(0.1, min(SILENCE, deadline - time.monotonic())))
        except queue.Empty:
            broke = "out of time" if time.monotonic() >= deadline else f"hung for {SILENCE:.0f} seconds"
            break
        if line is None:
            process.wait()
            readers[1].join(timeout=5)
            text = [entry.strip() for entry in errors if entry.strip()]
            broke = f"ended with {process.returncode}: {text[-1][:300] if text else 'no word'}"
            break
        if not line.startswith("{"):
            continue
        message = json.loads(line)
        ended = message.get("end", False)
        if "begin" in message:
            last = message
        elif not ended:
            yield message
    process.kill()
    process.wait()
    if not ended:
        yield {"broke": broke, "at": last.get("begin", "its start"), "contestant": last.get("contestant", "")}


def checked(names: Sequence[str], gpu: bool, deadline: float) -> tuple[set[tuple[str, str]], list[list[str]]]:
    """The (contestant, mask) pairs that failed, and a table of what was not right."""
    dtype = "bfloat16" if gpu else "float32"
    bad: set[tuple[str, str]] = set()
    table: list[list[str]] = []

    def check_some(some: list[str]) -> tuple[list[str], list[dict[str, Any]]]:
        arguments = [f"--check={','.join(some)}", f"--dtype={dtype}"]
        # A part of the time: what checks take is missing for timings.
        return some, list(listen(arguments, time.monotonic() + (0.35 if gpu else 0.7) * (deadline - time.monotonic())))

    masks = {case.mask for case in check_cases(dtype)}
    # On a GPU a process each, as any may take its own down; a CPU saves starts, and computes the right results once.
    parts = [[name] for name in names] if gpu else [list(names)]
    with concurrent.futures.ThreadPoolExecutor(max(1, min(4, (os.cpu_count() or 1) // 4))) as pool:
        for part, messages in pool.map(check_some, parts):
            broken = next((message for message in messages if "broke" in message), None)
            if broken:
                table.append([", ".join(part), broken["at"], broken["broke"]])
            for name in part:
                mine = [message for message in messages if message.get("name") == name]
                right = {message["case"]: message["mask"] for message in mine if message["outcome"] == "right"}
                print(f"{name}: {len(right)} of {len(check_cases(dtype))} cases right", flush=True)
                if broken:
                    bad |= {(name, mask) for mask in masks - set(right.values())}
                for message in mine:
                    if message["outcome"] in ("failed", "wrong"):
                        table.append([name, message["case"], f"{message['outcome']}: {message['detail']}"])
                        if message["plain"]:
                            bad.add((name, message["mask"]))
                    elif message["outcome"] == "refused" and "not asked of" not in message["detail"]:
                        table.append([name, message["case"], f"refused: {message['detail']}"])
    return bad, table


def timed(names: Sequence[str], bad: set[tuple[str, str]], gpu: bool, deadline: float) -> tuple[list[Any], list[Any]]:
    """Rows, and a table of failures; a contestant that breaks the process is left out of the rest."""
    cases = timing_cases(gpu)
    left, rows, table = list(range(len(cases))), [], []
    broken: set[str] = set()
    while left and time.monotonic() < deadline:
        plan = []
        for number in left:
            takers = [n for n in names if n not in broken and (n, cases[number].mask) not in bad]
            plan.append((number, takers))
        for message in listen([f"--time={json.dumps(plan)}", *(["--gpu"] if gpu else [])], deadline):
            if "row" in message:
                rows.append(message["row"])
                row = message["row"]
                print(f"  {row['value']:8.4g} TFLOP/s  {row['milliseconds']:9.3f} ms  {row['name']}", flush=True)
            elif "failure" in message:
                table.append([message["failure"].split(",")[0], message["failure"], message["detail"]])
            elif "done" in message:
                left.remove(message["done"])
            elif "broke" in message:
                table.append([message["contestant"] or "?", message["at"], message["broke"]])
                if message["contestant"]:
                    broken.add(message["contestant"])
                else:
                    left = left[1:]  # whatever it was, it would be the same again
    table += [["all", str(cases[number]), "not timed: out of time"] for number in left]
    return rows, table


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A table for each pass and mask: contestants down, lengths and head sizes across."""
    for way in ("forward", "forward+backward"):
        for mask in dict.fromkeys(row["mask"] for row in rows):
            chosen = [row for row in rows if row["pass"] == way and row["mask"] == mask]
            columns = sorted({(row["head_size"], row["num_queries"]) for row in chosen})
            lines = []
            for name in dict.fromkeys(row["contestant"] for row in chosen):
                cells = {(r["head_size"], r["num_queries"]): r for r in chosen if r["contestant"] == name}
                texts = []
                for column in columns:
                    row = cells.get(column)
                    spread = 0.0 if row is None else (row["slowest"] - row["fastest"]) / row["milliseconds"]
                    texts.append("-" if row is None else f"{row['value']:.3g} ({spread:.0%})")
                lines.append([name, *texts])
            heads = [f"H{head_size} {length}" for head_size, length in columns]
            print(f"\n{way}, mask {mask}: TFLOP/s (spread of {ROUNDS} rounds)")
            print(report.table([mask, *heads], lines))


def _backend() -> str:
    """The default backend, asked in a process of its own: this one leaves the accelerator alone."""
    command = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]


def main() -> None:
    """Checks, times, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=7.5, help="after which to stop, whatever is left")
    parser.add_argument("--only", help="contestants to take, separated by commas")
    report.add_json_flag(parser)
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    gpu = _backend() == "gpu"
    names = contestants(gpu)
    if options.only:
        unknown = set(options.only.split(",")) - set(names)
        if unknown:
            parser.error(f"{', '.join(sorted(unknown))}: not among {', '.join(names)}")
        names = options.only.split(",")
    bad, table = checked(names, gpu, deadline)
    columns = ["contestant", "case", "why"]
    print("\nNot right, or refused:\n" + report.table(columns, table) if table else "\nAll right.")
    print("\nTimes:")
    rows, failures = timed(names, bad, gpu, deadline)
    print_rows(rows)
    if failures:
        print("\nNot timed:\n" + report.table(columns, failures))
    # Only now, when no process of its own needs the accelerator any more.
    print("\n" + report.heading(*PACKAGES))
    report.write_json(options.json, rows, *PACKAGES)


if __name__ == "__main__":
    main()
