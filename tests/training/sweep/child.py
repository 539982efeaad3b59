"""Stands for `run.py` in tests of sweeps: takes its flags, and behaves in the way that `data.cache_dir` asks for.

    (empty)   finishes: validation/bleu is best at a learning rate of 1e-3 and grows with the seed, test/bleu not
    crash     a message and exit code 1
    diverge   the message of a loss that is no number
    kill      killed by the system
    nan       finishes, with a test score that is no number for seed 0
    silent    ends well, without a result
    wait      says that it began, and saves when it is asked to stop; finishes when it is started again
    stubborn  the same, but a second request is needed
"""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path


def finish(folder, fields):
    rate, seed = float(fields.get("optimizer.learning_rate", "1e-3")), int(fields.get("training.seed", "0"))
    bleu = 50 - 10 * abs(math.log10(rate) + 3) + seed
    records = [{"step": step, "time": 0.0, "validation/bleu": bleu * step / 20} for step in (5, 10, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    result = {
        "metrics": {"validation/bleu": bleu - 1, "test/bleu": 100 - bleu, "train/loss": 1.5},
        "step": 20, "training_seconds": 4.0, "throughput": {"train/tokens_per_second": 5000.0},
    }  # fmt: skip
    if fields.get("data.cache_dir") == "nan" and seed == 0:
        result["metrics"]["test/bleu"] = "nan"
    (folder / "result.json").write_text(json.dumps(result))


def wait(folder, requests):
    if (folder / "saved").exists():
        return
    received = []
    signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    (folder / "began").write_text(str(os.getpid()))
    while len(received) < requests:
        time.sleep(0.01)
        if len(received) == 1:
            (folder / "asked").touch()
    (folder / "saved").touch()
    sys.exit(143)


def main():
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    fields = {name.removeprefix("config."): value for name, value in flags.items()}
    folder = Path(flags["workdir"])
    with open(folder / "starts", "a") as file:
        file.write(json.dumps({"flags": flags, "cores": sorted(os.sched_getaffinity(0)),
                               "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}) + "\n")  # fmt: skip
    kind = fields.get("data.cache_dir", "")
    print("some talk", flush=True)
    if kind == "crash":
        print("run.py: the disk is full: free some space", file=sys.stderr)
        print("bye")
        sys.exit(1)
    if kind == "diverge":
        print("run.py: training diverged: loss is nan at step 3 (learning rate 1); lower it", file=sys.stderr)
        sys.exit(1)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "silent":
        return
    if kind in ("wait", "stubborn"):
        wait(folder, 1 if kind == "wait" else 2)
    finish(folder, fields)


if __name__ == "__main__":
    main()
