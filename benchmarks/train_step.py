"""The training step of jaxformer beside its rivals: the same network, the same batches, the same parameters.

    python -m benchmarks.train_step [--data=DIR] [--batches=6] [--rounds=5] [--passes=3] [--peers=torch-fp32,torch-bf16]
                                    [--same_heap] [--json=FILE]
    python -m benchmarks.train_step --experiment=wmt:big --precision=bf16 --data=synthetic --vocabulary=32000 \
                                    --batch_tokens=25600 --batches=2 --peers=torch-bf16,torch-compile    # on a GPU

Batches are those that jaxformer's pipeline makes of DIR (parallel text, by default Multi30k beside the project; else
of the bundled corpus), one in each of several shapes, as they come. `synthetic` stands for random tokens in
sentences as long as WMT's: log-normal lengths with a mean of 27 pieces, the target's a twentieth more. Every peer
starts from the same parameters; loss and gradient without dropout must agree before anything is timed. Then the peers
take turns, each in a process of its own, in every round: forward, backward and Adam on every batch, with dropout of one
rate everywhere, once to settle and `--passes` times on the clock. A peer whose turn it is not is stopped (SIGSTOP):
idle thread pools spin. Rates are real target tokens a second, medians over rounds; `bound` is what the matrix products
of these batches alone would allow at the rate at which this machine multiplies large matrices, and a peer's share of it
is its model FLOPs utilisation.

Each peer runs as its users run it: jaxformer with the settings of the C library's heap that `run.py` gives it
(`monitoring.heap`), the others as they are installed; with `--same_heap` all of them have jaxformer's, which help them
as well.

Peers: `jaxformer`; `jaxformer-each-core`, a process on each core of a CPU, as with `run.py --processes`; `jax-plain`,
Flax's layers with dropout by threefry and the loss over all the logits; `torch-fp32`, `torch-bf16` and `torch-compile`,
PyTorch's `nn.Transformer`. `--precision` is that of `jaxformer` and `torch-compile`. All are of the experiment's sizes,
and normalise before each sub-layer. On a GPU the bound is the data sheet's peak, and memory is the GPU's.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.peers.making import SYNTHETIC, make_work
from benchmarks.peers.serving import EACH_CORE, Processes
from benchmarks.peers.work import Work
from jaxformer.cores import available_cores

PEERS = ("jaxformer", EACH_CORE, "jax-plain", "torch-fp32", "torch-bf16", "torch-compile")
PACKAGES = ("jax", "flax", "optax", "torch")
LOSS, GRADIENT = 1e-4, 1e-3  # how far peers may differ, relatively; bf16 twenty times as far


def product_rate(seconds: float = 3.0) -> float:
    """FLOP/s of float32 products of large matrices in JAX, the median of those that fit in `seconds`."""
    import jax
    import jax.numpy as jnp

    size = 1536
    matrix = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    rates, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        rates.append(2 * size**3 / (time.perf_counter() - start))
    return statistics.median(rates)


def gpu_peak(precision: str) -> float:
    """FLOP/s of the first GPU's products by its data sheet; 0 where there is none that JAX could use."""
    from jaxformer.monitoring.peaks import data_sheet_rate

    if not shutil.which("nvidia-smi") or os.environ.get("JAX_PLATFORMS", "cuda") == "cpu":
        return 0.0
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    name = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if name and not data_sheet_rate(name, precision):
        raise SystemExit(f"the peak of {name} is not on record: add it to jaxformer/monitoring/peaks.py")
    return data_sheet_rate(name, precision)


def agree(answers: dict[str, dict[str, float]], precision: str) -> str:
    """A table of what the peers computed; raises SystemExit where one differs from jaxformer."""
    expected = answers[PEERS[0]]
    rows, wrong = [], []
    for name, answer in answers.items():
        rows.append([name, f"{answer['loss']:.6f}", f"{answer['gradient']:.6f}"])
        slack = 20 if "bf16" in (name[-4:], precision) else 1
        for quantity, bound in (("loss", LOSS), ("gradient", GRADIENT)):
            if not abs(answer[quantity] / expected[quantity] - 1) <= slack * bound:
                wrong.append(f"{name}: {quantity} {answer[quantity]} instead of {expected[quantity]}")
    text = report.table(["first batch, no dropout", "loss", "gradient norm"], rows)
    if wrong:
        raise SystemExit(f"{text}\nThe peers do not do the same work:\n" + "\n".join(wrong))
    return text


