"""What a training step needs in memory, and how long it takes, with every policy of rematerialisation and accumulation.

    python -m benchmarks.memory [--experiment=multi30k:tiny] [--rows=256] [--source=32] [--target=32] [--steps=5]
                                [--precision=fp32] [--only=dots,full+scan] [--json=FILE]

Each setting trains on random tokens in a process of its own, one after another. `compiled` is what the compiled program
asks for while a step computes; `peak` what the process had of the device's memory at most, on a CPU of the host's, with
JAX and its compiler in it. Times are medians, and no more than a hint: the processes do not take turns. Losses of the
last step must agree to 1e-3.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from typing import Any

from benchmarks import report
from jaxformer.monitoring.heap import restart_with_heap_settings

SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "scan": {"model.scan_layers": True},
    "dots": {"memory.remat": "dots"},
    "full": {"memory.remat": "full"},
    "dots+scan": {"memory.remat": "dots", "model.scan_layers": True},
    "full+scan": {"memory.remat": "full", "model.scan_layers": True},
    "offload+scan": {"memory.remat": "offload", "model.scan_layers": True},
    "accumulate=2": {"memory.accumulate": 2},
    "accumulate=4": {"memory.accumulate": 4},
    "accumulate=8": {"memory.accumulate": 8},
    "accumulate=8+full+scan": {"memory.accumulate": 8, "memory.remat": "full", "model.scan_layers": True},
}
_SLACK = 1e-3


def measure(setting: str, options: argparse.Namespace) -> dict[str, float]:
    """Compiled and peak bytes, seconds of a step and its loss, of one setting in this process."""
    import jax

    import experiments
    from benchmarks.peers.our_training import Vocabulary
    from benchmarks.step import run
    from jaxformer.config import replace
    from jaxformer.parallel.mesh import make_layout
    from jaxformer.tasks.translation import TranslationTask
    from jaxformer.training.memory import step_memory

    name, _, variant = options.experiment.partition(":")
    config = replace(experiments.find(name).config(variant), {"precision": options.precision, **SETTINGS[setting]})
    shape = (options.rows, options.source, options.target)
    times, loss = run(config, options.vocabulary, shape, options.steps)
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use") or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    task = TranslationTask(config, Vocabulary(options.vocabulary))
    compiled = step_memory(config, task, make_layout(config.mesh), shape).temporary or 0
    return {"compiled": float(compiled), "peak": float(peak), "seconds": statistics.median(times), "loss": loss}


def measured_apart(setting: str) -> dict[str, float]:
    """The same, in a process of its own with the flags of this one."""
    command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:], f"--one={setting}"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"{setting}: the process ended with {found.returncode}; see above")
    return json.loads(found.stdout.splitlines()[-1])


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def chosen(text: str) -> list[str]:
    """The names of settings in `text`, separated by commas; all of them for none."""
    names = [name.strip() for name in text.split(",") if name.strip()] or list(SETTINGS)
    if strange := [name for name in names if name not in SETTINGS]:
        raise SystemExit(f"--only: {strange[0]!r} is none of {', '.join(SETTINGS)}")
    return names


def main() -> None:
    """Measures the settings and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="multi30k:tiny", help="a translation")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--vocabulary", type=report.positive, default=8000, help="pieces")
    parser.add_argument("--rows", type=report.positive, default=256, help="sentences in the batch")
    parser.add_argument("--source", type=report.positive, default=32, help="tokens in each source sentence")
    parser.add_argument("--target", type=report.positive, default=32, help="tokens in each target sentence")
    parser.add_argument("--steps", type=report.positive, default=5, help="how many to time")
    parser.add_argument("--only", default="", help="some of the settings, separated by commas")
    parser.add_argument("--one", choices=SETTINGS, help=argparse.SUPPRESS)
    report.add_json_flag(parser)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return
    names = chosen(options.only)
    print(report.heading("jax", "flax"), flush=True)
    found = {name: measured_apart(name) for name in names}
    first = found[names[0]]
    rows = [
        [name, _mebibytes(one["compiled"]), _mebibytes(one["peak"]), f"{1e3 * one['seconds']:.0f} ms",
         f"{one['seconds'] / first['seconds']:.2f}", f"{one['loss']:.6f}"]
        for name, one in found.items()
    ]  # fmt: skip
    work = f"{options.experiment}, {options.rows} x ({options.source}+{options.target})"
    print(report.table([work, "compiled", "peak", "step", "to the first", "loss"], rows))
    for name, one in found.items():
        if not abs(one["loss"] / first["loss"] - 1) <= _SLACK:  # nan is wrong, too
            raise SystemExit(f"{name} has another loss than {names[0]}: something is wrong with it")
    figures = [{"name": name, "value": one["compiled"], "unit": "bytes", **one} for name, one in found.items()]
    report.write_json(options.json, figures, "jax", "flax")


if __name__ == "__main__":
    restart_with_heap_settings()
    main()
