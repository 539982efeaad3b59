"""A sweep as its user sees it: trials run, fail, are stopped and go on; the table says what came of them.

`run.py` is replaced by `child.py`, which takes its flags and ends at once, but for the last tests.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import experiments
import run
from jaxformer.config import Config, to_dict
from jaxformer.training.hooks import TrainingDiverged
from jaxformer.training.sweep import children, entry
from jaxformer.training.sweep.children import judge, share_machine
from jaxformer.training.sweep.folder import SweepFolder, Trial, short_names
from jaxformer.training.sweep.options import read_sweep
from jaxformer.training.workdir import Workdir, flat

ROOT = Path(run.__file__).parent
CHILD = [sys.executable, str(Path(__file__).with_name("child.py"))]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("SLURM_ARRAY"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def sweep(*arguments, program=CHILD, environment=None):
    """Carries out `run.py --experiment=wmt:bundled --workdir=S` and `arguments` with another program for its trials."""
    values, overrides = run.parse(["run.py", "--experiment=wmt:bundled", "--workdir=S", *arguments])
    found = read_sweep(
        values.flag_values_dict(), overrides, lambda flag: run.parse(["run.py", flag])[1], environment or {}
    )
    entry.run_sweep(found, lambda held, look: experiments.select(values.experiment, held, look), program)


def rows():
    with open("S/sweep.csv", newline="") as file:
        return list(csv.DictReader(file))


def starts(name):
    return len(Path("S", name, "starts").read_text().splitlines())


RATES, SEEDS = "--sweep=optimizer.learning_rate=1e-3,1e-4", "--sweep=training.seed=0,1,2"


def test_every_trial_is_run_in_a_folder_of_its_own_and_ranked_by_validation(capsys):
    sweep(RATES, SEEDS, "--config.model.dropout=0.2")
    found = rows()
    assert [row["trial"] for row in found] == [
        *(f"learning_rate=0.001,seed={seed}" for seed in (2, 1, 0)),
        *(f"learning_rate=0.0001,seed={seed}" for seed in (2, 1, 0)),
    ]  # the test score would have the opposite order
    assert [row["rank"] for row in found] == list("123456")
    best = found[0]
    assert {name: best[name] for name in ("optimizer.learning_rate", "training.seed", "state", "reason", "steps")} == {
        "optimizer.learning_rate": "0.001", "training.seed": "2", "state": "finished", "reason": "", "steps": "20",
    }  # fmt: skip
    scores = ("final/validation/bleu", "best/validation/bleu", "last/validation/bleu", "test/bleu")
    assert [float(best[name]) for name in scores] == pytest.approx([51, 52, 52, 48])
    assert [float(best[name]) for name in ("training_seconds", "tokens_per_second")] == [4, 5000]
    assert best["workdir"] == "S/learning_rate=0.001,seed=2"
    (start,) = map(json.loads, Path(best["workdir"], "starts").read_text().splitlines())
    assert start["flags"] == {
        "experiment": "wmt:bundled", "workdir": best["workdir"], "config.model.dropout": "0.2",
        "config.optimizer.learning_rate": "0.001", "config.training.seed": "2",
    }  # fmt: skip
    assert "some talk" in Path(best["workdir"], "log.txt").read_text()
    shown = capsys.readouterr().out
    assert "sweep of wmt:bundled in S: 6 trials, 6 finished" in shown
    assert "ranked by validation/bleu of the final evaluation (more is better); test scores take no part" in shown
    picture = Path("S/sweep.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_a_bare_name_goes_on_with_the_variant_that_the_folder_has_whatever_the_machine(capsys):
    sweep("--experiment=wmt:tiny", "--sweep=training.seed=0")
    sweep("--experiment=wmt", "--sweep=training.seed=0,1")
    assert "sweep of wmt:tiny in S: 2 trials, 2 finished" in capsys.readouterr().out
    assert [starts(f"seed={seed}") for seed in (0, 1)] == [1, 1]


def test_means_over_seeds_have_their_standard_error(capsys):
    sweep(RATES, SEEDS)
    for text in (capsys.readouterr().out, Path("S/sweep.md").read_text()):
        # Final scores 49, 50, 51: mean 50, s = 1, s / sqrt(3) = 0.577; test 50, 49, 48.
        lines = [re.split(r"\s*\|\s*|\s{2,}", line.strip(" |")) for line in text.splitlines()]
        assert ["1", "0.001", "3", "50.00 ± 0.58", "49.00 ± 0.58"] in lines
        assert ["2", "0.0001", "3", "40.00 ± 0.58", "59.00 ± 0.58"] in lines
    assert "![Curves and fields of all trials](sweep.png)" in Path("S/sweep.md").read_text()


def test_a_test_score_that_is_no_number_is_shown_as_none_and_left_out_of_the_mean(capsys):
    sweep("--config.data.cache_dir=nan", SEEDS)
    lines = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["1", "3", "50.00 ± 0.58", "48.50 ± 0.50 (n = 2)"] in lines  # of 49 and 48
    assert ["3", "0", "49", "-", "20", "5000", "finished"] in lines


def test_a_single_value_is_a_sweep_of_one(capsys):
    sweep("--sweep=training.seed=4")
    (row,) = rows()
    assert (row["trial"], row["rank"]) == ("seed=4", "1")
    assert "1 trial, 1 finished" in capsys.readouterr().out
    assert "mean over" not in Path("S/sweep.md").read_text()


def test_finished_trials_are_left_alone_and_a_changed_grid_adds_trials(capsys):
    sweep(RATES)
    sweep(RATES)
    assert starts("learning_rate=0.001") == 1
    sweep("--sweep=optimizer.learning_rate=1e-3,1e-2")
    assert starts("learning_rate=0.001") == 1
    assert [row["trial"] for row in rows()] == ["learning_rate=0.001", "learning_rate=0.0001", "learning_rate=0.01"]


def test_a_trial_is_known_by_its_configuration_whatever_its_fields_are_called():
    sweep(RATES)
    sweep("--sweep=optimizer.learning_rate=1e-3", SEEDS)  # the experiment's own seed is 0
    assert [(row["trial"], row["training.seed"]) for row in rows()] == [
        ("learning_rate=0.001,seed=2", "2"), ("learning_rate=0.001,seed=1", "1"), ("learning_rate=0.001", "0"),
        ("learning_rate=0.0001", "0"),
    ]  # fmt: skip
    assert starts("learning_rate=0.001") == 1


def test_names_that_two_fields_would_share_are_written_in_full():
    assert short_names(["training.seed", "data.seed", "optimizer.name"]) == {
        "training.seed": "training.seed", "data.seed": "data.seed", "optimizer.name": "optimizer",
    }  # fmt: skip
    base = flat(to_dict(Config()))
    folder = SweepFolder(Path("S"), base, {"seed=1": Trial("seed=1", {"training.seed": 1}, Path("S/seed=1"))})
    assert [trial.name for trial in folder.add([{"data.seed": 1}])] == ["data.seed=1"]


def test_names_are_ones_that_every_file_system_takes():
    folder = SweepFolder(Path("S"), flat(to_dict(Config())))
    values = ["/a b/c", "_a_b_c", "*", "x" * 300, "x" * 299 + "y", ""]
    names = [trial.name for trial in folder.add([{"data.path": value} for value in values])]
    assert len(set(names)) == len(values)
    assert all(re.fullmatch(r"[\w.+=,-]{1,140}", name) for name in names)
    assert names[1] == "path=_a_b_c"


def test_other_settings_in_the_same_folder_are_refused():
    sweep(RATES, "--config.training.num_steps=20")
    with pytest.raises(ValueError, match=r"(?s)other settings.*training.num_steps: 20 -> 30.*another --workdir"):
        sweep(RATES, "--config.training.num_steps=30")
    sweep(RATES, "--config.training.num_steps=20", "--config.monitoring.samples=3")  # changes no number


def test_the_folder_of_a_single_run_is_refused():
    Path("S").mkdir()
    Path("S/config.json").write_text("{}")
    with pytest.raises(OSError, match="S holds a single run: choose another --workdir"):
        sweep(RATES)


@pytest.mark.parametrize("text", ["{", "[]", '{"base": 3, "trials": {}}'])
def test_a_damaged_record_is_refused(text):
    Path("S").mkdir()
    Path("S/sweep.json").write_text(text)
    with pytest.raises(OSError, match=r"sweep.json cannot be used: it is damaged"):
        sweep(RATES)


def test_a_combination_that_makes_no_sense_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"trial num_heads=5: model.num_heads=5 does not divide model.d_model=128"):
        sweep("--sweep=model.num_heads=4,5")
    assert not Path("S").exists()


def test_what_a_study_would_refuse_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"trial kind=text_classification: training.best_metric=.* is not meas"):
        sweep("--sweep=task.kind=translation,text_classification")
    assert not Path("S").exists()


def test_references_that_are_not_there_are_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"trial seed=0: training.start_from: workdir none is not there"):
        sweep("--config.training.start_from=none", "--sweep=training.seed=0,1")
    with pytest.raises(ValueError, match=r"trial seed=0: data.references=none.de is not a file"):
        sweep(SEEDS, "--config.data.references=none.de", "--mode=plan")
    assert not Path("S").exists()


def test_a_metric_that_no_trial_measures_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"--sweep_metric=validation/blue: .*Did you mean 'validation/bleu'"):
        sweep(SEEDS, "--sweep_metric=validation/blue")
    assert not Path("S").exists()


def test_a_metric_that_the_data_decides_about_is_not_refused(capsys):
    task = ["--config.task.kind=text_classification", "--config.training.best_metric=validation/accuracy",
            "--config.data.batching=bucket"]  # fmt: skip
    sweep(SEEDS, *task, "--sweep_metric=validation/f1/praise", "--mode=plan")
    assert "seed=0" in capsys.readouterr().out


def test_what_is_swept_may_be_needed_by_what_is_set():
    sweep("--config.model.d_model=60", "--sweep=model.num_heads=5,6")  # the 4 of the experiment would do, 8 would not
    sweep("--config.model.d_model=60", "--sweep=model.num_heads=5,6")
    assert len(rows()) == 2


def test_a_plan_lists_the_trials_and_runs_nothing(capsys):
    sweep(RATES, SEEDS, "--mode=plan", "--sweep_index=0/2")
    shown = capsys.readouterr().out
    assert "sweep of wmt:bundled (named on the command line): 6 trials, 3 to run, 1 at a time" in shown
    assert re.search(r"\n +1 +0.001 +1  waiting \(not this process's\)  S/learning_rate=0.001,seed=1\n", shown)
    assert not Path("S").exists()


@pytest.mark.parametrize(
    ("kind", "state", "reason"),
    [
        ("crash", "failed", "the disk is full: free some space"),
        ("kill", "failed", "killed by SIGKILL, as systems do that lack memory"),
        ("silent", "failed", "it ended without a result: some talk"),
    ],
)
def test_a_failure_does_not_end_the_others_and_is_tried_again(kind, state, reason):
    names = f"--sweep=data.cache_dir={kind},fine"
    with pytest.raises(ValueError, match=f"1 of 2 trials failed, such as cache_dir={kind}: .*log.txt"):
        sweep(names)
    found = {row["trial"]: (row["rank"], row["state"], row["reason"]) for row in rows()}
    assert found == {"cache_dir=fine": ("1", "finished", ""), f"cache_dir={kind}": ("", state, reason)}
    with pytest.raises(ValueError, match="1 of 2 trials failed"):
        sweep(names)
    assert (starts(f"cache_dir={kind}"), starts("cache_dir=fine")) == (2, 1)


def test_a_trial_that_diverged_is_an_outcome_and_not_run_again():
    sweep("--sweep=data.cache_dir=diverge,fine")
    sweep("--sweep=data.cache_dir=diverge,fine")
    assert starts("cache_dir=diverge") == 1
    assert [(row["state"], row["reason"]) for row in rows()][1] == (
        "diverged", "loss is nan at step 3 (learning rate 1)",
    )  # fmt: skip
    shutil.rmtree("S/cache_dir=fine")
    with pytest.raises(ValueError, match="every trial diverged: lower --config"):
        sweep("--sweep=data.cache_dir=diverge")


def test_the_message_of_training_is_the_one_that_is_recognised():
    from jaxformer.training import hooks
    from jaxformer.types import Mean

    with pytest.raises(TrainingDiverged) as error:
        hooks.StopAtNan(lambda _: 1.0)(3, {"loss": Mean(float("nan"), 1.0)}, None)
    assert judge(1, f"talk\nrun.py: {error.value}\n", finished=False)[0] == "diverged"
    assert judge(143, "", finished=False)[0] == judge(-signal.SIGINT, "", finished=False)[0] == "stopped"
    assert judge(1, "Traceback\n  File\nMemoryError: no\n", finished=False) == ("failed", "MemoryError: no")
    remark = "RuntimeError: RESOURCE_EXHAUSTED: no\n----\nFor simplicity, JAX has removed its internal frames\n"
    assert judge(1, remark, finished=False) == ("failed", "RuntimeError: RESOURCE_EXHAUSTED: no")
    assert judge(1, "", finished=False) == ("failed", "it wrote nothing")
    assert judge(-signal.SIGKILL, "", finished=True) == ("finished", "")


def _signal_when(ready, *numbers, pause=0.3):
    """Sends `numbers` to this process, the first when `ready` is there; none if it never is, or all tests would end."""

    def work():
        deadline = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        for number in numbers if ready.exists() else ():
            os.kill(os.getpid(), number)
            time.sleep(pause)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_the_running_trial_save_and_the_same_command_continues(number, capfd):
    names = "--sweep=data.cache_dir=wait,fine"
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it may be ignored, as under nohup
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    thread = _signal_when(Path("S/cache_dir=wait/began"), number)
    with pytest.raises(SystemExit) as stop:
        sweep(names)
    thread.join()
    assert stop.value.code == 128 + number
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == handlers
    signal.signal(signal.SIGHUP, before)
    assert Path("S/cache_dir=wait/saved").exists()
    assert {row["trial"]: row["state"] for row in rows()} == {"cache_dir=wait": "stopped", "cache_dir=fine": "waiting"}
    assert "the running trials save and end; again: at once" in capfd.readouterr().err
    sweep(names)
    states = {row["trial"]: row["state"] for row in rows()}
    assert states == {"cache_dir=wait": "finished", "cache_dir=fine": "finished"}


def test_a_second_signal_is_passed_on():
    thread = _signal_when(Path("S/cache_dir=stubborn/began"), signal.SIGINT, signal.SIGINT)
    with pytest.raises(SystemExit):
        sweep("--sweep=data.cache_dir=stubborn")
    thread.join()
    assert Path("S/cache_dir=stubborn/asked").exists()
    assert Path("S/cache_dir=stubborn/saved").exists()


def test_an_error_of_our_own_ends_the_children(monkeypatch):
    def broken(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(entry, "collect", broken)
    monkeypatch.setattr(entry, "assess_apart", lambda _: type("Machine", (), {"platform": "cpu", "num_devices": 1}))
    with pytest.raises(OSError, match="the disk is full"):
        sweep("--sweep=data.cache_dir=wait,fine", "--sweep_parallel=2")
    began = Path("S/cache_dir=wait/began")
    assert not began.exists() or not Path("/proc", began.read_text()).exists()


def test_several_trials_run_at_once_each_on_its_cores(monkeypatch):
    monkeypatch.setattr(entry, "assess_apart", lambda _: type("Machine", (), {"platform": "cpu", "num_devices": 1}))
    thread = _signal_when(Path("S/cache_dir=wait/began"))
    names = "--sweep=data.cache_dir=wait,one,two"
    pushed = threading.Timer(0, _end_when, (Path("S/cache_dir=two/result.json"), Path("S/cache_dir=wait/began")))
    pushed.start()
    with pytest.raises(ValueError, match="1 of 3 trials were stopped"):
        sweep(names, "--sweep_parallel=2")  # the other two pass by the one that waits
    thread.join()
    pushed.join()
    cores = {
        name: set(json.loads(Path("S", name, "starts").read_text())["cores"])
        for name in ("cache_dir=wait", "cache_dir=one")
    }
    here = os.sched_getaffinity(0)
    if len(here) > 1:
        assert not cores["cache_dir=wait"] & cores["cache_dir=one"]
    assert cores["cache_dir=wait"] | cores["cache_dir=one"] <= here


def _end_when(there, process):
    deadline = time.monotonic() + 60
    while not (there.exists() and process.exists() and process.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(int(process.read_text()), signal.SIGTERM)


def test_cores_are_dealt_out(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 8})
    assert [sorted(slot.cores) for slot in share_machine(2, "cpu", 1)] == [[0, 1], [2, 3, 8]]
    assert share_machine(2, "cpu", 1)[1].described == "cores 2,3,8"
    assert [sorted(slot.cores) for slot in share_machine(7, "cpu", 1)] == [[0], [1], [2], [3], [8], [0], [1]]


def test_gpus_are_dealt_out(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    given = [dict(slot.environment) for slot in share_machine(2, "gpu", 4)]
    assert given == [{"CUDA_VISIBLE_DEVICES": "0,2"}, {"CUDA_VISIBLE_DEVICES": "1,3"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    given = [dict(slot.environment) for slot in share_machine(3, "gpu", 2)]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in given] == ["5", "GPU-7", "5"]
    assert {one["XLA_PYTHON_CLIENT_MEM_FRACTION"] for one in given} == {"0.450"}
    with pytest.raises(ValueError, match=r"--sweep_parallel=2: the devices here \(tpu\) serve one process"):
        share_machine(2, "tpu", 4)


@pytest.mark.parametrize(
    ("mesh", "parallel", "message"),
    [
        ("data=4", 8, "seed=0: 8 at once leave it 1 of the 8 devices, and mesh.data=4 is more .*; or run fewer .*=2$"),
        ("tensor=2", 3, "leave it 3 of the 8 devices, and .*: 2 devices do not divide the 3 .*_parallel=2$"),
        ("tensor=2", 8, "leave it 1 of the 8 devices, and mesh.data=-1 x mesh.tensor=2 is more .*_parallel=4$"),
        ("data=16", 2, "leave it 4 of the 8 devices, and mesh.data=16 is more .* for the rest$"),
        ("data=4", 2, None),
        ("auto", 8, None),
    ],
)
def test_a_mesh_that_the_share_of_a_trial_does_not_hold_is_refused_before_anything_runs(
    mesh, parallel, message, monkeypatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(entry, "assess_apart", lambda _: type("Machine", (), {"platform": "gpu", "num_devices": 8}))
    flag = "--config.mesh=auto" if mesh == "auto" else f"--config.mesh.{mesh}"
    flags = "--sweep=training.seed=0..7", f"--sweep_parallel={parallel}", flag
    if message is None:
        sweep(*flags)
        assert {row["state"] for row in rows()} == {"finished"}
        return
    with pytest.raises(ValueError, match=message):
        sweep(*flags)
    assert not Path("S", "sweep.json").exists(), "the same command with another mesh must not be refused by its folder"


def test_every_trial_on_cpus_has_all_of_the_simulated_devices():
    assert [slot.devices for slot in share_machine(3, "cpu", 8)] == [8, 8, 8]


def test_a_trial_that_somebody_else_runs_is_left_to_them():
    config = experiments.find("wmt").config("bundled")
    with (
        Workdir("S/seed=0").claim(config),
        pytest.raises(ValueError, match="1 of 3 trials run elsewhere, such as seed=0"),
    ):
        sweep(SEEDS)
    assert {row["trial"]: row["state"] for row in rows()} == {
        "seed=0": "running", "seed=1": "finished", "seed=2": "finished",
    }  # fmt: skip
    sweep(SEEDS)
    assert len([row for row in rows() if row["state"] == "finished"]) == 3


def test_the_tasks_of_an_array_make_one_table():
    for task in range(2):
        names = {"ID": task, "COUNT": 2, "MIN": 0, "MAX": 1, "STEP": 1}
        environment = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}
        sweep(SEEDS, environment=environment)
        assert len([row for row in rows() if row["state"] == "finished"]) == (2, 3)[task]
    sweep(SEEDS)
    assert [starts(f"seed={seed}") for seed in range(3)] == [1, 1, 1]


def test_another_metric_may_rank(capsys):
    with pytest.raises(ValueError, match=r"validation/chrf is not measured.*which have validation/bleu: rank by one"):
        sweep(SEEDS, "--sweep_metric=validation/chrf")
    assert starts("seed=0") == 1  # the first that ended showed it
    sweep(SEEDS, "--sweep_metric=validation/bleu")
    assert "ranked by validation/bleu" in capsys.readouterr().out


def test_a_loss_is_ranked_on_the_way_and_less_of_it_is_better(capsys):
    sweep(SEEDS)
    for seed, losses in enumerate(([2.0, 1.0, 1.5], [2.0, 1.9, 1.2], [3.0, 2.0, float("nan")])):
        with open(f"S/seed={seed}/metrics.jsonl", "w") as file:
            for step, loss in enumerate(losses):
                file.write(json.dumps({"step": step, "validation/loss": loss if loss == loss else "nan"}) + "\n")
    sweep(SEEDS, "--sweep_metric=validation/loss")
    assert "ranked by validation/loss the best on the way (less is better)" in capsys.readouterr().out
    assert [(row["trial"], row["best/validation/loss"]) for row in rows()] == [
        ("seed=0", "1.0"), ("seed=1", "1.2"), ("seed=2", "2.0"),
    ]  # fmt: skip


def test_the_log_says_what_runs_where(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    sweep("--sweep=training.seed=0,1")
    told = [record.getMessage() for record in caplog.records if record.name == children.__name__]
    assert told[0] == "trial 1 of 2, seed=0: started; its log: S/seed=0/log.txt"
    assert re.fullmatch(r"seed=0: finished after \d+ s", told[1])


TINY = [
    "--config.data.num_examples=400", "--config.data.vocabulary_size=500", "--config.data.pack_length=48",
    "--config.data.batch_tokens=192", "--config.model.d_model=16", "--config.model.d_ff=16",
    "--config.model.num_heads=2", "--config.model.num_encoder_layers=1", "--config.model.num_decoder_layers=1",
    "--config.training.num_steps=4", "--config.training.eval_every=2", "--config.training.log_every=2",
    "--config.training.eval_examples=8", "--config.training.best_metric=validation/loss",
    "--config.decoding.method=greedy", "--config.decoding.max_length=8", "--config.monitoring.tensorboard=false",
]  # fmt: skip


def _real(*arguments, cache):
    command = [sys.executable, str(ROOT / "run.py"), "--experiment=wmt:bundled", "--workdir=S", *arguments, *TINY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_real_trial(tmp_path):
    done = _real("--sweep=optimizer.learning_rate=1e-3", cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr + Path("S/learning_rate=0.001/log.txt").read_text()
    (row,) = rows()
    assert (row["state"], row["steps"]) == ("finished", "4")
    assert float(row["best/validation/loss"]) > 0
    assert float(row["tokens_per_second"]) > 0
    assert row["test/bleu"]
    assert "learning_rate" in done.stdout


@pytest.mark.slow
def test_real_trials_side_by_side_one_of_which_fails(tmp_path):
    arguments = ["--sweep=training.seed=0,1", "--sweep=data.source=bundled,files", "--sweep_parallel=2"]
    done = _real(*arguments, cache=tmp_path / "cache")
    assert done.returncode == 1
    assert "2 of 4 trials failed" in done.stderr
    assert sorted(row["state"] for row in rows()) == ["failed", "failed", "finished", "finished"]
    assert all("data.path" in row["reason"] for row in rows() if row["state"] == "failed")
    assert "±" in done.stdout
