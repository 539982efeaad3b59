"""How fast a corpus is prepared, and how much memory preparing and reading it take.

    python -m benchmarks.prepare --pairs=1000000 [--json=FILE]

Pairs come from the bundled generator, once directly and once through text files; each is cleaned, a vocabulary is
learnt, and everything is tokenised and cached, in a fresh process and a fresh cache. Another fresh process then reads
batches as a trainer does. Rates are pairs a second of wall time, and of processor time on two cores (which other work
on the machine does not disturb). Memory is the peak resident size; preparing sums the parent's and the largest
worker's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report

SMALL = 100_000
PACKAGES = ("numpy", "sentencepiece")


def measure_prepare(source: str, pairs: int, folder: Path) -> dict[str, float]:
    """Prepares the corpus in this process (and its workers) and says what that took."""
    from jaxformer.data.prepare import prepare

    start = time.perf_counter()
    data = prepare(_config(source, pairs, folder))
    wall = time.perf_counter() - start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    if not len(data.train) > 0.5 * pairs:
        raise SystemExit(f"only {len(data.train)} of {pairs} pairs were kept:\n{data.report}")
    return {
        "wall": wall,
        "processor": sum(part.ru_utime + part.ru_stime for part in usage),
        "parent": usage[0].ru_maxrss / 1024,
        "worker": usage[1].ru_maxrss / 1024,
        "kept": len(data.train),
        "tokens": int(data.train.source_lengths.sum()) + int(data.train.target_lengths.sum()),
    }


def measure_read(source: str, pairs: int, folder: Path, expected: int) -> dict[str, float]:
    """Reads one epoch of batches of the prepared corpus, and checks that it held every token."""
    from jaxformer.data.pipeline import BatchPipeline
    from jaxformer.data.prepare import prepare

    config = _config(source, pairs, folder)
    data = prepare(config)
    tokens = batches = 0
    with BatchPipeline(data.train, config, seed=0) as pipeline:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.perf_counter()
        for batch in pipeline:
            tokens += int(batch.source.weights.sum()) + int(batch.target.weights.sum())
            batches += 1
            if tokens >= expected:
                break
        wall = time.perf_counter() - start
        efficiency = pipeline.efficiency
    if tokens != expected:
        raise SystemExit(f"an epoch held {tokens} tokens, not {expected}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"wall": wall, "batches": batches, "before": before, "peak": peak, "efficiency": efficiency}


def _config(source: str, pairs: int, folder: Path) -> Any:
    from jaxformer.config import DataConfig

    given = {"num_examples": pairs} if source == "bundled" else {"path": str(folder / "text")}
    return DataConfig(source=source, vocabulary_size=4000, cache_dir=str(folder / source), **given)


def write_text(pairs: int, folder: Path) -> None:
    """Writes the generated pairs as parallel text."""
    from jaxformer.data.bundled import BundledCorpus

    (folder / "text").mkdir()
    with open(folder / "text/train.en", "w") as source, open(folder / "text/train.de", "w") as target:
        for pair in BundledCorpus("train", pairs):
            source.write(pair.source + "\n")
            target.write(pair.target + "\n")


def child(*arguments: object) -> dict[str, float]:
    """Runs one measurement in a fresh process, with memory of its own."""
    command = [sys.executable, "-m", "benchmarks.prepare", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def rows_for(source: str, pairs: int, folder: Path) -> list[dict[str, Any]]:
    """The table's rows for one corpus."""
    made = child("--measure=prepare", f"--source={source}", f"--pairs={pairs}", f"--folder={folder}")
    read = child("--measure=read", f"--source={source}", f"--pairs={pairs}", f"--folder={folder}",
                 f"--expected={int(made['tokens'])}")  # fmt: skip
    name = f"{source}-{pairs}"
    return [
        {"name": f"prepare-{name}", "value": pairs / made["wall"], "unit": "pairs/s"},
        {"name": f"prepare-{name}-processor", "value": 2 * pairs / made["processor"], "unit": "pairs/s of 2 cores"},
        {"name": f"prepare-{name}-memory", "value": made["parent"] + made["worker"], "unit": "MiB"},
        {"name": f"read-{name}", "value": read["batches"] / read["wall"], "unit": "batches/s of 4,096 tokens"},
        {"name": f"read-{name}-efficiency", "value": read["efficiency"], "unit": "real tokens / slots"},
        {"name": f"read-{name}-memory", "value": read["peak"], "unit": "MiB"},
        {"name": f"read-{name}-memory-before", "value": read["before"], "unit": "MiB"},
    ]


def main() -> None:
    """Measures both sources at 100,000 pairs and at `--pairs`, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=report.positive, default=1_000_000)
    parser.add_argument("--sources", default="bundled,files", help="which of bundled and files to measure")
    report.add_json_flag(parser)
    parser.add_argument("--measure", choices=["prepare", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--expected", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure == "prepare":
        print(json.dumps(measure_prepare(options.source, options.pairs, options.folder)))
        return
    if options.measure == "read":
        print(json.dumps(measure_read(options.source, options.pairs, options.folder, options.expected)))
        return
    rows = []
    print(report.heading(*PACKAGES), f"load {os.getloadavg()[0]:.1f}", sep="\n", flush=True)
    for pairs in sorted({min(SMALL, options.pairs), options.pairs}):
        for source in options.sources.split(","):
            with tempfile.TemporaryDirectory() as folder:
                if source == "files":
                    write_text(pairs, Path(folder))
                for row in rows_for(source, pairs, Path(folder)):
                    rows.append(row)
                    print(f"{row['name']:<40} {row['value']:>12,.2f} {row['unit']}", flush=True)
    report.write_json(options.json, rows, *PACKAGES)


if __name__ == "__main__":
    main()
