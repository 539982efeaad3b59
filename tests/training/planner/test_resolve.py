"""What a configuration leaves to the planner is chosen once, said, kept in the workdir, and trained with."""

from __future__ import annotations

import dataclasses
import itertools
import logging

import jax
import pytest

from jaxformer import training
from jaxformer.config import replace
from jaxformer.training.memory import StepMemory, describe_size
from jaxformer.training.planner import describe, resolve as resolving
from jaxformer.training.planner.describe import describe_plan
from jaxformer.training.planner.hardware import hardware_for
from jaxformer.training.planner.resolve import adopt, plan_for, resolve
from jaxformer.training.workdir import Workdir
from tests.devices import run_on_eight_devices
from tests.training import reversal
from tests.training.planner.sizes import CONFIG, SLOTS, make_task

HERE = {"plan.devices": "", "plan.measure": False}


def test_what_is_left_open_is_known():
    assert not CONFIG.left_open
    assert replace(CONFIG, {"mesh.auto": True}).left_open
    assert replace(CONFIG, {"data.batch_tokens": 0}).left_open
    assert resolve(CONFIG, make_task) == (CONFIG, "")


def test_training_for_devices_that_are_not_here_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"plan.devices=8xH200 is for --mode=plan: training takes the devices"):
        adopt(replace(CONFIG, {"mesh.auto": True}), Workdir(tmp_path))


def _compiled(monkeypatch, factor: float, *, told: bool = True) -> list[tuple[int, int]]:
    """Steps that need `factor` times what the formula says when they are compiled; returns (rows, bytes) of each."""
    found = []

    def step_memory(config, task, layout, shape):
        rows = {"data.batch_tokens": shape[0] * shape[2]}
        formula = plan_for(replace(config, rows), make_task).chosen.memory
        found.append((shape[0], round(factor * formula.total)))
        return StepMemory(formula.state, found[-1][1] - formula.state if told else None)

    monkeypatch.setattr(resolving, "step_memory", step_memory)
    return found


FILLED = replace(CONFIG, {**HERE, "data.batch_tokens": 0, "plan.memory": 0.02})


def test_a_step_that_compiles_to_more_than_the_formula_said_is_planned_again(monkeypatch, caplog):
    compiled = _compiled(monkeypatch, 2.0)
    found, said = resolve(FILLED, make_task)
    assert len(compiled) == 2
    assert 0.3 < compiled[1][0] / compiled[0][0] < 0.7
    assert found.data.batch_tokens == compiled[1][0] * SLOTS
    assert "planning again with less" in caplog.text
    assert f"{found.data.batch_tokens:,} slots a side" in said
    assert compiled[1][1] <= 0.9 * 0.02 * 1024**3, "the reserve is kept when a step is compiled, too"
    assert f"{describe_size(compiled[1][1])} a device" in said


def test_every_plan_is_compiled_and_the_last_that_does_not_fit_is_refused_with_what_there_is(monkeypatch):
    needs = itertools.count(30 * 1024**2, 1024**2)  # never less than the 18 MiB of the plan
    compiled = []

    def step_memory(config, task, layout, shape):
        compiled.append(next(needs))
        return StepMemory(0, compiled[-1])

    monkeypatch.setattr(resolving, "step_memory", step_memory)
    with pytest.raises(ValueError, match=r"the last that was compiled, data=1, 1 micro-batch, needs") as refused:
        resolve(FILLED, make_task)
    assert 1 < len(compiled) <= resolving._ATTEMPTS
    text = str(refused.value)
    assert f"needs {describe_size(compiled[-1])} on each device when compiled, " in text
    assert "and a step may use 18 MiB (plan.memory, less 10% (plan.reserve))" in text, "what there is, not what is left"


def test_where_the_backend_does_not_tell_the_formula_stands_for_it(monkeypatch):
    compiled = _compiled(monkeypatch, 1.0, told=False)
    said = resolve(FILLED, make_task)[1]
    assert len(compiled) == 1
    assert f"{describe_size(compiled[0][1])} a device, {describe_size(compiled[0][1])} by formula" in said


def test_where_no_plan_fits_at_all_the_plan_s_own_reasons_are_said():
    with pytest.raises(ValueError, match=r"no layout of 1 x cpu fits: the nearest, .* a step may use 0 MiB"):
        resolve(replace(FILLED, {"plan.memory": 0.1 / 1024}), make_task)


