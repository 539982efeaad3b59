"""Several processes train as one does; one that is lost stops the others; what was saved continues on other devices."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from jaxformer.parallel.processes import ProcessLost, start_processes
from tests.training import reversal

ROOT = Path(__file__).resolve().parents[2]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def _address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def _start(devices: int, join: str, data: Path, workdir: Path, **fields: object) -> subprocess.Popen[str]:
    overrides = [f"{name}={value!r}" for name, value in fields.items()]
    command = [sys.executable, "-m", "tests.parallel.worker", str(devices), join, str(data), str(workdir), *overrides]
    return subprocess.Popen(
        command, env=_ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def _end(*processes: subprocess.Popen[str]) -> list[str]:
    """What each wrote to standard error, when all have ended well."""
    written = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(written)
    return written


def _losses(workdir: Path, name: str = "train/loss") -> list[float]:
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [record[name] for record in records if name in record]


def _counted(workdir: Path) -> dict[str, float]:
    """What a run says of its batches, all processes together."""
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    filled = [record["train/padding_efficiency"] for record in records if "train/padding_efficiency" in record]
    uneven = [record["train/imbalance"] for record in records if "train/imbalance" in record]
    tokens = json.loads((workdir / "result.json").read_text())["target_tokens"]
    return {"target tokens": tokens, "padding efficiency": filled[-1], "imbalance": uneven[-1]}


def _saved(workdir: Path) -> int:
    """The newest complete checkpoint; 0 if there is none."""
    return max((int(folder.name) for folder in workdir.glob("checkpoints/*") if folder.name.isdigit()), default=0)


def _wait_until(done: Callable[[], bool], *running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not done():
        ended = [process.communicate()[1] for process in running if process.poll() is not None]
        assert not ended, ended[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reversal.write_corpus(tmp_path_factory.mktemp("data"), held_back=0)


STEPS = {
    "training__num_steps": 20, "training__log_every": 1, "training__checkpoint_every": 10, "training__eval_every": 10
}  # fmt: skip


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of one process with eight devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    _end(_start(8, "", data, workdir, **STEPS))
    return workdir


@pytest.mark.parametrize(
    "mesh",
    [{}, pytest.param({"mesh__data": 2, "mesh__fsdp": 2, "mesh__tensor": 2}, marks=pytest.mark.slow)],
    ids=["data", "all"],
)
def test_two_processes_of_four_devices_are_one_of_eight(data, alone, tmp_path, mesh):
    address = _address()
    written = _end(*(_start(4, f"{i}/2@{address}", data, tmp_path / "run", **STEPS, **mesh) for i in range(2)))
    if mesh:
        _end(_start(8, "", data, tmp_path / "one", **STEPS, **mesh))
    one = tmp_path / "one" if mesh else alone
    assert _losses(tmp_path / "run") == pytest.approx(_losses(one), rel=2e-6)
    assert _counted(tmp_path / "run") == _counted(one), "each process counts what all of them do"
    assert "step 1 was done" in written[0]
    assert f"of {4 if mesh else 8} devices the fullest has" in written[0]


_PLACES = """
import sys
import jax
import numpy as np
from jaxformer.config import MeshConfig
from jaxformer.parallel.mesh import first_copy, host_share, make_layout, place_batch
from jaxformer.parallel.processes import start_processes

