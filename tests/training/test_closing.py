"""The end of a run: commands that can be pasted, and a result whatever becomes of its picture."""

from __future__ import annotations

import logging
import shlex
from types import SimpleNamespace
from typing import Any

import pytest

from jaxformer.config import Config, replace
from jaxformer.monitoring import report
from jaxformer.training import closing
from jaxformer.training.scored import Scored
from jaxformer.training.study import open_study
from jaxformer.training.workdir import Workdir


def test_what_to_type_next_can_be_pasted_whatever_the_workdir_is_called(tmp_path):
    workdir = Workdir(tmp_path / "my run; it's $HOME")
    text = closing._where(open_study(replace(Config(), {"monitoring.tensorboard": True})), workdir)
    commands = [line.strip() for line in text.partition("what next:")[2].splitlines() if line.strip()]
    assert len(commands) >= 3
    for command in commands:
        words = shlex.split(command, comments=True)
        folder = str(workdir.tensorboard) if words[0] == "tensorboard" else f"--workdir={workdir.path}"
        assert folder in words


@pytest.mark.parametrize("error", [ValueError("no font"), ImportError("no matplotlib")])
def test_a_picture_that_cannot_be_drawn_costs_no_result(error, tmp_path, monkeypatch, caplog):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(report, "learning_curves", fail)
    progress = SimpleNamespace(step=7, stopped="", tokens=70, seconds=1.0)
    outcome = SimpleNamespace(progress=progress, speed={}, breakdown={}, efficiency=1.0)
    with caplog.at_level(logging.WARNING):
        closing.record_result(
            open_study(Config()), Workdir(tmp_path), outcome, Scored({"test/bleu": 50.0}, "", "", {}), "the last", 2.0
        )
    assert Workdir(tmp_path).result()["metrics"]["test/bleu"] == 50.0
    (message,) = caplog.messages
    assert message == f"{tmp_path}/report/learning-curve.png is missing, the scores are not: {error}"
