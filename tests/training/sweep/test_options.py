"""The flags of a sweep together: what contradicts itself is refused, and shares of a Slurm array are right."""

from __future__ import annotations

import shlex

import pytest

import run
from jaxformer.training.sweep.options import SWEEP_FLAGS, read_sweep
from tests.test_docs import DOCUMENTS, RECIPES, _commands


def read(*arguments, environment=None):
    values, overrides = run.parse(["run.py", *arguments])
    return read_sweep(
        values.flag_values_dict(), overrides, lambda flag: run.parse(["run.py", flag])[1], environment or {}
    )


def test_without_sweep_there_is_none():
    assert read("--experiment=scan", "--config.training.seed=1") is None


def test_everything_said_is_there():
    found = read(
        "--workdir=W", "--sweep=training.seed=0..9", "--sweep=model.dropout=0..0.3", "--sweep_random=4",
        "--sweep_seed=5", "--sweep_parallel=2", "--sweep_metric=validation/chrf", "--sweep_index=1/2",
        "--config.model.d_model=64", "--mode=plan",
    )  # fmt: skip
    assert (found.draws, found.seed, found.parallel, found.metric) == (4, 5, 2, "validation/chrf")
    assert (found.mode, found.workdir, dict(found.overrides)) == ("plan", "W", {"model.d_model": 64})
    assert (found.index, found.count) == (1, 2)
    assert len(found.trials()) == 4
    assert list(found.trials()[0]) == ["training.seed", "model.dropout"]


SEEDS = "--sweep=training.seed=0,1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep_random=3"], "--sweep_random=3 belongs to a sweep: say what is swept"),
        (["--sweep_metric=validation/bleu"], "belongs to a sweep"),
        ([SEEDS, "--sweep_parallel=2", "--sweep_parallel=3"], "--sweep_parallel is given twice: 2 and 3"),
        ([SEEDS, "--sweep_parallel=0"], "--sweep_parallel takes a whole number of at least 1, got '0'"),
        ([SEEDS, "--sweep_random=few"], "--sweep_random takes a whole number of at least 1, got 'few'"),
        ([SEEDS, "--sweep_random=1", "--sweep_seed=-1"], "--sweep_seed takes a whole number of at least 0, got '-1'"),
        ([SEEDS, "--sweep_seed=1"], "--sweep_seed=1 seeds a draw: say of how many"),
        ([SEEDS, "--sweep_metric=test/bleu"], "ranked by the validation split alone"),
        ([SEEDS, "--sweep_index=x"], "--sweep_index=x is neither a number from 0 on nor INDEX/COUNT"),
        ([SEEDS, "--sweep_index=4/4"], "--sweep_index=4/4 is neither"),
        ([SEEDS, "--mode=evaluate", "--workdir=W"], "--sweep goes with --mode=train or plan, not evaluate"),
        ([SEEDS, "--join=0/2@host:1234"], "--join belongs to one run of several processes"),
        ([SEEDS, "--sweep=training.seed=3"], "training.seed is swept twice, by --sweep=training.seed=0,1 and"),
        ([SEEDS, "--config.training.seed=3"], "training.seed is set by --config.training.seed=3 and swept by"),
        ([SEEDS, "--sweep=optimizer.name+training.seed=adam:1"], "training.seed is swept twice"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        read(*arguments)


def slurm(task, first, last, step=1, count=None):
    count = (last - first) // step + 1 if count is None else count
    names = {"ID": task, "COUNT": count, "MIN": first, "MAX": last, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}


@pytest.mark.parametrize(
    ("first", "last", "step"), [(0, 9, 1), (1, 10, 1), (0, 3, 1), (1, 3, 1), (2, 10, 4), (0, 14, 1)]
)
def test_the_tasks_of_a_slurm_array_share_all_trials_and_no_trial_twice(first, last, step):
    done = []
    for task in range(first, last + 1, step):
        found = read("--sweep=training.seed=0..9", environment=slurm(task, first, last, step))
        share = [fields["training.seed"] for fields in found.share(found.trials())]
        assert len(share) <= -(-10 // ((last - first) // step + 1))
        done += share
    assert sorted(done) == list(range(10))


def test_a_slurm_array_that_is_no_regular_list_is_refused():
    with pytest.raises(ValueError, match="3 tasks between 3 and 9, which is no regular list: submit the whole array"):
        read(SEEDS, environment=slurm(3, 3, 9, count=3))


@pytest.mark.parametrize("name", ["ID", "COUNT", "MIN", "MAX", "STEP"])
@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "is not set"), ("", "is '', which is no number"), ("two", "is 'two', which is no number")],
)
def test_a_slurm_array_of_which_something_is_missing_is_refused(name, value, said):
    environment, variable = slurm(1, 0, 1), f"SLURM_ARRAY_TASK_{name}"
    if value is None:
        del environment[variable]
    else:
        environment[variable] = value
    if (name, value) == ("ID", None):
        assert read(SEEDS, environment=environment).count == 1  # no array
        return
    with pytest.raises(ValueError, match=f"^{variable} {said}, but a task of .*: choose trials with --sweep_index"):
        read(SEEDS, environment=environment)
    assert read(SEEDS, "--sweep_index=1", environment=environment).index == 1


def test_a_slurm_array_without_steps_is_refused():
    with pytest.raises(ValueError, match="no regular list"):
        read(SEEDS, environment=slurm(1, 0, 1) | {"SLURM_ARRAY_TASK_STEP": "0"})


def test_an_index_by_hand_comes_before_slurm_s():
    found = read("--sweep=training.seed=0..9", "--sweep_index=7", environment=slurm(1, 0, 9))
    assert [fields["training.seed"] for fields in found.share(found.trials())] == [7]
    found = read("--sweep=training.seed=0..9", "--sweep_index=1/4", environment=slurm(0, 0, 9))
    assert [fields["training.seed"] for fields in found.share(found.trials())] == [1, 5, 9]


def test_an_index_beyond_the_last_trial_is_refused():
    found = read(SEEDS, "--sweep_index=2")
    with pytest.raises(ValueError, match="--sweep_index=2: the sweep has 2 trials, numbered 0 to 1"):
        found.share(found.trials())


def test_help_describes_the_flags(capsys):
    assert run.main(["run.py", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"--{name} " in shown for name in SWEEP_FLAGS)


def test_the_sweeps_of_the_documents_are_taken():
    found = [arguments for path in DOCUMENTS + RECIPES for arguments in _commands(path)]
    sweeps = [arguments for arguments in found if any(one.startswith("--sweep=") for one in arguments)]
    assert sweeps
    for arguments in sweeps:
        sweep = read(*arguments)
        assert sweep is not None, shlex.join(arguments)
        assert sweep.share(sweep.trials())
