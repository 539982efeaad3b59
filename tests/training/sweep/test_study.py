"""The comparison of optimizers: two sweeps, of which the second takes what was best in the first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import optimizers
from tests.training.sweep.test_sweep import CHILD, in_an_empty_folder, rows, sweep

__all__ = ["in_an_empty_folder"]


def test_the_ladder_has_a_factor_of_three_between_its_rates():
    assert [optimizers.ladder(position) for position in range(-5, 3)] == [3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10]
    adam = optimizers.OPTIMIZERS["adam"]
    assert [optimizers.ladder(position) for position in optimizers.positions(adam, 3)] == [1e-3, 3e-3, 1e-2]
    assert optimizers.positions(adam, 5)[2] == optimizers.positions(adam, 2)[1] == adam.centre


def test_the_next_rate_lies_beyond_the_end_that_is_best():
    assert [optimizers.beyond([0.1, 0.3, 1.0], rate) for rate in (0.1, 0.3, 1.0, None)] == [0.03, None, 3.0, None]


def test_each_optimizer_gets_its_best_of_as_many_rates_and_other_seeds_are_compared(capsys):
    commands = []

    def carry_out(flags):
        commands.append(flags)
        sweep(*(flag for flag in flags if not flag.startswith(("--experiment", "--workdir"))), program=CHILD)

    arguments = ["--workdir=S", "--rates=3", "--further=1", "--seeds=2", "--json=figures.json"]
    arguments += ["--config.training.num_steps=20"]
    optimizers.main(arguments, carry_out)
    shown = capsys.readouterr().out
    # The trials of `child.py` are best at 1e-3, whatever the optimizer, and better by 1 with every seed.
    found = {row["optimizer.name"]: [] for row in rows()}
    for row in rows():
        found[row["optimizer.name"]].append((float(row["optimizer.learning_rate"]), int(row["training.seed"])))
    assert sorted(found["adam"]) == [(3e-4, 0), (1e-3, 0), (1e-3, 1), (1e-3, 2), (3e-3, 0), (1e-2, 0)]
    assert sorted(found["sgd"]) == [(3e-2, 0), (3e-2, 1), (3e-2, 2), (0.1, 0), (0.3, 0), (1.0, 0)]
    assert sorted(found["rmsprop"]) == [(3e-4, 0), (1e-3, 0), (1e-3, 1), (1e-3, 2), (3e-3, 0)]
    assert len(commands) == 3
    assert "--config.training.num_steps=20" in commands[2]
    assert not any(flag.startswith("--sweep_metric") for flag in commands[0])
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert lines["sgd"].split()[1:6] == ["0.03", "(end", "of", "its", "list)"]
    assert lines["adam"].split()[1:4] == ["0.001", "4", "2"]
    # Final scores 50 and 51 with seeds 1 and 2: mean 50.5, standard error 0.5; seed 0 had its part in the choice.
    assert lines["rmsprop"].split()[1:7] == ["0.001", "3", "2", "50.50", "±", "0.50"]
    figures = {one["name"]: one for one in json.loads(Path("figures.json").read_text())["rows"]}
    assert figures["rmsprop"]["unit"] == "validation/bleu"  # which is the experiment's own
    assert figures["rmsprop"]["value"] == pytest.approx(50.5)
    assert not figures["rmsprop"]["at_end"]
    assert figures["sgd"]["rate"] == 0.03
    assert figures["sgd"]["at_end"]
    assert Path("S/optimizers.png").read_bytes().startswith(b"\x89PNG")
    assert "rmsprop" in Path("S/optimizers.txt").read_text()


@pytest.mark.parametrize(("metric", "first"), [("validation/mse", "lion"), ("validation/mcc", "adam")])
def test_the_best_mean_comes_first_whether_less_or_more_is_better(metric, first):
    rows = [
        {optimizers.NAME: name, optimizers.RATE: "0.001", "training.seed": "1", "rank": "1", "state": "finished",
         f"final/{metric}": score, f"best/{metric}": score, "test/x": "nan"}
        for name, score in (("adam", "0.3"), ("lion", "0.2"))
    ]  # fmt: skip
    assert optimizers.ranked_by(rows) == metric
    chosen = {"adam": 1e-3, "lion": 1e-3}
    table, figures = optimizers.summary(rows, chosen, {name: [1e-3] for name in optimizers.OPTIMIZERS}, metric)
    assert figures[0]["name"] == table[1][0] == first
    assert table[1][5] == "-"


def test_an_unknown_argument_is_refused(capsys):
    with pytest.raises(SystemExit):
        optimizers.main(["--rate=3"], lambda _: None)
    with pytest.raises(SystemExit):
        optimizers.main(["--confg.training.num_steps=3"], lambda _: None)
    assert "unknown argument --confg.training.num_steps=3" in capsys.readouterr().err
