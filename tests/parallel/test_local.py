"""One run as several processes of this machine: what each is told, how their ends become one, what is passed on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxformer.parallel import local
from jaxformer.parallel.local import run_several
from tests.parallel.test_processes import ROOT

CORES = len(os.sched_getaffinity(0))
several = pytest.mark.skipif(CORES < 2, reason="there is one core: no second process can have its own")


def _program(text: str) -> list[str]:
    """A Python program that knows its `number`, and the flag it was `told`."""
    begin = "import os, sys, time, signal; told = sys.argv[-1]; number = int(told.split('/')[0].split('=')[1])\n"
    return [sys.executable, "-c", begin + text]


@several
def test_each_process_is_told_its_number_and_has_its_own_cores(tmp_path):
    ours = os.sched_getaffinity(0)
    program = f"open(f'{tmp_path}/{{number}}', 'w').write(f'{{told}} {{sorted(os.sched_getaffinity(0))}}')"
    assert run_several(_program(program), 2) == 0
    told, cores = zip(*((tmp_path / name).read_text().split(" ", 1) for name in "01"), strict=True)
    assert [one.split("@")[0] for one in told] == ["--join=0/2", "--join=1/2"]
    assert told[0].split("@")[1] == told[1].split("@")[1]
    shares = [set(json.loads(one)) for one in cores]
    assert shares[0] | shares[1] == ours
    assert not shares[0] & shares[1]
    assert os.sched_getaffinity(0) == ours


@several
@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        ("sys.exit(3 * number)", 3, "process 1 of the run failed (exit code 3):"),
        ("print('no room'); sys.exit(3 * number)", 3, "no room"),
        ("number and os.kill(os.getpid(), 9)", 137, "process 1 of the run failed (killed by SIGKILL)"),
        ("sys.exit('a mistake')", 1, ""),  # of both: the first one's own message is enough
        ("sys.exit(4 - 4 * number)", 4, ""),
    ],
)
def test_the_run_fails_with_any_process(program, code, message, capfd):
    assert run_several(_program(program), 2) == code
    shown = capfd.readouterr().err
    assert message in shown
    assert shown.count("a mistake") == program.count("a mistake")
    assert bool(message) == ("process 1" in shown)


@several
def test_what_is_left_of_a_run_that_failed_is_ended(monkeypatch, capfd):
    monkeypatch.setattr(local, "_ALONE_SECONDS", 0.5)
    start = time.monotonic()
    assert run_several(_program("sys.exit(5) if number else time.sleep(60)"), 2) == 137
    assert time.monotonic() - start < 30
    assert "process 1 of the run failed (exit code 5)" in capfd.readouterr().err


@several
@pytest.mark.parametrize(("asked", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_reaches_all_as_sigterm(asked, code, tmp_path):
    program = f"""
