"""What a configuration leaves to the planner is chosen once, said, kept in the workdir, and trained with."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import jax
import pytest

from jaxformer import training
from jaxformer.config import replace, to_dict
from jaxformer.training.planner.describe import describe_plan
from jaxformer.training.planner.resolve import adopt, left_open, plan_for, resolve
from jaxformer.training.workdir import Workdir
from tests.devices import run_on_eight_devices
from tests.training import reversal
from tests.training.planner.sizes import CONFIG, SLOTS, Sizes, model_of

HERE = {"plan.devices": "", "plan.measure": False}


def _stored(folder: Path, changes: dict) -> Workdir:
    """A workdir in which a run with `changes` has begun."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_dict(replace(CONFIG, changes))))
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    return Workdir(folder)


def test_what_is_left_open_is_known():
    assert not left_open(CONFIG)
    assert left_open(replace(CONFIG, {"mesh.auto": True}))
    assert left_open(replace(CONFIG, {"data.batch_tokens": 0}))
    assert resolve(CONFIG, Sizes()) == (CONFIG, "")


def test_a_run_that_began_goes_on_as_it_was_planned(tmp_path):
    planned = {**HERE, "memory.accumulate": 4, "memory.remat": "dots", "data.batch_tokens": 4 * SLOTS, "mesh.data": 1}
    workdir = _stored(tmp_path / "run", planned)
    asked = replace(CONFIG, {**HERE, "mesh.auto": True, "data.batch_tokens": 0})
    found = adopt(asked, workdir)
    assert not left_open(found)
    assert (found.memory.accumulate, found.memory.remat, found.data.batch_tokens) == (4, "dots", 4 * SLOTS)
    assert adopt(asked, Workdir(tmp_path / "new")) == asked


def test_on_other_devices_the_layout_is_planned_again_and_the_batch_stays(tmp_path):
    workdir = _stored(tmp_path / "run", {**HERE, "mesh.data": 4, "mesh.fsdp": 2})
    found = adopt(replace(CONFIG, {**HERE, "mesh.auto": True, "data.batch_tokens": 0}), workdir)
    assert found.mesh.auto
    assert found.data.batch_tokens == CONFIG.data.batch_tokens


def test_training_for_devices_that_are_not_here_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"plan.devices=8xH200 is for --mode=plan: training takes the devices"):
        adopt(replace(CONFIG, {"mesh.auto": True}), Workdir(tmp_path))


def test_a_step_that_compiles_to_more_than_the_formula_said_is_planned_again(monkeypatch, caplog):
    from jaxformer.training.memory import StepMemory
    from jaxformer.training.planner import resolve as module

    sizes, memory = [], 0.02
    asked = replace(CONFIG, {**HERE, "data.batch_tokens": 0, "plan.memory": memory})

    def twice(config, task, layout, shape):
        sizes.append(shape[0])
        formula = plan_for(replace(config, {"data.batch_tokens": shape[0] * shape[2]}), task).chosen.memory.total
        return StepMemory(2 * formula, 0)

    monkeypatch.setattr(module, "step_memory", twice)
    found, said = resolve(asked, Sizes())
    assert len(sizes) == 2
    assert 0.3 < sizes[1] / sizes[0] < 0.7
    assert found.data.batch_tokens == sizes[1] * SLOTS
    assert "planning again with less" in caplog.text
    assert f"{found.data.batch_tokens:,} slots a side" in said


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
    assert not left_open(kept)
    assert 16 <= kept.data.batch_tokens <= 400 * 6  # no more than the corpus has
    assert f"the plan: data=1, 1 micro-batch, {kept.data.batch_tokens:,} slots a side" in caplog.text
    assert training.train(config, workdir)["step"] == 3  # the same command again finds it finished


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


def test_a_layout_that_does_not_fit_is_said_and_better_ones_are_shown(tmp_path):
    config = replace(CONFIG, {"plan.memory": 1.2 / 1024})
    text = describe_plan(config, Workdir(tmp_path / "run"))
    assert "MORE than the 1 MiB there are" in text
    assert "no layout of 8 x H200 fits" in text or "need more than" in text


def test_the_plan_here_compares_its_formula_with_the_compiled_step(tmp_path):
    text = describe_plan(replace(CONFIG, HERE), Workdir(tmp_path / "run"))
    assert "(compiled, not guessed; the formula says" in text
    assert "In bf16" not in text, "a processor has no data sheet to compare by"


def test_more_devices_than_named_are_refused():
    with pytest.raises(ValueError, match=r"mesh.data=16 is more than the 8 devices there are"):
        plan_for(replace(CONFIG, {"mesh.data": 16}), model_of().task)
