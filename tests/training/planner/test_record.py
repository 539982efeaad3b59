"""What a plan settled for a run is taken up again; what no plan made is not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from jaxformer.config import Config, replace
from jaxformer.training.planner import record
from jaxformer.training.planner.describe import describe_plan
from jaxformer.training.planner.record import Record, adopted, keep, shapes_before
from jaxformer.training.planner.resolve import adopt
from jaxformer.training.workdir import Workdir
from tests.devices import run_on_eight_devices
from tests.training import reversal
from tests.training.planner.sizes import CONFIG, SLOTS

ASKED = replace(CONFIG, {
    "plan": {"devices": "", "measure": False, "memory": 0.02}, "mesh.auto": True, "data.batch_tokens": 0,
})  # fmt: skip
PLANNED = replace(ASKED, {
    "mesh": {"auto": False, "data": 1}, "memory": {"accumulate": 4, "remat": "dots"}, "data.batch_tokens": 4 * SLOTS,
})  # fmt: skip


def _workdir(folder: Path, asked: Config = ASKED, planned: Config = PLANNED, *, began: bool = True) -> Workdir:
    """One in which a run was planned, and perhaps began."""
    folder.mkdir()
    workdir = Workdir(folder)
    keep(asked, planned, workdir)
    if began:
        workdir.metrics.write_text('{"step": 1}\n')
    return workdir


@pytest.mark.parametrize("began", [True, False], ids=["began", "killed before its first record"])
def test_the_same_command_finds_the_same_plan(tmp_path, caplog, began):
    workdir = _workdir(tmp_path / "run", began=began)
    with caplog.at_level(logging.INFO):
        assert adopt(ASKED, workdir) == PLANNED
    assert "the layout of the run before: data=1, 4 micro-batches, remat dots, on 1 x cpu" in caplog.text
    assert f"the batch of the run before: {4 * SLOTS} slots{' (' if began else ';'}" in caplog.text
    assert ("if its memory ran out, raise --config.plan.reserve" in caplog.text) is not began
    assert adopt(ASKED, Workdir(tmp_path / "new")) == ASKED


def test_a_claim_leaves_what_was_planned_where_it_is(tmp_path):
    for began in (True, False):
        workdir = _workdir(tmp_path / f"{began}", began=began)
        found = adopt(ASKED, workdir)
        with workdir.claim(found):
            assert workdir.load_config() == PLANNED
            assert Record.read(workdir) is not None
    open_again = replace(PLANNED, {"mesh.auto": True})  # on other devices, where the layout is not taken up
    with Workdir(tmp_path / "True").claim(open_again) as workdir:
        assert workdir.load_config() == PLANNED, "a run that began keeps a complete config.json"


def test_a_plan_whose_run_failed_before_its_first_record_goes_with_it(tmp_path):
    workdir = Workdir(tmp_path / "run")

    def fail() -> None:
        keep(ASKED, PLANNED, workdir)
        assert workdir.plan.exists()
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError), workdir.claim(ASKED):
        fail()
    assert not workdir.plan.exists()


def test_what_no_plan_made_is_not_taken_up(tmp_path):
    given = replace(PLANNED, {"mesh.data": 1})
    workdir = Workdir(tmp_path / "given")
    workdir.path.mkdir()
    workdir.keep_config(given)
    workdir.metrics.write_text('{"step": 1}\n')
    assert adopted(ASKED, workdir) == (ASKED, "")
    with pytest.raises(ValueError, match=f"data.batch_tokens: {4 * SLOTS} -> 0"), workdir.claim(ASKED):
        pass
    # The batch alone, or the layout alone, was left to the plan.
    workdir = _workdir(tmp_path / "batch", replace(ASKED, {"mesh.auto": False}))
    found, said = adopted(ASKED, workdir)
    assert (found.data.batch_tokens, found.mesh.auto) == (4 * SLOTS, True)
    assert "layout" not in said
    workdir = _workdir(tmp_path / "layout", replace(ASKED, {"data.batch_tokens": 4 * SLOTS}))
    found, said = adopted(ASKED, workdir)
    assert (found.data.batch_tokens, found.mesh.auto) == (0, False)
    assert "the batch of" not in said


def test_on_other_devices_the_layout_is_planned_again_and_the_batch_stays(tmp_path, monkeypatch):
    workdir = _workdir(tmp_path / "run")
    for devices, kind in ((8, "cpu"), (1, "H200")):
        with monkeypatch.context() as other:
            other.setattr(record.jax, "device_count", lambda devices=devices: devices)
            other.setattr(record, "_kind", lambda kind=kind: kind)
            found, _ = adopted(ASKED, workdir)
            assert (found.mesh.auto, found.data.batch_tokens) == (True, 4 * SLOTS)
            # What is planned there keeps the batch for the next time, also where it is then given as a number.
            given = replace(ASKED, {"data.batch_tokens": 4 * SLOTS})
            keep(given, PLANNED, workdir)
            assert adopted(ASKED, workdir)[0] == PLANNED
    fresh = _workdir(tmp_path / "fresh", began=False)
    monkeypatch.setattr(record, "_kind", lambda: "H200")
    assert adopted(ASKED, fresh) == (ASKED, ""), "nothing was trained with that batch"


@pytest.mark.parametrize(
    ("changes", "began", "layout", "batch"),
    [
        ({"plan.reserve": 0.3}, True, False, True),  # because it ran out of memory, say
        ({"memory.remat": "full"}, True, False, True),
        ({"plan.reserve": 0.3}, False, False, False),
        ({"optimizer.learning_rate": 0.5}, False, False, False),
        ({"mesh.auto": False}, False, False, False),
        ({"monitoring.progress": False}, False, True, True),
        ({"mesh.data": 1}, True, True, True),  # which `auto` does not read
    ],
)
def test_a_plan_stands_for_what_it_was_asked(tmp_path, changes, began, layout, batch):
    workdir = _workdir(tmp_path / "run", began=began)
    asked = replace(ASKED, changes)
    found, _ = adopted(asked, workdir)
    assert (not found.mesh.auto) == (layout or not asked.mesh.auto)
    assert (found.data.batch_tokens > 0) == batch


def test_a_damaged_record_is_said_and_planned_again(tmp_path, caplog):
    workdir = _workdir(tmp_path / "run")
    of_another_version = '{"devices": 1, "kind": "cpu", "layout": {}, "batch_tokens": 1, "asked": {"x": 1}}'
    for text in ('{"devices": 1', "[]", of_another_version):
        workdir.plan.write_text(text)
        assert adopted(ASKED, workdir) == (ASKED, "")
        assert "plan.json cannot be used" in caplog.text
        caplog.clear()


def test_batches_of_a_run_are_those_of_its_newest_checkpoint():
    class Stored:
        def __init__(self, run):
            self.newest_run = lambda: run

    assert shapes_before(Stored(None)) == []
    assert shapes_before(Stored({"step": 1, "batches": {"shapes": [[24, 12, 12], [60, 4, 6]]}})) == [
        (24, 12, 12), (60, 4, 6)
    ]  # fmt: skip


def test_the_plan_of_a_run_that_began_shows_what_training_would_do(tmp_path):
    workdir = _workdir(tmp_path / "run")
    text = describe_plan(ASKED, workdir)
    assert text.startswith("the layout of the run before: data=1, 4 micro-batches, remat dots, on 1 x cpu; the batch")
    assert "data=1 of 1 x cpu, as the run began" in text
    assert f"{4 * SLOTS} slots a side" in text
    assert "in 4 micro-batch(es), remat dots" in text
    other = describe_plan(replace(ASKED, {"optimizer.learning_rate": 0.5}), workdir)
    assert other.startswith("--mode=train would refuse this workdir; below is the plan of a new run:\n")
    assert "optimizer.learning_rate" in other.splitlines()[2]
    assert "run          new, in another workdir" in other
    assert "chosen by the plan" in other


@pytest.mark.slow
def test_a_run_continues_on_other_devices_with_a_layout_that_divides_its_batches(tmp_path):
    reversal.write_corpus(tmp_path / "data", train=400, held_back=0)
    settings = {
        "mesh__auto": True, "plan__measure": False, "training__num_steps": 4, "training__checkpoint_every": 2,
        "data__batch_tokens": 12 * 6, "data__max_length": 6, "model__max_length": 6,
    }  # fmt: skip
    script = f"""
    import json, logging, sys
    from pathlib import Path
    from jaxformer import training
    from jaxformer.training.workdir import Workdir
    from tests.training import reversal

    folder = Path({str(tmp_path)!r})
    config = reversal.config(folder / "data", **{settings!r})
    workdir = Workdir(folder / "run")
    """
    # Six devices make batches of 12 rows, which eight cannot share; but four can, and two halves of each layer.
    run_on_eight_devices('    jax.config.update("jax_num_cpu_devices", 6)\n' + script + """
    assert training.train(config, workdir)["step"] == 4
    assert json.loads(workdir.plan.read_text())["devices"] == 6
    """)
    (tmp_path / "run" / "result.json").unlink()
    run_on_eight_devices(script + """
    from jaxformer.training.planner.describe import describe_plan

    shown = describe_plan(config, workdir)
    assert "continues after step 4" in shown
    assert "do not divide into 8 (mesh.data x mesh.fsdp x memory.accumulate)" in shown, shown
    assert training.train(config, workdir)["step"] == 4
    mesh = json.loads(workdir.config.read_text())["mesh"]
    assert not mesh.pop("auto")
    assert np.prod(list(mesh.values())) == 8 and 12 % (mesh["data"] * mesh["fsdp"]) == 0, mesh
    kept = json.loads(workdir.plan.read_text())
    assert (kept["devices"], kept["layout"]["mesh.data"]) == (8, mesh["data"])
    """)
