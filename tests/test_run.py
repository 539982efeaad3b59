"""The command line: every mistake gets one clear line and an exit code, and the right call is made."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import run
from jaxformer import training
from jaxformer.config import replace, to_dict
from jaxformer.monitoring import machine

ROOT = Path(run.__file__).parent


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def calls(monkeypatch):
    """What `jaxformer.training` was asked for, in place of doing it."""
    made = []

    def record(name):
        def call(*args, **options):
            if name == "predict":
                args = (*args[:2], list(args[2]), args[3])
                args[3].write("".join(f"<{line}>\n" for line in args[2]))
            made.append((name, *args))

        return call

    for name in run.MODES:
        monkeypatch.setitem(vars(training), name, record(name))
    return made


def _run(*arguments):
    return run.main(["run.py", *arguments])


def _store(folder, spec="wmt:bundled", **changes):
    import experiments

    name, _, variant = spec.partition(":")
    config = replace(experiments.find(name).config(variant), changes)
    Path(folder).mkdir(parents=True)
    (Path(folder) / "config.json").write_text(json.dumps(to_dict(config)))
    return config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--experiment=NAME is needed, one of wmt, multi30k, tatoeba, scan, sentiment, protein, stocks"),
        (["--experiment=wtm"], "unknown experiment 'wtm': choose one of multi30k, protein, scan, sentiment, stocks,"),
        (["--flagfile"], "--flagfile with no argument"),
        (["--experiment=wmt:bundle"], "variant 'bundle' of experiment 'wmt': choose one of base, big, bundled, tiny."),
        (["--mode=trian"], "unknown mode 'trian': choose one of evaluate, plan, predict, prepare, train, tune. Did"),
        (["--experimnt=wmt"], "unknown flag --experimnt: choose one of config, debug, experiment"),
        (["--sweep=a=1"], "unknown config field 'a': the sections are"),
        (["--sweep_parralel=2"], "Did you mean 'sweep_parallel'?"),
        (["--sweep=training.seed=0,1"], "--experiment=NAME is needed"),
        (["wmt"], "unexpected argument 'wmt': everything is said with --NAME=VALUE"),
        (["--experiment=scan", "--workdir"], "--workdir needs a value: write --workdir=VALUE; --help says"),
        (["--experiment"], "--experiment needs a value: write --experiment=VALUE; --help says what it takes"),
        (["--config.data.path"], "--config.data.path needs a value: write --config.data.path=VALUE"),
        (["--config.training.num_stepz=3"], "unknown config field 'training.num_stepz'"),
        (["--config.training.num_stepz=3"], "Did you mean 'training.num_steps'?"),
        (["--config.learning_rate=3"], "Did you mean 'optimizer.learning_rate'?"),
        (["--config.experiment=x"], "unknown config field 'experiment'"),
        (["--config.training=3"], "config section 'training' is set field by field"),
        (["--config=/etc/passwd"], "--config=/etc/passwd sets nothing: no file is read, every field is set by"),
        (["--config"], "--config sets nothing: no file is read, every field is set by its name"),
        (["--config.=3"], "--config.=3 sets nothing"),
        (["--config.mesh=fast"], "config section 'mesh' is set field by field, --config.mesh.FIELD=VALUE"),
        (["--config.model=auto"], "config section 'model' is set field by field"),
        (["--config.data.batch_tokens=most"], "--config.data.batch_tokens takes a whole number or auto, got 'most'"),
        (["--config.data.batch_tokens", "most"], "--config.data.batch_tokens takes a whole number or auto, got 'most'"),
        (["--config.mesh"], "or left to the planner, --config.mesh=auto"),
        (["--noconfig.data.rverse"], "Did you mean 'data.reverse'?"),
        (["--config.training.num_steps=1e3"], "--config.training.num_steps takes a whole number, got '1e3'"),
        (["--config.model.dropout=some"], "--config.model.dropout takes a number, got 'some'"),
        (["--config.data.reverse=maybe"], "--config.data.reverse takes true or false, got 'maybe'"),
        (["--experiment=scan", "--config.model.num_heads=5"], "model.num_heads=5 does not divide model.d_model=128"),
        (["--experiment=scan", "--config.precision=fp8"], "'fp8' is not known: choose one of bf16, fp16, fp32."),
        (["--experiment=scan", "--input=x"], "--input is for --mode=predict, and --mode=train does not use it"),
        (["--mode=predict"], "--mode=predict needs a trained run: give its folder with --workdir=DIR"),
        (["--mode=predict", "--workdir=none"], "workdir none is not there"),
        (["--mode=predict", "--workdir=none"], "train one with `python run.py --experiment=NAME --workdir=none`"),
        (["--mode=evaluate", "--experiment=scan"], "workdir runs/scan-simple is not there"),
        (["--mode=predict", "--workdir=none", "--processes=2"], "--processes is for a run that trains by itself"),
        (["--experiment=scan", "--processes=2", "--join=0/2@a:1"], "leave it out with another --mode, with --join"),
        (["--experiment=scan", "--processes=many"], "--processes=many: give a number from 1 to"),
        (["--experiment=scan", "--processes=2", "--config.model.num_heads=5"], "does not divide model.d_model=128"),
    ],
)
def test_a_mistake_is_one_line_on_standard_error_and_an_exit_code(arguments, message, capsys, calls):
    assert _run(*arguments) == 1
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("run.py: ")
    assert err.count("\n") == 1
    assert out == ""
    assert calls == []


def test_debug_shows_the_stack_trace(capsys):
    assert _run("--experiment=wtm", "--debug") == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "run.py: unknown experiment 'wtm'" in err


def test_list_and_help_say_what_there_is(capsys):
    assert _run("--list") == 0
    assert "wmt:bundled" in capsys.readouterr().out
    assert _run("--help") == 0
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in (*run.TEXT_FLAGS, *run.SWITCHES))
    assert "learning_rate" in shown


def test_flags_are_answered_without_importing_jax():
    program = "import sys, run; code = run.main(sys.argv); print(code, {'jax', 'tensorflow'} & set(sys.modules))"
    for flag, code in (("--list", 0), ("--experiment=wtm", 1)):
        done = subprocess.run(
            [sys.executable, "-c", program, flag], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.splitlines()[-1] == f"{code} set()"


def test_a_closed_pipe_is_quiet():
    command = f"{sys.executable} run.py --help | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""


def test_overrides_are_typed_and_reach_the_run(calls, capsys):
    assert _run(
        "--experiment=scan", "--config.optimizer.learning_rate=1", "--config.training.num_steps=7",
        "--config.data.deduplicate=false", "--config.data.reverse", "--config.precision=bf16", "--config.data.path=/x",
    ) == 0
    ((name, config, workdir),) = calls
    assert (name, os.fspath(workdir)) == ("train", "runs/scan-simple")
    assert config.experiment == "scan:simple"
    assert (config.optimizer.learning_rate, config.training.num_steps) == (1.0, 7)
    assert isinstance(config.optimizer.learning_rate, float)
    assert (config.data.deduplicate, config.data.reverse, config.data.path) == (False, True, "/x")
    assert config.precision == "bf16"
    assert config.model.d_model == 128  # of the experiment: only what is said is overridden


def test_an_override_to_the_library_s_default_is_an_override(calls):
    assert _run("--experiment=scan", "--config.model.d_model=512", "--config.model.num_heads=8") == 0
    assert calls[0][1].model.d_model == 512


def test_auto_leaves_a_choice_to_the_planner(calls):
    assert _run("--experiment=scan", "--config.mesh=auto", "--config.data.batch_tokens=auto", "--mode=plan") == 0
    assert calls[0][1].mesh.auto
    assert calls[0][1].data.batch_tokens == 0
    assert _run("--experiment=scan", "--config.mesh", "auto", "--config.data.batch_tokens", "auto", "--mode=plan") == 0
    assert calls[1][:2] == calls[0][:2]


def test_the_machine_is_shown_before_training_with_the_choice_and_its_reason(calls, capsys):
    assert _run("--experiment=wmt") == 0
    assert calls[0][1].experiment == "wmt:bundled"
    assert os.fspath(calls[0][2]) == "runs/wmt-bundled"
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("machine ")
    assert out.splitlines()[-1].startswith("chosen ")
    assert "wmt:bundled" in out
    assert "no accelerator is present and WMT14 is not prepared" in out


def test_the_base_variant_is_chosen_where_it_can_run(calls, monkeypatch, tmp_path):
    folder = tmp_path / "tfds" / machine.WMT14 / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "wmt14_translate-test.array_record-00000-of-00001").write_text("")
    monkeypatch.setattr(machine.Machine, "has_accelerator", property(lambda _: True))
    assert _run("--experiment=wmt", "--mode=plan") == 0
    assert (calls[0][0], calls[0][1].experiment) == ("plan", "wmt:base")


def test_prepare_takes_the_configuration_alone(calls):
    assert _run("--experiment=wmt:base", "--mode=prepare", "--config.data.path=/x") == 0
    ((name, config),) = calls
    assert (name, config.data.path) == ("prepare", "/x")


def test_prediction_goes_line_by_line_and_only_translations_reach_standard_output(calls, capsys, tmp_path):
    stored = _store("W")
    Path("in.en").write_text("a\n\nb\n")
    assert _run("--mode=predict", "--workdir=W", "--input=in.en", "--config.decoding.beam_size=2") == 0
    assert capsys.readouterr().out == "<a>\n<>\n<b>\n"
    ((name, config, workdir, lines, _),) = calls
    assert (name, os.fspath(workdir), lines) == ("predict", "W", ["a", "", "b"])
    assert config == replace(stored, {"decoding.beam_size": 2})


def test_prediction_can_go_to_a_file(calls, capsys):
    _store("W")
    Path("in.en").write_text("a\n")
    assert _run("--mode=predict", "--workdir=W", "--input=in.en", "--output=out.de") == 0
    assert Path("out.de").read_text() == "<a>\n"
    assert capsys.readouterr().out == ""


def test_a_missing_input_is_refused(calls, capsys):
    _store("W")
    assert _run("--mode=predict", "--workdir=W", "--input=none.en") == 1
    assert "cannot read --input=none.en: No such file" in capsys.readouterr().err


def test_a_run_keeps_its_configuration_when_evaluated(calls, capsys):
    stored = _store("runs/wmt-tiny", "wmt:tiny", **{"model.d_model": 64})
    assert _run("--experiment=wmt:tiny", "--mode=evaluate") == 0
    assert calls[0][1] == stored
    assert _run("--mode=evaluate", "--workdir=runs/wmt-tiny", "--config.model.d_model=128") == 1
    assert "--config.model.d_model=128 cannot be set when evaluating" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_an_experiment_that_is_not_the_workdir_s_is_refused(mode, calls, capsys):
    _store("W", "wmt:tiny")
    assert _run(f"--mode={mode}", "--workdir=W", "--experiment=scan") == 1
    assert "the workdir holds a run of wmt:tiny, not of scan" in capsys.readouterr().err
    assert calls == []


def test_a_run_goes_on_as_it_was_when_only_its_workdir_is_named(calls):
    stored = _store("W", "wmt:tiny", **{"model.d_model": 64, "training.num_steps": 7})
    assert _run("--workdir=W", "--config.monitoring.progress=false") == 0
    assert calls[0][1] == replace(stored, {"monitoring.progress": False})


@pytest.mark.parametrize("spec", [["--experiment=wmt"], ["--experiment=wmt:tiny"]])
def test_training_goes_on_with_the_variant_that_the_workdir_holds(spec, calls):
    stored = _store("W", "wmt:tiny")
    assert _run("--workdir=W", *spec) == 0
    assert calls[0][1] == stored


def _raising(error):
    def call(*_, **__):
        raise error

    return call


def test_an_interruption_is_130_without_a_stack_trace(monkeypatch, capsys):
    monkeypatch.setitem(vars(training), "train", _raising(KeyboardInterrupt()))
    assert _run("--experiment=scan") == 130
    assert capsys.readouterr().err == "run.py: interrupted\n"


def test_an_interruption_during_the_imports_is_the_same(tmp_path):
    (tmp_path / "ml_collections.py").write_text(
        "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(10)"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background has it ignored
    try:
        done = subprocess.run(
            [sys.executable, ROOT / "run.py", "--list"], env=environment, capture_output=True, text=True, timeout=60
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "run.py: interrupted\n")


def test_a_library_s_error_hints_at_the_stack_trace(monkeypatch, capsys):
    monkeypatch.setitem(vars(training), "train", lambda *_: np.pad(np.zeros(2), 1, mode="none"))
    assert _run("--experiment=scan") == 1
    assert "(--debug shows where)" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("bad text"), FileNotFoundError("no such file"), OSError("disk full")])
def test_an_error_of_the_run_is_its_message_alone(error, monkeypatch, capsys):
    monkeypatch.setitem(vars(training), "train", _raising(error))
    assert _run("--experiment=scan") == 1
    assert capsys.readouterr().err == f"run.py: {error}\n"


def test_a_saved_and_stopped_run_keeps_its_exit_code(monkeypatch):
    monkeypatch.setitem(vars(training), "train", _raising(SystemExit(143)))
    with pytest.raises(SystemExit, match="143"):
        _run("--experiment=scan")


def test_letters_that_a_terminal_lacks_do_not_end_the_run(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setitem(vars(training), "train", lambda *_: print("sample: Größe", flush=True))
    assert _run("--experiment=scan") == 0
    assert b"sample: Gr\\xf6\\xdfe\n" in raw.getvalue()


def test_a_mistake_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setitem(vars(training), "train", _raising(TypeError("a bug")))
    with pytest.raises(TypeError):
        _run("--experiment=scan")


def test_the_command_line_stays_short():
    assert len((ROOT / "run.py").read_text().splitlines()) <= 120
