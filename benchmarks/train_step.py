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

Peers: `jaxformer`; `jax-plain`, Flax's layers with dropout by threefry and the loss over all the logits; `torch-fp32`,
`torch-bf16` and `torch-compile`, PyTorch's `nn.Transformer`. `--precision` is that of `jaxformer` and `torch-compile`.
All are of the experiment's sizes, and normalise before each sub-layer. On a GPU the bound is the data sheet's peak, and
memory is the GPU's.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
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
from jaxformer.monitoring.heap import restart_with_heap_settings
from jaxformer.parallel.gpu_flags import set_gpu_flags

PEERS = ("jaxformer", "jax-plain", "torch-fp32", "torch-bf16", "torch-compile")
PACKAGES = ("jax", "flax", "optax", "torch")
LOSS, GRADIENT = 1e-4, 1e-3  # how far peers may differ, relatively; bf16 twenty times as far
SYNTHETIC = "synthetic"


def make_peer(name: str, folder: Path, precision: str) -> Any:
    """The peer `name` on the work in `folder`."""
    from benchmarks.peers.work import Work

    work = Work.load(folder)
    if name == "jaxformer":
        from benchmarks.peers.our_training import OurTraining

        return OurTraining(work, precision=precision)
    if name == "jax-plain":
        from benchmarks.peers.plain_training import PlainTraining

        return PlainTraining(work)
    from benchmarks.peers.torch_training import TorchTraining

    compiled = name == "torch-compile"
    autocast = name == "torch-bf16" or (compiled and precision == "bf16")
    return TorchTraining(work, autocast=autocast, compiled=compiled)


def peak_memory() -> float:
    """Bytes at most: of the GPU where there is one, else of the process."""
    import resource

    if name := {"torch", "jax"} & sys.modules.keys():
        if "torch" in name and sys.modules["torch"].cuda.is_available():
            return float(sys.modules["torch"].cuda.max_memory_allocated())
        if "torch" not in name and (found := sys.modules["jax"].devices()[0].memory_stats()):
            return float(found["peak_bytes_in_use"])
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def serve(name: str, folder: Path, precision: str, *, our_heap: bool) -> None:
    """Answers commands on standard input with one JSON line each: `check`, `pass`, `memory`."""
    if our_heap:
        restart_with_heap_settings()
    if name == PEERS[0]:
        set_gpu_flags()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # peers share a GPU's memory
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints
    peer = make_peer(name, folder, precision)
    for line in sys.stdin:
        command, answer = line.strip(), {}
        if command == "check":
            answer = peer.check()
        elif command == "pass":
            start = time.perf_counter()
            peer.steps()
            answer = {"seconds": time.perf_counter() - start}
        elif command == "memory":
            answer = {"mebibytes": peak_memory() / 2**20}
        print(json.dumps(answer), file=answers, flush=True)


_PLATFORMS = {"JAX_PLATFORMS": os.environ["JAX_PLATFORMS"]} if "JAX_PLATFORMS" in os.environ else {}
"""As they were given; this process itself leaves the accelerator alone."""


class Process:
    """A peer in a process of its own."""

    def __init__(self, name: str, folder: Path, precision: str, *, our_heap: bool) -> None:
        command = [sys.executable, "-m", "benchmarks.train_step", f"--serve={name}", f"--folder={folder}"]
        command += [f"--precision={precision}", *(["--same_heap"] if our_heap else [])]
        self.name = name
        environment = {key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"} | _PLATFORMS
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, command: str) -> dict[str, float]:
        """The answer to a command; see `serve`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        print(command, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        self._process.send_signal(signal.SIGSTOP)
        if not line:
            raise SystemExit(f"{self.name} stopped at `{command}`; its messages are above")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.close()
        self._process.wait()


def synthetic_pairs(config: Any, count: int = 200_000) -> Any:
    """Random tokens in sentences as long as WMT's."""
    import numpy as np

    from jaxformer.data.store import TokenizedDataset
    from jaxformer.types import EOS_ID

    random = np.random.default_rng(0)
    source = np.exp(random.normal(np.log(22.8), 0.58, count))  # the mean of these is 27
    target = source * 1.05 * np.exp(random.normal(0.0, 0.15, count))
    lengths = np.stack([source, target], axis=1).round().astype(np.int64).clip(3, config.max_length)
    ends = lengths.sum(axis=1).cumsum()
    tokens = random.integers(EOS_ID + 1, config.vocabulary_size, ends[-1], np.int32)
    return TokenizedDataset(
        ends - lengths.sum(axis=1), lengths[:, 0].astype(np.int32), lengths[:, 1].astype(np.int32), tokens
    )


