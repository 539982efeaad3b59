"""A person's own trackers and study in the trainer, through `jf.train`."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jaxformer as jf
from jaxformer.monitoring.trackers import read_metrics
from jaxformer.training import entry
from jaxformer.training.beginning import check_beginning
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.workdir import Workdir
from tests.training import parity


@pytest.fixture(scope="module", autouse=True)
def compilation_cache():
    yield
    jax.config.update("jax_compilation_cache_dir", None)  # `train` has set it for the process


class Memory:
    """Remembers what it is told, and fails where it shall."""

    def __init__(self, fail_at: int = -1, fail_to_close: bool = False) -> None:
        self.records: list[dict[str, Any]] = []
        self.synced, self.closed = 0, 0
        self._fail_at, self._fail_to_close = fail_at, fail_to_close

    def log(self, step, metrics):
        if step == self._fail_at:
            raise RuntimeError("the server is gone")
        self.records.append({"step": step, **metrics})

    def sync(self):
        self.synced += 1

    def close(self):
        self.closed += 1
        if self._fail_to_close:
            raise RuntimeError("nor can it be told")


def _config(folder: Path, **changes: Any) -> jf.Config:
    """Of `ParityStudy`, which no `task.kind` names."""
    return parity.config(folder, task__kind="text_classification", **changes)


def _train(config: jf.Config, workdir: Path, *trackers: Any) -> dict[str, Any]:
    return jf.train(config, workdir, trackers=trackers, study=parity.ParityStudy)


def test_own_trackers_get_what_the_record_gets(tmp_path):
    first, second = Memory(), Memory()
    result = _train(_config(tmp_path, training__eval_every=12), tmp_path / "run", first, second)
    kept = [{k: v for k, v in record.items() if k != "time"} for record in read_metrics(tmp_path / "run/metrics.jsonl")]
    assert first.records == second.records == kept
    assert [record["step"] for record in kept] == [5, 10, 12, 15, 20, 24, 24, 24]
    assert kept[-1]["test/accuracy"] == result["metrics"]["test/accuracy"]
    assert (first.synced, first.closed, second.closed) == (4, 1, 1)  # checkpoints at 8, 12, 16 and 24
    _train(_config(tmp_path, training__eval_every=12), tmp_path / "run", again := Memory())  # is finished
    assert (again.records, again.closed) == ([], 1)


def test_a_tracker_that_fails_ends_the_run_which_goes_on_from_its_checkpoint(tmp_path, caplog):
    failing, other = Memory(fail_at=10, fail_to_close=True), Memory()
    with pytest.raises(RuntimeError, match="the server is gone") as error:
        _train(_config(tmp_path), tmp_path / "run", failing, other)
    assert traceback.extract_tb(error.value.__traceback__)[-1].filename == __file__
    assert (failing.closed, other.closed) == (1, 1)
    assert "nor can it be told" in caplog.text
    assert [entry.name for entry in (tmp_path / "run/checkpoints").iterdir() if entry.name.isdigit()] == ["8"]
    after = Memory()
    assert _train(_config(tmp_path), tmp_path / "run", after)["step"] == 24
    assert [record["step"] for record in after.records] == [10, 15, 20, 24, 24]


@pytest.mark.slow
def test_one_that_cannot_be_closed_in_the_end_is_an_error_and_the_others_are_closed(tmp_path):
    other = Memory()
    with pytest.raises(RuntimeError, match="nor can it be told"):
        _train(_config(tmp_path, training__num_steps=2), tmp_path / "run", Memory(fail_to_close=True), other)
    assert other.closed == 1
    assert Workdir(tmp_path / "run").result() is not None


def test_trackers_are_closed_where_nothing_was_trained(tmp_path):
    with pytest.raises(ValueError, match=r"r_drop=1.0 is for translation"):
        _train(_config(tmp_path, training__r_drop=1.0), tmp_path / "run", tracker := Memory())
    assert tracker.closed == 1


def test_the_first_process_alone_tells_trackers(tmp_path, monkeypatch):
    def log(config, workdir, beside, make_study):
        beside.log(1, {})
        return {}

    monkeypatch.setattr(entry, "_train", log)
    for process in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        jf.train(_config(tmp_path), tmp_path, trackers=[tracker := Memory()])
        assert (len(tracker.records), tracker.closed) == (1 - process, 1 - process)


@pytest.mark.parametrize("trackers", [Memory(), [Memory], ["tensorboard"]])
def test_what_is_no_tracker_is_refused(tmp_path, trackers):
    with pytest.raises(ValueError, match=r"^(trackers are given in a list|a tracker .* log, sync and close), got "):
        jf.train(_config(tmp_path), tmp_path / "run", trackers=trackers)
    assert not (tmp_path / "run").exists()


def test_an_own_study_is_trained_planned_and_predicted_with(tmp_path, capsys):
    config = _config(
        tmp_path, data__batch_tokens=0, mesh__auto=True, plan__measure=False, plan__memory=0.02, training__num_steps=3,
    )  # fmt: skip
    assert _train(config, tmp_path / "run")["step"] == 3
    assert capsys.readouterr().out.count("--mode=predict --workdir") == 1
    assert _train(config, tmp_path / "run")["step"] == 3
    assert "< numbers.txt" in capsys.readouterr().out
    predictor = jf.load_predictor(tmp_path / "run", study=parity.ParityStudy)
    assert predictor(parity.labelled([np.array([1, 2, 4])]))["odd"].shape == (3, 2)
    begun = jf.replace(config, {"training.start_from": str(tmp_path / "run")})
    check_beginning(begun, make_study=parity.ParityStudy)  # which has no vocabulary


@pytest.mark.slow
def test_advice_for_too_little_memory_is_of_the_own_study(tmp_path, monkeypatch):
    def full(*_: Any, **__: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")

    monkeypatch.setattr(Checkpoints, "restore", full)
    with pytest.raises(ValueError, match=r"(?s)out of memory.*--config\.memory\.accumulate=2"):
        _train(_config(tmp_path), tmp_path / "run")


class Half:
    def __init__(self, config: jf.Config) -> None:
        self.config = config


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ("parity", "study takes what makes a jf.Study of a jf.Config, such as its class, got 'parity'"),
        (Half, "such as its class: .*Half.* has no noun, counted, curves, check, prepare, "),
    ],
)
def test_what_makes_no_study_is_refused(tmp_path, study, message):
    with pytest.raises(ValueError, match=message):
        jf.train(_config(tmp_path), tmp_path / "run", study=study)
    assert not (tmp_path / "run" / "config.json").exists()