def test_a_batch_that_fills_memory_is_trained_with_and_kept(tmp_path, caplog):
    config = reversal.config(
        reversal.write_corpus(tmp_path / "data", train=400, held_back=0), data__batch_tokens=0, mesh__auto=True,
        plan__measure=False, plan__memory=0.02, training__num_steps=3,
    )  # fmt: skip
    workdir = Workdir(tmp_path / "run")
    with caplog.at_level(logging.INFO):
        result = training.train(config, workdir)
    jax.config.update("jax_compilation_cache_dir", None)
    kept = workdir.load_config()
    assert result["step"] == 3
    assert not kept.left_open
    assert 16 <= kept.data.batch_tokens <= 400 * 6  # no more than the corpus has
    assert f"the plan: data=1, 1 micro-batch, {kept.data.batch_tokens:,} slots a side" in caplog.text
    assert training.train(config, workdir)["step"] == 3  # the same command again finds it finished


@pytest.mark.slow  # `test_record` trains on several devices with a plan as well
def test_eight_devices_train_with_the_layout_of_the_plan(tmp_path):
    reversal.write_corpus(tmp_path / "data", train=400, held_back=0)
    run_on_eight_devices(f"""
    import json
    from pathlib import Path
    from jaxformer import training
    from jaxformer.training.workdir import Workdir
    from tests.training import reversal

    folder = Path({str(tmp_path)!r})
    config = reversal.config(folder / "data", mesh__auto=True, mesh__data=1, training__num_steps=2)
    result = training.train(config, Workdir(folder / "run"))
    mesh = json.loads((folder / "run" / "config.json").read_text())["mesh"]
    assert not mesh.pop("auto")
    assert np.prod(list(mesh.values())) == 8, mesh
    assert result["step"] == 2
    """)


def test_the_plan_of_devices_that_are_not_here_needs_no_devices(tmp_path):
    text = describe_plan(replace(CONFIG, {"mesh.auto": True}), Workdir(tmp_path / "run"))
    assert "mesh         data=8 of 8 x H200, chosen by the plan" in text
    assert "by formula" in text
    assert "layouts of 8 x H200 were considered" in text
    assert "In bf16 the best layout" in text
    assert not (tmp_path / "run").exists()


def test_a_plan_praises_no_precision_that_a_device_has_no_units_for():
    config = replace(CONFIG, {"mesh.auto": True, "plan.devices": "2xV100"})
    found = plan_for(config, make_task)
    (text,) = describe._precisions(found, make_task)
    assert text.startswith("In fp16 the best layout")
    assert "bf16" not in text
    assert "16 TFLOP/s (no units for bf16), " in hardware_for(config.plan, "bf16").rates.source
    unknown = dataclasses.replace(found.plan, hardware=dataclasses.replace(found.plan.hardware, kind="Radeon 9"))
    assert describe._precisions(dataclasses.replace(found, plan=unknown), make_task) == []


def test_a_layout_that_does_not_fit_is_said_and_better_ones_are_shown(tmp_path):
    config = replace(CONFIG, {"plan.memory": 1.2 / 1024, "plan.devices": "9xH200"})
    text = describe_plan(config, Workdir(tmp_path / "run"))
    assert text.startswith("plan.devices=9xH200 do not divide into hosts of 8: 3 hosts of 3 are assumed.")
    assert "MORE than the 1 MiB there are" in text
    assert "no layout of 9 x H200 in 3 hosts of 3 fits" in text or "need more than" in text


def test_the_plan_here_compares_its_formula_with_the_compiled_step(tmp_path):
    text = describe_plan(replace(CONFIG, HERE), Workdir(tmp_path / "run"))
    assert "(compiled, not guessed; the formula says" in text
    assert "In bf16" not in text, "a processor has no data sheet to compare by"


@pytest.mark.parametrize(
    ("every", "minutes", "evaluated", "line"),
    [
        (500, 5.0, 100, "every 500 steps, after 5 minutes without one, after each best validation, and at the end; the "
                        "newest 3 and the best by validation/bleu stay"),
        (0, 10.0, 0, "after 10 minutes without one, and at the end; the newest 3 stay"),
        (0, 0.0, 0, "at the end alone; the newest 3 stay"),
    ],
)  # fmt: skip
def test_the_plan_says_when_checkpoints_are_made_and_which_stay(tmp_path, every, minutes, evaluated, line):
    fields = {"checkpoint_every": every, "checkpoint_minutes": minutes, "eval_every": evaluated, "keep_checkpoints": 3}
    text = describe_plan(replace(CONFIG, {"training": fields}), Workdir(tmp_path / "run"))
    assert f"checkpoints  {line}\n" in text


def test_more_devices_than_named_are_refused():
    with pytest.raises(ValueError, match=r"mesh.data=16 is more than the 8 devices there are"):
        plan_for(replace(CONFIG, {"mesh.data": 16}), make_task)
