"""The entry points, end to end: a model that learns to reverse digits, and what a person does with its workdir."""

from __future__ import annotations

import io
import json
import logging
import signal
from pathlib import Path
from typing import Any

import jax
import pytest

import jaxformer
from jaxformer import training
from jaxformer.config import Config, replace
from jaxformer.monitoring.trackers import read_metrics
from jaxformer.training import closing, hooks
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.hooks import TrainingDiverged
from jaxformer.training.interruption import Interrupted
from jaxformer.training.memory import StepMemory
from jaxformer.training.scoring import read_references
from jaxformer.training.study import open_study
from jaxformer.training.workdir import Workdir
from jaxformer.types import Pair
from tests.training import reversal


@pytest.fixture(scope="module", autouse=True)
def compilation_cache():
    yield
    jax.config.update("jax_compilation_cache_dir", None)  # `train` has set it for the process


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Config, Workdir, dict[str, Any]]:
    """A run of 800 steps."""
    folder = tmp_path_factory.mktemp("reversal")
    config = reversal.config(
        reversal.write_corpus(folder / "data"),
        training__num_steps=800,
        training__log_every=100,
        training__eval_every=400,
        training__checkpoint_every=400,
        training__eval_examples=16,
        monitoring__tensorboard=True,
    )
    workdir = Workdir(folder / "run")
    return config, workdir, training.train(config, workdir)


def test_it_learns_to_reverse_digits(trained):
    metrics = trained[2]["metrics"]
    assert metrics["test/exact_match"] >= 70.0
    assert metrics["test/bleu"] >= 80.0
    assert metrics["validation/exact_match"] >= 70.0


