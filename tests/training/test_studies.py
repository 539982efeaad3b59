"""The trainer trains what is not translation: a small study of labelled records, through every entry point."""

from __future__ import annotations

import io
import json
import logging

import jax
import pytest

from jaxformer import training
from jaxformer.config import Config, DataConfig, network, replace
from jaxformer.data.tokenizer import Tokenizer, train_text_tokenizer
from jaxformer.monitoring.trackers import read_metrics
from jaxformer.training import hooks, same_data, study as study_module
from jaxformer.training.folder_lock import WorkdirError
from jaxformer.training.studies.records import LabelledFacts
from jaxformer.training.studies.translation import TranslationFacts
from jaxformer.training.workdir import Workdir
from tests.devices import run_on_eight_devices
from tests.training import parity


@pytest.fixture(scope="module", autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "KINDS", (*network.KINDS, "parity"))
        patch.setitem(study_module.STUDIES, "parity", "tests.training.parity:ParityStudy")
        yield
    jax.config.update("jax_compilation_cache_dir", None)  # `train` has set it for the process


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    config = parity.config(
        folder, training__num_steps=300, training__log_every=50, training__eval_every=150,
        training__checkpoint_every=100,
    )  # fmt: skip
    workdir = Workdir(folder / "run")
    return config, workdir, training.train(config, workdir)


def test_every_kind_of_the_configuration_has_a_study():
    assert set(study_module.STUDIES) == set(network.KINDS)
    for kind in ("translation", "text_classification", "protein"):
        changes = {"task.kind": kind, "training.best_metric": "validation/loss"}
        study_module.open_study(replace(Config(), changes)).check()


def test_it_learns_and_the_workdir_holds_what_belongs_to_a_run(trained):
    _, workdir, result = trained
    metrics = result["metrics"]
    assert metrics["test/accuracy"] > 0.98
    assert 0.3 < result["baselines"]["always even"]["test/accuracy"] < 0.7
    assert json.loads(workdir.result_file.read_text())["metrics"] == metrics
    assert result["tokens"] > 300 * 300
    assert "target_tokens" not in result
    assert json.loads(workdir.facts.read_text())["names"] == ["even", "odd"]
    assert (workdir.report / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    assert len((workdir.predictions / "test.txt").read_text().splitlines()) == 48
    records = read_metrics(workdir.metrics)
    assert [record["step"] for record in records if "validation/accuracy" in record] == [150, 300]
    speeds = [record for record in records if "train/tokens_per_second" in record]
    assert all(0 < record["train/mfu"] < 1 and record["train/padding_efficiency"] > 0.7 for record in speeds)


def test_evaluate_finds_the_same_scores(trained, capsys):
    config, workdir, result = trained
    scores = training.evaluate(config, workdir)
    assert scores == {name: result["metrics"][name] for name in scores}
    assert set(scores) == {f"{split}/{name}" for split in ("validation", "test") for name in ("accuracy", "exact")}
    out = capsys.readouterr().out
    assert "predictions of test" in out
    assert "48 numbers" in out


def test_a_picture_that_fails_does_not_lose_the_scores(trained, monkeypatch, caplog):
    config, workdir, result = trained

    def fail(*_):
        raise RuntimeError("no such font")

    monkeypatch.setattr(parity.ParityStudy, "draw", fail)
    study = study_module.open_study(config)
    facts = study.load_facts(workdir)
    predictor = study.make_predictor(study.make_task(facts), facts, study.make_task(facts).init_params(0))
    with caplog.at_level(logging.WARNING):
        scored = study.score(
            predictor, study.evaluation_splits(facts), predictions=workdir.path / "other", report=workdir.report
        )
    assert set(scored.metrics) <= set(result["metrics"])
    assert any("pictures are missing" in message and "no such font" in message for message in caplog.messages)


def test_predict_needs_the_workdir_alone(trained):
    config, workdir, _ = trained
    output = io.StringIO()
    training.predict(config, workdir, iter(["124", "91"]), output)
    lines = output.getvalue().splitlines()
    assert [line[1:] for line in lines] == ["oe", "o"]


def test_prepare_plan_and_tune_say_what_they_found(trained, tmp_path, capsys):
    config, _, _ = trained
    training.prepare(config)
    assert "600 training numbers, made again by every run" in capsys.readouterr().out
    training.plan(config, tmp_path / "new")
    plan = capsys.readouterr().out
    assert "MiB during a step (compiled, not guessed; the formula says" in plan
    assert "the best by validation/accuracy stay" in plan
    assert "GFLOP for" in plan
    assert "layouts of 1 x cpu were considered" in plan
    assert not (tmp_path / "new").exists()
    training.tune(config, str(tmp_path / "table.json"))
    assert json.loads((tmp_path / "table.json").read_text())["measurements"]


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, caplog):
    whole = parity.config(tmp_path, training__num_steps=24)
    training.train(whole, tmp_path / "whole")
    steps = [dict(record, time=0) for record in read_metrics(tmp_path / "whole" / "metrics.jsonl")]
    part = Workdir(tmp_path / "part")

    def dark(line, step, metrics, progress):
        if step == 20:
            raise RuntimeError("lights out")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hooks.ProgressLine, "__call__", dark)
        with pytest.raises(RuntimeError, match="lights out"):
            training.train(whole, part)
    with caplog.at_level(logging.INFO):
        training.train(whole, part)
    assert any("restored step 16" in message for message in caplog.messages)
    again = [dict(record, time=0) for record in read_metrics(part.metrics)]
    losses = lambda records: [(r["step"], r["train/loss"]) for r in records if "train/loss" in r]  # noqa: E731
    assert losses(again) == losses(steps)
    assert [r["test/accuracy"] for r in again if "test/accuracy" in r] == [
        r["test/accuracy"] for r in steps if "test/accuracy" in r
    ]