def make_work(config: Any, count: int, folder: Path) -> tuple[str, float]:
    """Writes the work to `folder`; returns a sentence about the batches and the FLOPs of one round."""
    import jax
    import numpy as np

    from benchmarks.peers.our_training import initial_params
    from benchmarks.peers.work import Sizes, Work
    from jaxformer.data.pipeline import BatchPipeline
    from jaxformer.data.prepare import prepare
    from jaxformer.monitoring.flops import training_flops
    from jaxformer.ops import shift_right, sinusoidal_positions
    from jaxformer.types import BOS_ID

    if config.data.path == SYNTHETIC:
        vocabulary, train = config.data.vocabulary_size, synthetic_pairs(config.data)
    else:
        data = prepare(config.data)
        vocabulary, train = data.tokenizer.source_vocabulary_size, data.train
    model, optimizer = config.model, config.optimizer
    sizes = Sizes(
        vocabulary, model.d_model, model.d_ff, model.num_heads, model.num_encoder_layers,
        model.num_decoder_layers, model.dropout, config.training.label_smoothing, optimizer.learning_rate,
        optimizer.b1, optimizer.b2, optimizer.eps,
    )
    chosen: dict[Any, Any] = {}
    with BatchPipeline(train, config.data, seed=0) as pipeline:
        for batch in pipeline:  # shapes come as often as they do in training: the first batches of different shapes
            chosen.setdefault(batch.target.tokens.shape, batch)
            if len(chosen) == min(count, len(pipeline.shapes)):
                break
    batches = []
    for batch in chosen.values():
        inputs = np.asarray(shift_right(batch.target.tokens, batch.target.positions, BOS_ID))
        inputs = np.where(batch.target.segment_ids != 0, inputs, 0).astype(np.int32)
        batches.append((batch.source.tokens, inputs, batch.target.tokens))
    longest = max(array.shape[1] for batch in batches for array in batch)
    positions = np.asarray(sinusoidal_positions(jax.numpy.arange(longest), model.d_model))
    work = Work(sizes, initial_params(sizes), batches, positions)
    work.save(folder)
    shapes = [(*source.shape, labels.shape[1]) for source, _, labels in batches]
    flops = sum(training_flops(model, sizes.vocabulary, *shape) for shape in shapes)
    real = work.target_tokens / sum(labels.size for _, _, labels in batches)
    text = ", ".join(f"{rows}x({source}+{target})" for rows, source, target in shapes)
    about = f"batches {text} (rows x source + target), {real:.0%} real target tokens, {work.target_tokens} of them"
    return about, flops


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
        name: Process(name, folder, precision, our_heap=same_heap or name == PEERS[0]) for name in names
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


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="multi30k:tiny", help="whose network; a translation experiment")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="jaxformer's and torch-compile's")
    parser.add_argument(
        "--data", default="../shared/data/multi30k/raw", help=f"parallel text: train.en, train.de; or {SYNTHETIC}"
    )
    parser.add_argument("--vocabulary", type=int, default=8000, help="pieces")
    parser.add_argument("--batches", type=int, default=6, help="batches in a round, each of another shape")
    parser.add_argument("--batch_tokens", type=int, default=4096, help="slots on each side of a batch")
    parser.add_argument("--rounds", type=int, default=5, help="how often every peer is timed")
    parser.add_argument("--passes", type=int, default=3, help="passes over the batches in one timing")
    parser.add_argument("--peers", default=",".join(PEERS), help="which, separated by commas")
    parser.add_argument("--same_heap", action="store_true", help="jaxformer's settings of the heap for all peers")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    report.add_json_flag(parser)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder, options.precision, our_heap=options.same_heap)
        return
    peak = gpu_peak(options.precision)  # before anything is timed
    os.environ["JAX_PLATFORMS"] = "cpu"
    names = list(dict.fromkeys([PEERS[0], *options.peers.split(",")]))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise SystemExit(f"no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")

    import experiments
    from jaxformer.config import replace

    experiment, _, variant = options.experiment.partition(":")
    config = experiments.find(experiment).config(variant)
    data: dict[str, Any] = {"vocabulary_size": options.vocabulary, "batch_tokens": options.batch_tokens}
    data |= {"source": "files"} if experiment != "multi30k" else {}
    if options.data != SYNTHETIC and not Path(options.data).exists():
        print(f"{options.data} does not exist: the bundled corpus is used")
        data |= {"source": "bundled", "vocabulary_size": min(options.vocabulary, 2000)}
    config = replace(config, {"data": data | ({"path": options.data} if data.get("source") != "bundled" else {})})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        about, flops = make_work(config, options.batches, folder)
        print(report.heading(*PACKAGES), about, sep="\n", end="\n\n")
        from benchmarks.peers.work import Work

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
