"""Whether training with every lever on reaches the quality of training without: validation BLEU on Multi30k.

    python -m benchmarks.levers --data=../shared/data/multi30k/raw [--steps=1500] [--seeds=3] [--json=FILE]

`plain` is float32, a pair in each row, layers unrolled, whole batches. `levers` is bfloat16, packed rows, scanned
layers, everything recomputed in the backward pass, two micro-batches. Both take the same number of steps with the same
slots from the same seeds; the fused operations are in both, since nothing switches them off. The two runs of a seed go
side by side, each on a core of its own; their processor time is printed. The difference is to be read beside the spread
over seeds. The scores on the test set, which a run ends with, are not read.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks import report
from jaxformer.cores import bound_cores

PACKAGES = ("jax", "flax", "optax")
LEVERS = (
    "--config.precision=bf16",
    "--config.data.batching=pack",
    "--config.model.scan_layers=true",
    "--config.memory.remat=full",
    "--config.memory.accumulate=2",
)
SIDES: dict[str, tuple[str, ...]] = {"plain": (), "levers": LEVERS}


class Outcome(NamedTuple):
    """One run: its last validation BLEU (greedy, cased, detokenised) and its processor time in minutes."""

    bleu: float
    minutes: float


def start(options: argparse.Namespace, seed: int, side: str, workdir: Path, core: int) -> subprocess.Popen[bytes]:
    """A training run on one core; what it prints goes to a file beside its workdir."""
    command = [
        sys.executable, "run.py", f"--experiment={options.experiment}", f"--workdir={workdir}",
        f"--config.data.path={options.data}", "--config.data.references=", f"--config.training.seed={seed}",
        f"--config.training.num_steps={options.steps}", f"--config.training.eval_every={options.steps}", *SIDES[side],
    ]  # fmt: skip
    with workdir.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    os.sched_setaffinity(process.pid, {core})  # before it has started a thread
    return process


def finish(process: subprocess.Popen[bytes], workdir: Path) -> Outcome:
    """Waits for a run and reads what it reached."""
    _, status, usage = os.wait4(process.pid, 0)  # unlike `process.wait`, it says what the run used
    process.returncode = status
    if status:
        raise SystemExit(f"a run failed:\n{workdir.with_suffix('.log').read_text()[-2000:]}")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    bleu = [line["validation/bleu"] for line in lines if "validation/bleu" in line][-1]
    return Outcome(bleu, (usage.ru_utime + usage.ru_stime) / 60)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of Multi30k: train.en, train.de, val.en, ...")
    parser.add_argument("--experiment", default="multi30k:quick", help="the recipe")
    parser.add_argument("--steps", type=report.positive, default=1500, help="of each run")
    parser.add_argument("--seeds", type=report.positive, default=3, help="runs of each side")
    report.add_json_flag(parser)
    options = parser.parse_args()
    cores = bound_cores()
    if len(cores) < 2:
        parser.error("this needs two cores, one for each side")
    found: dict[str, list[Outcome]] = {side: [] for side in SIDES}
    print(report.heading(*PACKAGES), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            workdirs = {side: Path(folder) / f"{side}-{seed}" for side in SIDES}
            processes = {
                side: start(options, seed, side, workdirs[side], core) for side, core in zip(SIDES, cores, strict=False)
            }
            try:
                for side, process in processes.items():
                    found[side].append(finish(process, workdirs[side]))
            finally:
                for process in processes.values():
                    process.kill()  # nothing to one that has ended
            print(f"seed {seed}:", {side: outcomes[-1] for side, outcomes in found.items()}, flush=True)
    rows, figures = [], []
    for side, outcomes in found.items():
        scores = [outcome.bleu for outcome in outcomes]
        mean = statistics.mean(scores)
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        minutes = statistics.mean(outcome.minutes for outcome in outcomes)
        rows.append([side, *(f"{score:.2f}" for score in scores), f"{mean:.2f}", f"{spread:.2f}", f"{minutes:.1f}"])
        figures.append({"name": side, "value": mean, "unit": "validation BLEU", "spread": spread, "minutes": minutes})
    seeds = [f"seed {seed}" for seed in range(options.seeds)]
    print(report.table(["validation BLEU", *seeds, "mean", "standard deviation", "processor minutes"], rows))
    report.write_json(options.json, figures, *PACKAGES)


if __name__ == "__main__":
    main()