def test_the_workdir_holds_what_the_design_promises(trained):
    config, workdir, result = trained
    assert workdir.load_config() == config
    assert json.loads((workdir.path / "result.json").read_text())["metrics"] == result["metrics"]
    assert result["signatures"]["test/bleu"].startswith("nrefs:1|case:mixed")
    assert result["step"] == 800
    assert result["environment"]["versions"]["jax"] == jax.__version__
    assert (workdir.path / "report" / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    assert list((workdir.path / "tensorboard").iterdir())
    assert len((workdir.path / "predictions" / "test.de").read_text().splitlines()) == 64
    records = read_metrics(workdir.metrics)
    assert [record["step"] for record in records if "train/loss" in record] == list(range(100, 900, 100))
    assert [record["step"] for record in records if "validation/bleu" in record] == [400, 800]
    assert records[-1]["test/bleu"] == result["metrics"]["test/bleu"]
    assert records[0]["train/loss"] > records[-2].get("train/loss", 0.0)


def test_a_finished_run_says_so_and_does_nothing(trained, capsys):
    config, workdir, result = trained
    before = {file: file.stat().st_mtime_ns for file in workdir.path.rglob("*") if file.suffix in (".json", ".jsonl")}
    again = training.train(config, workdir)
    out = capsys.readouterr().out
    assert again["metrics"] == result["metrics"]
    assert "is finished (800 steps); nothing to do" in out
    assert "--mode=predict" in out
    assert workdir.metrics.stat().st_mtime_ns == before[workdir.metrics]


def test_what_to_type_next_names_the_language_that_is_translated():
    config = replace(Config(), {"data.source_language": "en", "data.target_language": "de"})
    assert "< text.en\n" in closing._where(open_study(config), Workdir("W"))
    assert "< text.de\n" in closing._where(open_study(replace(config, {"data.reverse": True})), Workdir("W"))


@pytest.mark.parametrize("config", [None, {"training.num_steps": 5}, Config().training, Config])
@pytest.mark.parametrize("mode", ["train", "evaluate", "predict", "prepare", "plan", "tune"])
def test_what_is_no_configuration_is_refused_by_the_name_of_what_is(tmp_path, mode, config):
    rest = {"predict": (tmp_path / "run", [], io.StringIO()), "prepare": (), "tune": ()}.get(mode, (tmp_path / "run",))
    with pytest.raises(ValueError, match=r"^config is a jf\.Config, got .*: make one, as by jf\.replace\("):
        getattr(training, mode)(config, *rest)
    assert not (tmp_path / "run").exists()


def test_another_configuration_is_refused_naming_the_field(trained):
    config, workdir, _ = trained
    with pytest.raises(ValueError, match=r"model.d_ff: 64 -> 128"):
        training.train(replace(config, {"model.d_ff": 128}), workdir)


def test_evaluate_finds_the_scores_again_from_the_workdir(trained, capsys):
    config, workdir, result = trained
    scores = training.evaluate(config, workdir)
    wanted = {name: value for name, value in result["metrics"].items() if name in scores}
    assert scores == wanted
    assert len(scores) == 6
    assert "test/bleu" in capsys.readouterr().out


def test_predict_answers_line_by_line_in_order(trained):
    config, workdir, _ = trained
    output = io.StringIO()
    training.predict(config, str(workdir.path), iter(["1 2 3", "", "4 5", "   ", "9 8 7"]), output)
    assert output.getvalue().split("\n") == ["3 2 1", "", "5 4", "", "7 8 9", ""]


def test_predict_gives_the_n_best_in_the_form_of_moses(trained):
    config, workdir, _ = trained
    output = io.StringIO()
    decoding = {"decoding.n_best": 3, "decoding.beam_size": 4, "decoding.method": "beam"}
    training.predict(replace(config, decoding), workdir, iter(["1 2 3", "", "4 5"]), output)
    rows = [line.split(" ||| ") for line in output.getvalue().splitlines()]
    assert [number for number, _, _ in rows] == ["0"] * 3 + ["1"] + ["2"] * 3
    assert (rows[0][1], rows[3][1:], rows[4][1]) == ("3 2 1", ["", "0"], "5 4")
    scores = [float(score) for _, _, score in rows[:3]]
    assert scores == sorted(scores, reverse=True)
    assert len({text for _, text, _ in rows[:3]}) == 3


def test_predict_prompts_a_person_and_answers_at_once(trained, capsys):
    config, workdir, _ = trained
    output, seen = io.StringIO(), []

    def typed():
        for line in ("1 2 3", "4 5"):
            seen.append(output.getvalue())
            yield line

    training.predict(config, workdir, typed(), output, interactive=True)
    assert seen == ["", "3 2 1\n"], "the answer must be there before the next line is asked for"
    assert capsys.readouterr().err == "en> en> en> \n"


def test_predict_without_a_run_says_what_is_missing(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer.model is not there: .* holds no trained run"):
        training.predict(trained[0], tmp_path, iter([]), io.StringIO())
    (tmp_path / "result.json").write_text("{}")
    told = r"tokenizer.model is not there: the run in .* had it when it ended; bring it back or train in another folder"
    with pytest.raises(FileNotFoundError, match=told):
        training.predict(trained[0], tmp_path, iter([]), io.StringIO())


def test_a_model_of_another_shape_is_refused_naming_the_leaf(trained, tmp_path):
    config, workdir, _ = trained
    with pytest.raises(ValueError, match=r"ema\.decoder\S*\.kernel has shape \(64, 32\) there and .*128, 32\) here"):
        training.predict(replace(config, {"model.d_ff": 128}), workdir, iter(["1"]), io.StringIO())


def test_divergence_is_an_error_for_a_person_and_the_run_is_not_finished(trained, tmp_path):
    config = replace(
        trained[0],
        {"optimizer.learning_rate": 1e30, "optimizer.name": "sgd", "optimizer.warmup_steps": 0,
         "training.eval_every": 0, "monitoring.tensorboard": False},
    )  # fmt: skip
    with pytest.raises(TrainingDiverged, match=r"training diverged: (loss|grad_norm) is (nan|inf) at step \d+ "):
        training.train(config, tmp_path / "run")
    assert Workdir(tmp_path / "run").result() is None


def test_a_run_refused_before_it_began_does_not_bind_its_workdir(trained, tmp_path):
    config = replace(trained[0], {"data.path": str(tmp_path / "nowhere")})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        training.train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_refused_after_its_data_was_prepared_does_not_bind_its_workdir_either(trained, tmp_path):
    config = replace(trained[0], {"memory.accumulate": 64})
    with pytest.raises(ValueError, match="does not hold 64 rows"):
        training.train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    assert not (tmp_path / "run" / "tokenizer.model").exists(), "another vocabulary would be refused because of it"
    small = {"training.num_steps": 2, "training.eval_every": 0, "data.vocabulary_size": 19, "decoding.beam_size": 1}
    assert training.train(replace(trained[0], small), tmp_path / "run")["step"] == 2


def test_early_stopping_without_validation_is_refused(tmp_path):
    config = reversal.config(reversal.write_corpus(tmp_path / "data", train=100, held_back=0), training__eval_every=8,
                             training__early_stopping=2)  # fmt: skip
    with pytest.raises(ValueError, match=r"early_stopping=2 needs a validation split"):
        training.train(config, tmp_path / "run")


def test_what_needs_no_data_is_refused_before_any_is_read(tmp_path):
    config = reversal.config(tmp_path / "nowhere", mesh__data=64)
    with pytest.raises(ValueError, match="mesh"):
        training.train(config, tmp_path / "run")
    with pytest.raises(ValueError, match=r"BLEU of ko needs .*`pip install 'sacrebleu\[ko\]'`"):
        training.train(replace(config, {"data.target_language": "ko"}), tmp_path / "run")


def test_changed_training_text_is_refused(trained, tmp_path):
    config, workdir, _ = trained
    other = tmp_path / "run"
    other.mkdir()
    (other / "tokenizer.model").write_bytes(workdir.tokenizer.read_bytes())
    changed = replace(config, {"data.vocabulary_size": 19, "data.cache_dir": str(tmp_path / "cache")})
    with pytest.raises(ValueError, match="the training text has changed"):
        training.train(changed, other)


def test_other_words_in_the_same_places_are_refused(tmp_path, monkeypatch):
    data = reversal.write_corpus(tmp_path / "data", train=100, held_back=0)
    config = reversal.config(data, training__num_steps=12)
    with monkeypatch.context() as patched:
        patched.setattr(hooks.ProgressLine, "__call__", _ask_to_stop)
        with pytest.raises(Interrupted):
            training.train(config, tmp_path / "run")
    sides = [data / "train.en", data / "train.de"]
    texts = [side.read_text() for side in sides]
    for side, text in zip(sides, reversed(texts), strict=True):  # as long as before, and of the same vocabulary
        side.write_text(text)
    with pytest.raises(ValueError, match=r"the training data has changed since the run in .* began"):
        training.train(config, tmp_path / "run")


def test_a_plan_needs_no_references(trained, tmp_path, capsys):
    config = replace(trained[0], {"data.references": str(tmp_path / "none.de")})
    training.plan(config, tmp_path / "run")
    assert "layouts of 1 x cpu were considered" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"data.references=.* is not a file"):
        training.train(config, tmp_path / "run")


def test_references_must_fit_the_test_split(tmp_path):
    path = tmp_path / "tokenised.de"
    path.write_text("ein haus .\nein hund .\n")
    data = replace(Config().data, {"references": str(path)})
    test = [Pair("A house.", "Ein Haus."), Pair("A dog.", "Ein Hund.")]
    assert read_references(data, test) == ["ein haus .", "ein hund ."]
    with pytest.raises(ValueError, match=r"has 2 lines, but the test split has 3: .* with --config.data.references="):
        read_references(data, [*test, test[0]])
    with pytest.raises(ValueError, match="only 0 of its 2 lines agree with it"):  # the other direction, another set
        read_references(data, [Pair(pair.target, pair.source) for pair in test])
    with pytest.raises(FileNotFoundError, match="is not a file"):
        read_references(replace(data, {"references": str(tmp_path / "none")}), None)


def test_references_that_are_not_there_are_refused_before_anything_is_prepared(trained, tmp_path):
    config = replace(trained[0], {"data.references": "none", "data.cache_dir": str(tmp_path / "cache")})
    with pytest.raises(FileNotFoundError, match=r"data.references=none is not a file: .* or none with --config"):
        training.train(config, tmp_path / "run")
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").glob("pairs-*"))


def test_evaluating_keeps_the_translations_that_the_result_speaks_of(trained, capsys):
    config, workdir, _ = trained
    before = {file.name: file.read_bytes() for file in workdir.predictions.glob("test.*")}
    training.evaluate(replace(config, {"decoding.beam_size": 2, "decoding.length_penalty": 0.0}), workdir)
    assert {file.name: file.read_bytes() for file in workdir.predictions.glob("test.*")} == before
    assert {file.name for file in (workdir.predictions / "evaluate").glob("test.*")} == set(before)
    assert str(workdir.predictions / "evaluate") in capsys.readouterr().out


def test_a_trained_run_translates_from_python(trained):
    config, workdir, _ = trained
    translator = jaxformer.load_translator(workdir.path, method="greedy")
    assert translator.config.method == "greedy"
    output = io.StringIO()
    training.predict(replace(config, {"decoding.method": "greedy"}), workdir, ["4 5 6"], output)
    assert translator.translate(["4 5 6"])[0].text + "\n" == output.getvalue()
    with pytest.raises(OSError, match=r"holds no config\.json: "):
        jaxformer.load_translator(workdir.path.parent)


def test_prepare_prints_the_cleaning_table(trained, capsys):
    training.prepare(trained[0])
    out = capsys.readouterr().out
    assert "pairs kept" in out
    assert "4,000 training pairs, ready in" in out


def test_plan_runs_nothing_and_tells_memory_and_state(trained, tmp_path, capsys):
    config, workdir, _ = trained
    training.plan(config, workdir)
    done = capsys.readouterr().out
    training.plan(config, tmp_path / "new")
    new = capsys.readouterr().out
    assert "finished: training again would do nothing" in done
    assert "run          new" in new
    assert "MiB during a step (compiled, not guessed; the formula says" in new
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(trained, tmp_path, monkeypatch, number):
    config = replace(
        trained[0],
        {"training.num_steps": 12, "training.eval_every": 0, "training.checkpoint_every": 0,
         "monitoring.tensorboard": False, "decoding.method": "greedy"},
    )  # fmt: skip

    def ask(line, step, metrics, progress):
        if step == 5:
            signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(hooks.ProgressLine, "__call__", ask)
        with pytest.raises(Interrupted) as stopped:
            training.train(config, tmp_path / "run")
    assert stopped.value.code == 128 + number
    assert 5 <= stopped.value.step < 12
    assert Workdir(tmp_path / "run").result() is None
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", read_only=True)
    assert checkpoints.steps() == [stopped.value.step]
    checkpoints.close()
    assert training.train(config, tmp_path / "run")["step"] == 12


def test_the_mean_of_the_last_checkpoints_is_evaluated(trained, tmp_path, caplog):
    """Two checkpoints, averaged by hand."""
    from jaxformer.training.averaging import select_params
    from jaxformer.training.leaves import leaf_names
    from jaxformer.training.optimizer import make_optimizer
    from jaxformer.training.state import create_state

    config = replace(trained[0].training, {"ema_decay": 0.0, "average_checkpoints": 2, "checkpoint_every": 10})
    optimizer = make_optimizer(trained[0].optimizer, 10)
    checkpoints = Checkpoints(Path(tmp_path), average=2, period=10)
    for step, value in ((10, 1.0), (20, 2.0), (25, 100.0), (30, 5.0)):
        state = create_state({"w": jax.numpy.full(3, value)}, optimizer, seed=0, ema=False)
        checkpoints.save(step, state, {})
    checkpoints.wait()
    with caplog.at_level(logging.INFO):
        params, described = select_params(checkpoints, config, state.params)
    checkpoints.close()
    assert leaf_names(params)["w"].tolist() == [3.5, 3.5, 3.5]
    assert described == "the mean of the checkpoints of steps 20, 30"


def _short(config: Config, **changes: Any) -> Config:
    """Twelve steps without evaluation; `__` is a dot in `changes`."""
    base = {"training.num_steps": 12, "training.log_every": 6, "training.eval_every": 0, "training.checkpoint_every": 0}
    base |= {"monitoring.tensorboard": False, "decoding.method": "greedy"}
    return replace(config, base | {name.replace("__", "."): value for name, value in changes.items()})


def test_a_trace_and_a_breakdown_are_made_on_request(trained, tmp_path, caplog):
    config = _short(
        trained[0], monitoring__breakdown=True, profile__start_step=4, profile__num_steps=3, training__eval_every=12
    )
    with caplog.at_level(logging.INFO):
        result = training.train(config, tmp_path / "run")
    (trace,) = (tmp_path / "run" / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 1000
    assert set(result["breakdown"]) == {"forward", "backward", "update", "step"}
    assert sum("traced from step 4 on" in message for message in caplog.messages) == 1
    assert sum(message.startswith("a step on ") for message in caplog.messages) == 1
    speed = result["throughput"]
    assert 0 < speed["train/mfu"] < 1
    phases = [value for name, value in speed.items() if name.startswith("seconds/") and name != "seconds/wall"]
    assert sum(phases) == pytest.approx(speed["seconds/wall"], rel=1e-3)
    records = [record for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/loss" in record]
    assert all({"train/mfu", "train/data_wait", "utilisation/cpu"} <= set(record) for record in records)


@pytest.mark.slow
def test_neither_changes_what_is_learnt(trained, tmp_path):
    losses = []
    watched = {"monitoring__breakdown": True, "profile__num_steps": 2, "profile__start_step": 3}
    for number, changes in enumerate([{}, watched]):
        training.train(_short(trained[0], **changes), tmp_path / f"{number}")
        records = read_metrics(tmp_path / f"{number}" / "metrics.jsonl")
        losses.append([record["train/loss"] for record in records if "train/loss" in record])
    assert losses[0] == losses[1]


def _ask_to_stop(line, step, metrics, progress):
    """In the place of `ProgressLine.__call__`."""
    if step == 5:
        signal.raise_signal(signal.SIGTERM)


def test_a_trace_ends_with_a_run_that_is_stopped(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(hooks.ProgressLine, "__call__", _ask_to_stop)
    with pytest.raises(Interrupted):
        training.train(_short(trained[0], profile__num_steps=100, profile__start_step=2), tmp_path / "run")
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


def test_a_trace_that_is_past_is_said_to_be(trained, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patched:
        patched.setattr(hooks.ProgressLine, "__call__", _ask_to_stop)
        with pytest.raises(Interrupted):
            training.train(_short(trained[0]), tmp_path / "run")
    training.train(_short(trained[0], profile__num_steps=2, profile__start_step=3), tmp_path / "run")
    assert any("profile.start_step=3 is past" in message for message in caplog.messages)
    assert not (tmp_path / "run" / "profile").exists()


def test_too_little_memory_becomes_advice_with_numbers(trained, tmp_path, monkeypatch):
    def exhaust(loop):
        jax.jit(lambda: jax.numpy.zeros((1 << 22, 1 << 22)))().block_until_ready()  # 64 TiB

    monkeypatch.setattr("jaxformer.training.loop.Loop.run", exhaust)
    # What it is really: `test_the_advice_gives_what_each_setting_would_need`.
    monkeypatch.setattr("jaxformer.training.memory.step_memory", lambda *_: StepMemory(3 * 2**20, None))
    told = r"(?s)out of memory: a step on .* needs 3 MiB .*--config.memory.accumulate=2"
    with pytest.raises(ValueError, match=told):
        training.train(_short(trained[0]), tmp_path / "run")


def test_too_little_memory_for_translating_names_the_fields(trained, monkeypatch):
    from jaxformer.tasks.translator import Translator

    def exhaust(*args, **kwargs):
        jax.jit(lambda: jax.numpy.zeros((1 << 22, 1 << 22)))().block_until_ready()

    monkeypatch.setattr(Translator, "translate", exhaust)
    with pytest.raises(ValueError, match=r"out of memory while translating: lower --config.decoding.batch_tokens"):
        training.evaluate(trained[0], trained[1])


def test_a_run_compiles_each_shape_once_and_nothing_later(trained, tmp_path, monkeypatch):
    from jaxformer.training import session
    from jaxformer.training.step import make_train_step

    made: list[Any] = []

    def remembered(*args, **kwargs):
        made.append(make_train_step(*args, **kwargs))
        return made[-1]

    compiled: list[tuple[int, int]] = []

    def count(hook, step, metrics, progress):
        compiled.append((step, made[0]._cache_size()))

    monkeypatch.setattr(session, "make_train_step", remembered)
    monkeypatch.setattr(hooks.FirstStep, "__call__", count)
    shapes = {"data.num_shapes": 3, "data.batch_tokens": 256, "training.num_steps": 120}
    config = replace(_short(trained[0]), shapes | {"training.eval_every": 60, "training.checkpoint_every": 50})
    training.train(config, tmp_path / "run")
    assert len(made) == 1
    assert 1 < compiled[-1][1] <= 3
    seen = [number for _, number in compiled]
    assert seen.index(seen[-1]) < 60  # all shapes come early; evaluation and checkpoints compile nothing of the step