@pytest.mark.parametrize(
    ("place", "words"), [(0, "process 1 has other training data"), (1, "process 1 has another vocabulary")]
)
def test_processes_that_have_read_other_data_stop_before_anything_is_kept(tmp_path, monkeypatch, place, words):
    def read(own):
        other = list(own)
        other[place] = [0, 0]
        return [own, other]

    monkeypatch.setattr(same_data, "every_ones", read)
    with pytest.raises(ValueError, match=words):
        training.train(parity.config(tmp_path, training__num_steps=2), Workdir(tmp_path / "run"))
    assert not (tmp_path / "run" / "facts.json").exists()


@pytest.mark.parametrize("kind", ["translation", "labelled"])
def test_another_process_never_finds_a_part_of_a_tokenizer(tmp_path, monkeypatch, kind):
    tokenizer = train_text_tokenizer(["a bad film", "a good film"], DataConfig(vocabulary_size=8, tokenizer="word"))
    facts = TranslationFacts(tokenizer) if kind == "translation" else LabelledFacts({}, tokenizer)
    workdir, seen = Workdir(tmp_path), []
    monkeypatch.setattr("os.fsync", lambda _: seen.append(workdir.tokenizer.exists()))  # when all of it is written
    facts.save(workdir)
    assert seen[0] is False
    assert Tokenizer.load(workdir.tokenizer).digest == tokenizer.digest


def test_changed_data_is_refused(trained, tmp_path):
    config, workdir, _ = trained
    changed = replace(config, {"data.seed": 5, "data.num_examples": 700})
    other = Workdir(tmp_path / "run")
    other.path.mkdir()
    other.facts.write_bytes(workdir.facts.read_bytes())
    study = study_module.open_study(changed)
    facts = study.prepare().facts
    with pytest.raises(ValueError, match=r"training data has changed .* its labels or its statistics are others"):
        same_data.keep_facts(study, facts, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.best_metric": "validation/acuracy"}, "choose one of .* Did you mean 'validation/accuracy'"),
        ({"training.best_metric": "validation/bleu"}, "is not measured where task.kind=parity"),
        ({"training.r_drop": 1.0}, "r_drop=1.0 is for translation"),
        ({"data.subword_sampling": 0.1}, "task.token_dropout hides tokens"),
    ],
)
def test_what_is_for_translation_is_refused_before_anything_is_prepared(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        training.train(parity.config(tmp_path, **{name.replace(".", "__"): v for name, v in changes.items()}), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_the_planner_finds_the_batch_and_the_layout_of_a_study(tmp_path, caplog):
    config = parity.config(
        tmp_path, data__batch_tokens=0, mesh__auto=True, plan__measure=False, plan__memory=0.02, training__num_steps=3,
    )  # fmt: skip
    workdir = Workdir(tmp_path / "run")
    with caplog.at_level(logging.INFO):
        assert training.train(config, workdir)["step"] == 3
    kept = workdir.load_config()
    assert not kept.left_open
    assert 64 < kept.data.batch_tokens <= 600 * 12 / 16
    assert f"the plan: data=1, 1 micro-batch, {kept.data.batch_tokens:,} slots; " in caplog.text
    assert training.train(config, workdir)["step"] == 3  # the same command again finds it finished


def test_tuning_refuses_what_training_would(tmp_path):
    with pytest.raises(ValueError, match=r"r_drop=1.0 is for translation"):
        training.tune(parity.config(tmp_path, training__r_drop=1.0))


def test_tagged_records_pack(tmp_path):
    config = parity.config(tmp_path, data__batching="pack", data__pack_length=32, model__max_length=32,
                           data__batch_tokens=512, training__num_steps=12)  # fmt: skip
    result = training.train(config, tmp_path / "run")
    assert result["padding_efficiency"] > 0.9
    assert result["step"] == 12


@pytest.mark.slow
def test_a_study_trains_on_a_mesh_as_on_one_device(tmp_path):
    run_on_eight_devices(f"    FOLDER = {str(tmp_path)!r}\n" + """
    from pathlib import Path
    from jaxformer import training
    from jaxformer.config import network
    from jaxformer.training import study
    from tests.training import parity

    network.KINDS += ("parity",)
    study.STUDIES["parity"] = "tests.training.parity:ParityStudy"

    def run(name, **mesh):
        sizes = {"training__num_steps": 6, "training__eval_every": 3, "training__log_every": 6,
                 "task__token_dropout": 0.2, "data__batching": "pack", "data__pack_length": 16}
        config = parity.config(Path(FOLDER), **sizes, **{f"mesh__{axis}": size for axis, size in mesh.items()})
        return training.train(config, Path(FOLDER) / name)

    alone, split = run("alone", data=1), run("split", data=2, fsdp=2, context=2)
    assert abs(alone["metrics"]["train/loss"] - split["metrics"]["train/loss"]) < 1e-4, (alone, split)
    assert "train/imbalance" in split["throughput"]
    """)


def test_balanced_classes_weigh_as_rarely_as_they_occur(tmp_path):
    plain, balanced = (
        parity.ParityStudy(parity.config(tmp_path, task__class_weights=kind)) for kind in ("none", "balanced")
    )
    assert plain.class_weights([1, 3]) == ()
    weights = balanced.class_weights([1, 3])
    assert weights == (2.0, 2 / 3)
    assert (1 * weights[0] + 3 * weights[1]) / 4 == 1.0


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_damaged_facts_are_refused_by_name(tmp_path, content):
    workdir = Workdir(tmp_path)
    workdir.facts.write_bytes(content)
    with pytest.raises(WorkdirError, match=r"facts\.json is damaged: .*; bring it back as the run wrote it"):
        LabelledFacts.load(workdir)
