"""A workdir belongs to one process at a time and to one configuration for life."""

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import jaxformer as jf
from jaxformer.config import Config, replace
from jaxformer.monitoring.durable import DiskError
from jaxformer.training.folder_lock import WorkdirError
from jaxformer.training.workdir import Workdir, differences, evaluation_config

CONFIG = replace(Config(), {"experiment": "wmt:bundled", "data.source": "bundled", "optimizer.learning_rate": 1 / 3})


def _claim(path, config=CONFIG):
    with Workdir(path).claim(config):
        pass


def _begun(path, config=CONFIG):
    _claim(path, config)
    Workdir(path).metrics.write_text('{"step": 1}\n')


def test_constructing_one_touches_nothing(tmp_path):
    Workdir(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_new_workdir_holds_the_whole_configuration(tmp_path):
    with Workdir(tmp_path / "runs" / "new").claim(CONFIG) as workdir:
        assert workdir.load_config() == CONFIG
    stored = json.loads((tmp_path / "runs" / "new" / "config.json").read_text())
    assert stored["optimizer"]["learning_rate"] == 1 / 3
    assert stored["experiment"] == "wmt:bundled"


def test_it_can_be_claimed_again_for_the_same_configuration(tmp_path):
    _begun(tmp_path)
    Workdir(tmp_path).tokenizer.write_bytes(b"of this run")
    with Workdir(tmp_path).claim(CONFIG) as workdir:
        assert workdir.load_config() == CONFIG
    assert workdir.began
    assert workdir.tokenizer.read_bytes() == b"of this run"


def test_another_configuration_is_refused_naming_the_fields(tmp_path):
    _begun(tmp_path)
    other = replace(CONFIG, {"training.num_steps": 7, "model.activation": "gelu"})
    with pytest.raises(ValueError, match="another configuration") as caught:
        _claim(tmp_path, other)
    text = str(caught.value)
    assert "  training.num_steps: 10000 -> 7\n" in text
    assert "  model.activation: 'relu' -> 'gelu'\n" in text
    assert "learning_rate" not in text
    assert "choose another --workdir, or give the values that are there" in text
    assert Workdir(tmp_path).load_config() == CONFIG


def test_a_run_that_never_began_binds_nothing(tmp_path):
    _claim(tmp_path)  # as if it had been killed while its data was prepared
    workdir = Workdir(tmp_path)
    workdir.tokenizer.write_bytes(b"of other data")
    workdir.metrics.write_text("")  # opened for the first record, which never came
    other = replace(CONFIG, {"training.num_steps": 7})
    _claim(tmp_path, other)
    assert workdir.load_config() == other
    assert not workdir.tokenizer.exists()
    with pytest.raises(RuntimeError), workdir.claim(CONFIG):
        raise RuntimeError("out of memory")
    assert not workdir.config.exists()
    (workdir.checkpoints / "1").mkdir(parents=True)
    _claim(tmp_path, other)
    with pytest.raises(ValueError, match="another configuration"):
        _claim(tmp_path)


def test_files_of_another_program_are_left_alone(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "marian"}')
    (tmp_path / "tokenizer.model").write_bytes(b"theirs")
    with pytest.raises(WorkdirError, match=r"config\.json cannot be used"):
        _claim(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(RuntimeError), Workdir(tmp_path).claim(CONFIG):
        raise RuntimeError
    assert (tmp_path / "tokenizer.model").read_bytes() == b"theirs"


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, caplog):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    _claim(tmp_path)
    assert "without locks" in caplog.text
    assert "make sure that no other run uses it" in caplog.text


def test_the_home_folder_may_be_abbreviated(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workdir("~/runs/a").path == tmp_path / "runs" / "a"
    with pytest.raises(ValueError, match=r"~nobody-of-that-name/x: .* Give the path in full, or set HOME"):
        Workdir("~nobody-of-that-name/x")


def test_fields_that_change_no_number_may_differ(tmp_path):
    _begun(tmp_path)
    changes = {"monitoring.samples": 3, "data.num_threads": 7, "data.prefetch": 9, "data.cache_dir": "x",
               "decoding.processes": 2}  # fmt: skip
    other = replace(CONFIG, {**changes, "training.keep_checkpoints": 1, "training.checkpoint_minutes": 0.5})
    _claim(tmp_path, other)
    assert Workdir(tmp_path).load_config() == other


def test_a_glance_of_a_sweep_does_not_end_a_run(tmp_path):
    (tmp_path / ".lock").touch()
    descriptor = os.open(tmp_path / ".lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    start = time.monotonic()
    threading.Timer(0.1, os.close, [descriptor]).start()
    with Workdir(tmp_path).claim(Config()):
        assert time.monotonic() - start > 0.09


def test_two_runs_in_one_workdir_the_second_is_refused_by_name(tmp_path):
    program = textwrap.dedent("""
        import sys
        from jaxformer.config import Config
        from jaxformer.training.workdir import Workdir
        with Workdir(sys.argv[1]).claim(Config()):
            print("held", flush=True)
            sys.stdin.read()
    """)
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout.readline() == "held\n"
        with pytest.raises(WorkdirError, match=rf"is in use by process {run.pid} on .*: wait for that run or stop it"):
            _claim(tmp_path, Config())
        run.kill()  # the lock vanishes with its process, however that ends
        run.wait()
        _claim(tmp_path, Config())


def test_the_same_process_is_refused_too_and_the_lock_ends_with_the_block(tmp_path):
    with Workdir(tmp_path).claim(CONFIG), pytest.raises(WorkdirError, match=f"process {os.getpid()} on"):
        _claim(tmp_path)
    _claim(tmp_path)


def test_a_missing_workdir_says_how_to_train_and_what_there_is(tmp_path):
    _claim(tmp_path / "wmt-tiny")
    with pytest.raises(WorkdirError, match="is not there") as caught:
        Workdir(tmp_path / "wmt-base").load_config()
    assert str(tmp_path / "wmt-tiny") in str(caught.value)
    assert f"python run.py --experiment=NAME --workdir={tmp_path / 'wmt-base'}" in str(caught.value)
    with pytest.raises(WorkdirError, match=r"holds no config\.json"):
        Workdir(tmp_path).load_config()


@pytest.mark.parametrize("text", ["", "[]", '{"training": {"num_stepz": 3}}', '{"training": {"num_steps": "many"}}'])
def test_a_damaged_configuration_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WorkdirError, match=r"config\.json cannot be used: "):
        Workdir(tmp_path).load_config()


def test_an_unwritable_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=r"cannot write .*file.run: a part of the path is a file: choose another"):
        _claim(tmp_path / "file" / "run")
    with pytest.raises(DiskError, match="it is a file, not a folder"):
        _claim(tmp_path / "file")


def test_a_full_disk_is_refused_and_the_lock_is_given_back(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(DiskError, match="the disk is full"):
            _claim(tmp_path)
    _claim(tmp_path)


def test_a_result_marks_a_run_as_finished(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.result() is None
    with workdir.claim(CONFIG):
        workdir.write_result({"test/bleu": 97.125, "test/signature": "nrefs:1"}, train={"tokens_per_second": 1 / 3})
    found = workdir.result()
    assert found["metrics"] == {"test/bleu": 97.125, "test/signature": "nrefs:1"}
    assert found["train"] == {"tokens_per_second": 1 / 3}
    assert found["environment"]["platform"] == "cpu"
    assert found["environment"]["versions"]["flax"]
    assert found["finished"][:2] == "20"


def test_a_torn_result_is_no_result(tmp_path):
    for content in (b'{"metrics": {', b"\xff\xfe\x00{"):
        (tmp_path / "result.json").write_bytes(content)
        assert Workdir(tmp_path).result() is None


def test_a_configuration_that_is_no_text_is_refused_with_its_name(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(WorkdirError, match=r"config\.json cannot be used: .*utf-8.*; choose another --workdir$"):
        Workdir(tmp_path).load_config()


def test_what_to_type_can_be_pasted(tmp_path):
    with pytest.raises(WorkdirError, match=r"--experiment=NAME --workdir='.*/my run'`"):
        Workdir(tmp_path / "my run").load_config()


def test_a_file_in_place_of_a_workdir_is_refused(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(WorkdirError, match=r"workdir .*file is a file, not a folder: give the folder of a run"):
        Workdir(tmp_path / "file").load_config()


def test_differences_are_dotted_and_complete():
    assert differences(CONFIG, CONFIG) == {}
    other = replace(CONFIG, {"model.d_model": 256, "precision": "bf16"})
    assert differences(CONFIG, other) == {"precision": ("fp32", "bf16"), "model.d_model": (512, 256)}


def test_evaluation_takes_how_to_decode_and_where_things_are(tmp_path):
    _claim(tmp_path)
    overrides = {
        "decoding.beam_size": 9, "data.source": "files", "data.path": "elsewhere", "data.test": "news", "mesh.data": 1,
    }  # fmt: skip
    assert evaluation_config(Workdir(tmp_path), overrides) == replace(CONFIG, overrides)


def test_evaluation_refuses_text_that_a_run_on_generated_text_would_not_read(tmp_path):
    _claim(tmp_path)
    told = r"^data\.test=news is not read with .*: set --config\.data\.source=files \(or tfds\) too"
    with pytest.raises(ValueError, match=told):
        evaluation_config(Workdir(tmp_path), {"data.test": "news", "decoding.method": "greedy"})


def test_evaluation_on_other_data_forgets_where_that_of_training_lay(tmp_path):
    trained = replace(CONFIG, {"data.source": "tfds", "data.name": "glue/sst2", "data.train": "train[:90%]",
                               "data.validation": "train[90%:]", "data.num_examples": 600})  # fmt: skip
    _claim(tmp_path, trained)
    found = evaluation_config(Workdir(tmp_path), {"data.source": "files", "data.path": "d", "data.test": "news"}).data
    assert (found.path, found.test) == ("d", "news")
    assert (found.name, found.train, found.validation, found.num_examples) == ("", "", "", 0)
    with pytest.raises(ValueError, match=r"data\.source=bundled: a run trained with tfds is not scored on generated"):
        evaluation_config(Workdir(tmp_path), {"data.source": "bundled"})
    with pytest.raises(ValueError, match=r"data\.name names a TFDS set, and data\.source=files"):
        evaluation_config(Workdir(tmp_path), {"data.source": "files", "data.name": "imdb_reviews"})


@pytest.mark.parametrize(
    "field", ["model.d_model", "training.num_steps", "data.vocabulary_size", "data.source_language", "precision"]
)
def test_evaluation_refuses_what_would_change_the_trained_model(tmp_path, field):
    _claim(tmp_path)
    with pytest.raises(ValueError, match=rf"--config\.{field}=64 cannot be set when evaluating or predicting"):
        evaluation_config(Workdir(tmp_path), {field: 64})


def test_evaluation_refuses_what_was_left_to_the_planner_as_it_was_written(tmp_path):
    _claim(tmp_path)
    for field, value, given in (
        ("data.batch_tokens", 0, "data.batch_tokens=auto"), ("model.scan_layers", True, "model.scan_layers=true"),
    ):
        with pytest.raises(ValueError, match=rf"^--config\.{given} cannot be set when evaluating or predicting"):
            evaluation_config(Workdir(tmp_path), {field: value})


def test_the_files_of_a_workdir_have_the_names_of_the_contract():
    workdir = Workdir("W")
    names = [
        workdir.config, workdir.metrics, workdir.result_file, workdir.checkpoints, workdir.tokenizer,
        workdir.tensorboard, workdir.predictions, workdir.report,
    ]
    assert [os.fspath(name) for name in names] == [
        "W/config.json", "W/metrics.jsonl", "W/result.json", "W/checkpoints", "W/tokenizer.model",
        "W/tensorboard", "W/predictions", "W/report",
    ]


@pytest.mark.parametrize("load", [jf.load_translator, jf.load_predictor])
def test_what_a_translator_would_not_read_is_refused_naming_what_does(tmp_path, load):
    Workdir(tmp_path).keep_config(CONFIG)
    advice = f"leave it out, and translate with jf.TranslatorPool(jf.load_translator('{tmp_path}'), processes=2)"
    with pytest.raises(ValueError, match=re.escape(f"processes=2 is read by --mode=predict alone: {advice}")):
        load(tmp_path, beam_size=2, processes=2)


def test_what_a_classifier_would_not_read_is_refused(tmp_path):
    kind = {"task.kind": "text_classification", "training.best_metric": "validation/loss"}
    Workdir(tmp_path).keep_config(replace(CONFIG, kind))
    with pytest.raises(ValueError, match=r"^beam_size, processes: of translation, and the run in .* has task"):
        jf.load_predictor(tmp_path, batch_tokens=64, beam_size=2, processes=2)
    with pytest.raises(FileNotFoundError, match="holds no trained run"):  # all is read, but there is nothing
        jf.load_predictor(tmp_path, batch_tokens=64)