signal.signal(signal.SIGTERM, lambda *_: (open(f'{tmp_path}/{{number}}', 'w').close(), sys.exit(143)))
open(f'{tmp_path}/ready-{{number}}', 'w').close()
time.sleep(60)
"""
    begin = "import signal, sys; from jaxformer.parallel.local import run_several"
    begin += "; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # these tests may run under nohup themselves
    caller = f"{begin}; sys.exit(run_several({_program(program)!r}, 2))"
    process = subprocess.Popen([sys.executable, "-c", caller], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while len(list(tmp_path.glob("ready-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(asked)
    written = process.communicate(timeout=30)[1]
    assert process.returncode == code
    assert written == ""
    assert {path.name for path in tmp_path.glob("[01]")} == {"0", "1"}


def _never() -> None:
    raise AssertionError("something was to be started")


_SAVES = """
from jaxformer.parallel import local
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
local.start('1', False, None)
"""
_WAITS = "while True: time.sleep(0.1)"


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@several
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="which processes run is read from /proc")
def test_nothing_outlives_a_killed_starter(tmp_path):
    ready = f"open(f'{tmp_path}/{{os.getpid()}}', 'w').close()\n{_WAITS}"
    caller = f"from jaxformer.parallel.local import run_several; run_several({_program(_SAVES + ready)!r}, 2)"
    process = subprocess.Popen([sys.executable, "-c", caller], cwd=ROOT)
    while len(list(tmp_path.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    started = [int(path.name) for path in tmp_path.iterdir()]
    end = time.monotonic() + 60
    while any(map(_runs, started)) and time.monotonic() < end:
        time.sleep(0.05)
    left = [process for process in started if _runs(process)]
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left


def test_a_process_whose_starter_is_gone_is_asked_to_save():
    environment = {**os.environ, "JAXFORMER_STARTER": "1000000000"}  # above any number that a process can have
    caller = [*_program(_SAVES + _WAITS), "--join=0/2"]
    done = subprocess.run(caller, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 143
    assert done.stderr == "the process that started this one (1000000000) has ended: this one saves and ends\n"


@pytest.mark.parametrize("full", [False, True], ids=["reader gone", "reader asleep"])
def test_it_is_asked_to_save_where_nobody_reads_what_it_writes(full):
    environment = {**os.environ, "JAXFORMER_STARTER": "1000000000"}
    ours, theirs = os.pipe()
    if full:
        os.set_blocking(theirs, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(theirs, bytes(4096))
        os.set_blocking(theirs, True)
    else:
        os.close(ours)
    caller = [*_program(_SAVES + _WAITS), "--join=0/2"]
    done = subprocess.run(caller, cwd=ROOT, env=environment, stderr=theirs, timeout=60, check=False)
    os.close(theirs)
    if full:
        os.close(ours)
    assert done.returncode == 143


@pytest.mark.parametrize("starter", ["me", "-1", "1.5", "²"])
def test_a_starter_that_is_no_number_is_refused(starter, monkeypatch):
    monkeypatch.setenv("JAXFORMER_STARTER", starter)
    with pytest.raises(ValueError, match=f"JAXFORMER_STARTER='{starter}' in the environment is no number of a process"):
        local.start("1", False, _never)


def test_while_its_starter_lives_it_is_left_alone_and_so_is_what_it_starts():
    environment = {**os.environ, "JAXFORMER_STARTER": str(os.getpid())}
    caller = [*_program(_SAVES + "time.sleep(1); sys.exit('JAXFORMER_STARTER' in os.environ)"), "--join=0/2"]
    assert subprocess.run(caller, cwd=ROOT, env=environment, timeout=60, check=False).returncode == 0


@several
def test_nohup_keeps_them_when_the_terminal_closes(tmp_path):
    program = f"open(f'{tmp_path}/ready-{{number}}', 'w').close(); time.sleep(2)"
    begin = "import sys; from jaxformer.parallel.local import run_several"
    caller = f"{begin}; sys.exit(run_several({_program(program)!r}, 2))"
    process = subprocess.Popen(["nohup", sys.executable, "-c", caller], cwd=ROOT, stdout=subprocess.DEVNULL)
    while len(list(tmp_path.glob("ready-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("processes", ["", "1"])
def test_one_process_is_this_one(processes):
    asked: list[str] = []
    local.start(processes, False, lambda: asked.append("check"))
    local.start(processes, True, lambda: asked.append("check"))
    assert not asked  # and nothing has ended this program


@pytest.mark.parametrize("processes", ["0", "-1", "two", "1000000", "1.5", "²"])
def test_a_number_that_cannot_be_is_refused(processes):
    with pytest.raises(ValueError, match=f"--processes={processes}: give a number from 1 to {CORES}, the cores"):
        local.start(processes, False, _never)


@several
def test_gpus_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(local, "GPU", tmp_path)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(ValueError, match="is for CPUs, and one process keeps a GPU busy"):
        local.start(str(CORES), False, _never)


@several
@pytest.mark.slow
def test_run_py_trains_in_two_processes_as_in_one(tmp_path):
    def losses(name: str, *arguments: str) -> list[float]:
        command = [
            sys.executable, "run.py", "--experiment=wmt:bundled", f"--workdir={tmp_path / name}",
            "--config.data.num_examples=2000", "--config.data.vocabulary_size=400", "--config.model.d_model=32",
            "--config.model.d_ff=32", "--config.model.num_heads=2", "--config.training.num_steps=4",
            "--config.training.log_every=1", "--config.training.eval_every=0", "--config.monitoring.samples=0",
            *arguments,
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in Path(tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [record["train/loss"] for record in records if "train/loss" in record]

    found = losses("two", "--processes=2")
    assert len(found) == 4
    assert found == pytest.approx(losses("one"), rel=1e-5)
