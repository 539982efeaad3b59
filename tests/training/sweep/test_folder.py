"""The folder of a sweep by itself: how trials stand by what is in their folders, and records that others write too."""

from __future__ import annotations

import json

from jaxformer.config import Config, to_dict
from jaxformer.training.sweep import entry
from jaxformer.training.sweep.folder import SweepFolder, Trial, held_experiment
from jaxformer.training.workdir import flat

BASE = flat(to_dict(Config()))


def trial(path, name="t", **fields):
    (path / name).mkdir(parents=True, exist_ok=True)
    return Trial(name, {f"training.{field}": value for field, value in fields.items()}, path / name)


def test_a_trial_stands_as_its_folder_says(tmp_path):
    one = trial(tmp_path)
    assert one.state() == ("waiting", "")
    (one.path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert one.state() == ("stopped", "its process was killed")
    one.ended("failed", "the disk is full")
    assert one.state() == ("failed", "the disk is full")
    assert one.state(ours=True) == ("running", "")
    one.begins()
    assert one.state() == ("stopped", "its process was killed")  # what the last process said is forgotten
    one.ended("failed", "the disk is full")
    (one.path / "result.json").write_text(json.dumps({"metrics": {}}))
    assert one.state(ours=True) == ("finished", "")


def test_trials_that_others_add_meanwhile_are_kept(tmp_path):
    ours, theirs = SweepFolder.open(tmp_path, BASE), SweepFolder.open(tmp_path, BASE)
    ours.add([{"training.seed": 1}])
    theirs.add([{"training.seed": 2}])
    theirs.keep()
    ours.keep()
    assert set(ours.trials) == set(SweepFolder.open(tmp_path, BASE).trials) == {"seed=1", "seed=2"}
    assert ours.trials["seed=2"].fields == {"training.seed": 2}


def test_a_sweep_from_before_a_field_was_there_goes_on(tmp_path):
    SweepFolder.open(tmp_path, BASE).keep()
    record = json.loads((tmp_path / "sweep.json").read_text())
    del record["base"]["model.neighbourhood"]
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    assert SweepFolder.open(tmp_path, BASE).trials == {}
    assert held_experiment(tmp_path) == BASE["experiment"]
    assert held_experiment(tmp_path / "nothing") == ""


def test_a_plan_counts_what_this_process_has_left(tmp_path):
    trials = [trial(tmp_path, f"t{seed}", seed=seed) for seed in range(4)]
    trials[1].ended("diverged", "")
    shown = entry._plan("wmt:base", "asked for", trials, trials[:3], 2)
    assert shown.startswith("sweep of wmt:base (asked for): 4 trials, 2 to run, 2 at a time\n")
    assert [line.split()[:3] for line in shown.splitlines()[-4:]] == [
        ["0", "0", "waiting"], ["1", "1", "diverged"], ["2", "2", "waiting"], ["3", "3", "waiting"],
    ]  # fmt: skip
    assert ["(not this process's)" in line for line in shown.splitlines()[-4:]] == [False, False, False, True]