def measure(
    names: list[str], folder: Path, rounds: int, passes: int, precision: str, *, same_heap: bool, gpu: bool
) -> dict[str, dict[str, Any]]:
    """Checks, warms and times the peers in turn: seconds of a pass in each round, and peak memory in MiB."""
    processes = {
        name: Processes(name, folder, precision, our_heap=same_heap or name.startswith(PEERS[0])) for name in names
    }
    try:
        # A GPU's host has cores enough for all of them to compile at once.
        with concurrent.futures.ThreadPoolExecutor(len(names) if gpu else 1) as pool:
            answers = dict(zip(names, pool.map(lambda process: process.ask("check"), processes.values()), strict=True))
            print(agree(answers, precision), "\n", flush=True)
            for _ in range(2):  # the first compiles, the second settles
                list(pool.map(lambda process: process.ask("pass"), processes.values()))
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name, process in processes.items():
                process.ask("pass")  # its memory and caches are its own again
                times[name].append(sum(process.ask("pass")["seconds"] for _ in range(passes)) / passes)
        measured = {
            name: {"times": times[name], "memory": process.ask("memory")["mebibytes"]}
            for name, process in processes.items()
        }
    finally:
        for process in processes.values():
            process.close()
    return measured


def configured(options: argparse.Namespace) -> Any:
    """The experiment's configuration with the data of the command line; a ValueError says what is wrong with that."""
    import experiments
    from jaxformer.config import replace

    name, _, variant = options.experiment.partition(":")
    config = experiments.find(name).config(variant)
    if config.task.kind != "translation":
        raise ValueError(f"--experiment: {options.experiment} is no translation, which the peers are made for")
    data: dict[str, Any] = {"source": "files", "path": options.data}
    vocabulary = options.vocabulary
    if options.data != SYNTHETIC and not Path(options.data).exists():
        print(f"{options.data} does not exist: the bundled corpus is used")
        data, vocabulary = {"source": "bundled"}, min(vocabulary, 2000)
    return replace(config, {"data": data | {"vocabulary_size": vocabulary, "batch_tokens": options.batch_tokens}})


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="multi30k:tiny", help="whose network; a translation experiment")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="jaxformer's and torch-compile's")
    parser.add_argument(
        "--data", default="../shared/data/multi30k/raw", help=f"parallel text: train.en, train.de; or {SYNTHETIC}"
    )
    parser.add_argument("--vocabulary", type=report.positive, default=8000, help="pieces")
    parser.add_argument("--batches", type=report.positive, default=6, help="batches in a round, each of another shape")
    parser.add_argument("--batch_tokens", type=report.positive, default=4096, help="slots on each side of a batch")
    parser.add_argument("--rounds", type=report.positive, default=5, help="how often every peer is timed")
    parser.add_argument("--passes", type=report.positive, default=3, help="passes over the batches in one timing")
    parser.add_argument("--peers", default=",".join(PEERS), help="which, separated by commas")
    parser.add_argument("--same_heap", action="store_true", help="jaxformer's settings of the heap for all peers")
    report.add_json_flag(parser)
    options = parser.parse_args()
    names = list(dict.fromkeys([PEERS[0], *options.peers.split(",")]))
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"--peers: no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that stopped peers are ended, too
    peak = gpu_peak(options.precision)  # before anything is timed
    if peak and EACH_CORE in names:
        names.remove(EACH_CORE)  # for CPUs
    os.environ["JAX_PLATFORMS"] = "cpu"
    try:
        config = configured(options)
    except ValueError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        about, flops = make_work(config, options.batches, folder, 1 if peak else available_cores())
        print(report.heading(*PACKAGES), about, sep="\n", end="\n\n")
        tokens = Work.load(folder).target_tokens
        measured = measure(
            names, folder, options.rounds, options.passes, options.precision,
            same_heap=options.same_heap, gpu=peak > 0,
        )  # fmt: skip
    bound = tokens / (flops / (peak or product_rate()))
    rows, figures = [], []
    first = statistics.median(measured[PEERS[0]]["times"])
    for peer, found in measured.items():
        rates = sorted(tokens / seconds for seconds in found["times"])
        rate = statistics.median(rates)
        rows.append([
            peer, f"{rate:,.0f}", f"{rates[0]:,.0f} to {rates[-1]:,.0f}", f"{rate / bound:.0%}",
            f"{statistics.median(found['times']) / first:.2f}", f"{found['memory']:,.0f}",
        ])
        figures.append({
            "name": peer, "value": rate, "unit": "target tokens/s", "lowest": rates[0], "highest": rates[-1],
            "share_of_bound": rate / bound, "peak_memory_mib": found["memory"],
        })
    rows.append(["bound", f"{bound:,.0f}", "", "100%", "", ""])
    figures.append({"name": "bound", "value": bound, "unit": "target tokens/s"})
    columns = ["peer", "target tokens/s", "lowest to highest", "of the bound", "jaxformer is faster by", "peak MiB"]
    print(report.table(columns, rows))
    report.write_json(options.json, figures, *PACKAGES)


if __name__ == "__main__":
    main()