jax.config.update("jax_num_cpu_devices", 1)
number = start_processes(sys.argv[1], seconds=60)
layout = make_layout(MeshConfig(data=1, context=2))
assert host_share(layout) == (0, 1), "both read every row"
batch = {"tokens": np.arange(24, dtype=np.int32).reshape(4, 6), "labels": np.arange(4, dtype=np.int32)}
placed = place_batch(batch, layout)
own = {name: leaf.addressable_data(0) for name, leaf in placed.items()}
np.testing.assert_array_equal(own["tokens"], batch["tokens"][:, 3 * number : 3 * number + 3])
np.testing.assert_array_equal(own["labels"], batch["labels"])
np.testing.assert_array_equal(first_copy(placed, layout)["tokens"], batch["tokens"])
"""


def test_two_processes_with_halves_of_sequences_place_their_own_columns():
    address = _address()
    commands = [[sys.executable, "-c", _PLACES, f"{i}/2@{address}"] for i in range(2)]
    _end(*(subprocess.Popen(command, env=_ENVIRONMENT, stderr=subprocess.PIPE, text=True) for command in commands))


@pytest.mark.slow
def test_two_processes_that_share_every_row_are_one_of_two_devices(data, tmp_path):
    halves = STEPS | {"training__num_steps": 4, "mesh__data": 1, "mesh__context": 2}
    address = _address()
    joins = {f"{i}/2@{address}": ("run", 1) for i in range(2)} | {"": ("one", 2)}
    _end(*(_start(devices, join, data, tmp_path / name, **halves) for join, (name, devices) in joins.items()))
    losses = _losses(tmp_path / "run")
    assert len(losses) == 4
    assert losses == pytest.approx(_losses(tmp_path / "one"), rel=2e-6)
    tokens = [json.loads((tmp_path / name / "result.json").read_text())["target_tokens"] for name in ("run", "one")]
    assert tokens[0] == tokens[1], "rows that both read are counted once"


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [{}, {"mesh__data": 1, "mesh__context": 2}], ids=["data", "context"])
def test_two_processes_validate_as_one(tmp_path, mesh):
    data = reversal.write_corpus(tmp_path / "data", held_back=21)  # an odd number: some rows only fill up
    steps = STEPS | {"training__num_steps": 2, "training__eval_every": 1} | mesh
    address = _address()
    joins = {f"{i}/2@{address}": ("run", 1) for i in range(2)} | {"": ("one", 2)}
    _end(*(_start(devices, join, data, tmp_path / name, **steps) for join, (name, devices) in joins.items()))
    for metric in ("loss", "nll", "accuracy", "bleu"):
        found, expected = (_losses(tmp_path / name, f"validation/{metric}") for name in ("run", "one"))
        assert len(found) == 2
        assert found == pytest.approx(expected, rel=2e-6), metric


@pytest.mark.slow
def test_two_processes_save_by_the_clock(data, tmp_path):
    steps = {"training__num_steps": 25, "training__checkpoint_every": 0, "training__eval_every": 0}
    address = _address()
    clock = {"training__checkpoint_minutes": 1e-6, "training__keep_checkpoints": 9}
    _end(*(_start(1, f"{i}/2@{address}", data, tmp_path / "run", **steps, **clock) for i in range(2)))
    assert {folder.name for folder in (tmp_path / "run/checkpoints").iterdir() if folder.name.isdigit()} == {
        "10", "20", "25",
    }  # fmt: skip


@pytest.mark.slow
def test_two_processes_make_one_plan_and_keep_it(data, tmp_path):
    steps = STEPS | {"training__num_steps": 4, "training__checkpoint_every": 2}
    settings = steps | {"mesh__auto": True, "data__batch_tokens": 0, "plan__memory": 0.02}
    workdir = tmp_path / "run"

    def plans(written: list[str]) -> list[str]:
        lines = [line for text in written for line in text.splitlines()]
        return [line.partition("the plan: ")[2] for line in lines if "the plan: " in line]

    address = _address()
    written = _end(*(_start(4, f"{i}/2@{address}", data, workdir, **settings) for i in range(2)))
    first, second = plans(written)
    assert first == second, "both processes plan from the same numbers"
    planned = json.loads((workdir / "plan.json").read_text())
    assert planned["devices"] == 8
    assert f"{planned['batch_tokens']:,} slots a side" in first
    assert len(_losses(workdir)) == 4

    # The same command goes on with it: as two processes, and as one that has all eight devices.
    for number in (2, 1):
        (workdir / "result.json").unlink()
        address = _address()
        joins = [f"{i}/2@{address}" for i in range(2)] if number == 2 else [""]
        written = _end(*(_start(8 // number, join, data, workdir, **settings) for join in joins))
        assert not plans(written)
        assert all("the layout of the run before: " in text and "on 8 x cpu" in text for text in written)
        assert json.loads((workdir / "plan.json").read_text()) == planned
        config = json.loads((workdir / "config.json").read_text())
        assert (config["mesh"]["auto"], config["data"]["batch_tokens"]) == (False, planned["batch_tokens"])


@pytest.mark.slow
def test_a_run_of_eight_devices_continues_on_fewer_and_on_another_mesh(data, alone, tmp_path):
    _end(_start(8, "", data, tmp_path / "whole", **STEPS))
    for devices, mesh in ((4, {"mesh__data": 2, "mesh__fsdp": 2}), (2, {"mesh__data": 1, "mesh__tensor": 2}), (1, {})):
        workdir = tmp_path / f"{devices}"
        shutil.copytree(tmp_path / "whole", workdir)
        (workdir / "result.json").unlink()
        shutil.rmtree(workdir / "checkpoints" / "20")
        written = _end(_start(devices, "", data, workdir, **STEPS, **mesh))
        assert "restored step 10" in written[0]
        assert _losses(workdir) == pytest.approx(_losses(alone), rel=2e-5)


@pytest.mark.slow
def test_a_lost_process_stops_the_others_and_the_run_continues(data, tmp_path):
    workdir = tmp_path / "run"
    steps = STEPS | {"training__num_steps": 100_000, "training__eval_every": 0}

    def start_two() -> list[subprocess.Popen[str]]:
        address = _address()
        return [_start(4, f"{i}/2@{address}", data, workdir, **steps) for i in range(2)]

    first, second = start_two()
    _wait_until(lambda: _saved(workdir) > 0, first, second)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    killed = time.monotonic()
    _, written = first.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert first.returncode != 0
    # JAX ends the process itself where it notices first; otherwise the message is ours.
    assert "another task died" in written or "lost another process" in written, written[-3000:]

    saved = _saved(workdir)
    both = start_two()
    _wait_until(lambda: _saved(workdir) > saved, *both)
    for process in both:
        process.send_signal(signal.SIGTERM)
    written = "".join(process.communicate(timeout=120)[1] for process in both)
    assert [process.returncode for process in both] == [128 + signal.SIGTERM] * 2, written[-3000:]
    assert f"restored step {saved}" in written


def test_processes_that_disagree_stop_and_name_the_field(data, tmp_path):
    address = _address()
    both = [
        _start(1, f"{i}/2@{address}", data, tmp_path / "run", **STEPS, optimizer__learning_rate=0.001 * (i + 1))
        for i in range(2)
    ]
    for process in both:
        _, written = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "process 1 was given another optimizer.learning_rate than process 0" in written, written


def test_processes_whose_workdir_is_not_one_folder_stop_before_they_train(data, tmp_path):
    address = _address()
    both = [_start(1, f"{i}/2@{address}", data, tmp_path / f"run{i}", **STEPS) for i in range(2)]
    for process, workdir in zip(both, ("run0", "run1"), strict=True):
        _, written = process.communicate(timeout=120)
        assert process.returncode == 1
        assert f"--workdir={tmp_path / workdir} is not one folder that all processes share: process 1 does" in written
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_coordinator_that_does_not_answer_is_named():
    with pytest.raises(ProcessLost, match=r"process 0 at 127\.0\.0\.1:1 did not answer within 1 s"):
        start_processes("1/2@127.0.0.1:1", seconds=1)


def _joining(join: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a process that only joins the others, and waits a second for them."""
    program = f"""
import sys
from jaxformer.monitoring.console import exit_code
from jaxformer.parallel.processes import start_processes
sys.exit(exit_code("joining", lambda: start_processes({join!r}, seconds=1)))
"""
    return subprocess.run(
        [sys.executable, "-c", program], env=_ENVIRONMENT | variables, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def test_a_first_process_that_nobody_joins_says_so():
    done = _joining(f"0/2@{_address()}")
    assert done.returncode == 1, done.stderr
    assert "joining: this process (0/2@127.0.0.1:" in done.stderr
    assert "has waited 1 s, and not all of the others have joined: see that each is started" in done.stderr
    assert "stack trace" not in done.stderr


def test_a_port_that_is_in_use_is_refused():
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=f"process 0 cannot listen at port {port} of this machine"):
            start_processes(f"0/2@127.0.0.1:{port}")


def test_a_launcher_that_jax_does_not_know_is_told_how_to_join():
    done = _joining("", OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="0")  # as Open MPI 5 does
    assert done.returncode == 1, done.stderr
    assert f"JAX {jax.__version__} cannot tell where the others are (" in done.stderr
    assert "say so to each with --join=$OMPI_COMM_WORLD_RANK/$OMPI_COMM_WORLD_SIZE@HOST:PORT" in done.stderr


@pytest.mark.parametrize("join", ["1", "0/2@node", "2/2@node:80", "0/2@node:0", "a/b@c:1", "0/0@node:1"])
def test_a_join_that_makes_no_sense_is_refused(join):
    with pytest.raises(ValueError, match="--join="):
        start_processes(join)
