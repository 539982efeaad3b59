"""`kill -9` at a random moment, in a process of its own: the run that continues ends like one that was never killed.

These processes compile as a run does, whatever the tests beside them do.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jaxformer.training.checkpoint import Checkpoints
from tests.compiling import as_a_run
from tests.training import reversal

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from tests.training import reversal
from pathlib import Path
from jaxformer import training

data, workdir = map(Path, sys.argv[1:])
training.train(reversal.config(data, training__num_steps=120, training__checkpoint_every=23,
                                training__r_drop=1.0, training__r_drop_start=60), workdir)
"""
TIMES = ("time", "memory/", "per_second", "padding_efficiency", "mfu", "data_wait", "flops", "utilisation")
"""What differs between two runs without any difference in training: clocks, memory, and rates of this process."""


def _start(data: Path, workdir: Path) -> subprocess.Popen[bytes]:
    environment = as_a_run() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(data), str(workdir)]
    with open(f"{workdir}.log", "ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _records(workdir: Path) -> list[dict[str, Any]]:
    file = workdir / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []  # without a line that is being written
    return [{k: v for k, v in json.loads(line).items() if not any(part in k for part in TIMES)} for line in lines]


def _last(workdir: Path) -> tuple[int, dict[str, Any]]:
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    step = checkpoints.steps()[-1]
    run = checkpoints.run(step)
    checkpoints.close()
    return step, run


def test_a_run_killed_at_a_random_moment_continues_bit_for_bit(tmp_path):
    data = reversal.write_corpus(tmp_path / "data", held_back=0)
    whole = _start(data, tmp_path / "whole")
    assert whole.wait(timeout=900) == 0, (tmp_path / "whole.log").read_text()

    killed = _start(data, tmp_path / "killed")
    moment = random.SystemRandom().uniform(1, len(_records(tmp_path / "whole")) - 5)
    deadline = time.monotonic() + 600
    while killed.poll() is None and len(_records(tmp_path / "killed")) < int(moment):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(moment % 1 / 50)  # not only just after a record
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(timeout=300) == -signal.SIGKILL, f"it had ended before the kill, at record {moment:.2f}"

    resumed = _start(data, tmp_path / "killed")
    assert resumed.wait(timeout=900) == 0, (tmp_path / "killed.log").read_text()
    context = f"killed after record {moment:.3f}"
    assert _records(tmp_path / "killed") == _records(tmp_path / "whole"), context
    (step, run), (wanted_step, wanted) = _last(tmp_path / "killed"), _last(tmp_path / "whole")
    assert step == wanted_step == 120
    # A checksum of every leaf: parameters, moving average, both moments, step and dropout key.
    assert run["digests"] == wanted["digests"], context
    assert (run["iterator"], run["tokens"]) == (wanted["iterator"], wanted["tokens"]), context
