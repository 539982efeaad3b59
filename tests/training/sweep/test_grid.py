"""The text of `--sweep`: what it may say, what it is refused for, and which combinations it makes."""

from __future__ import annotations

import math
import random

import pytest

import run
from jaxformer.config.checks import as_text
from jaxformer.training.sweep import grid


def typed(name, text):
    """What `--config.NAME=TEXT` gives, by the code that the command line uses."""
    return run.parse(["run.py", f"--config.{name}={text}"])[1][name]


def choices(*texts):
    return [grid.read(text, typed) for text in texts]


def test_the_grid_has_every_combination_the_last_field_changing_fastest():
    found = grid.every(choices("optimizer.learning_rate=1e-3,3e-4", "training.seed=0,1"))
    assert found == [
        {"optimizer.learning_rate": 0.001, "training.seed": 0},
        {"optimizer.learning_rate": 0.001, "training.seed": 1},
        {"optimizer.learning_rate": 0.0003, "training.seed": 0},
        {"optimizer.learning_rate": 0.0003, "training.seed": 1},
    ]


def test_values_have_the_type_of_their_field():
    (found,) = grid.every(
        choices("optimizer.learning_rate=1", "data.reverse=true", "precision=bf16", "data.batch_tokens=auto")
    )
    assert found == {
        "optimizer.learning_rate": 1.0, "data.reverse": True, "precision": "bf16", "data.batch_tokens": 0,
    }  # fmt: skip
    assert [type(value) for value in found.values()] == [float, bool, str, int]


def test_whole_numbers_may_be_a_range():
    assert [fields["training.seed"] for fields in grid.every(choices("training.seed=0..3,7"))] == [0, 1, 2, 3, 7]


def test_fields_may_change_together():
    found = grid.every(choices("optimizer.name+optimizer.learning_rate=adam:1e-3,adam:3e-3,sgd:0.1", "training.seed=0"))
    assert [(fields["optimizer.name"], fields["optimizer.learning_rate"]) for fields in found] == [
        ("adam", 0.001), ("adam", 0.003), ("sgd", 0.1),
    ]  # fmt: skip


def test_a_range_may_stand_inside_fields_that_change_together():
    found = grid.every(choices("optimizer.name+training.seed=adam:0..1,sgd:5"))
    assert [tuple(fields.values()) for fields in found] == [("adam", 0), ("adam", 1), ("sgd", 5)]


def test_what_stands_in_quotes_stays_whole():
    (first,) = choices('data.train="a,b",c,"say ""x""",""')
    assert [fields["data.train"] for fields in first.every()] == ["a,b", "c", 'say "x"', ""]
    (second,) = choices('data.train+data.test="a:b":c,"d,e":f')
    assert [tuple(fields.values()) for fields in second.every()] == [("a:b", "c"), ("d,e", "f")]


def test_a_colon_or_two_dots_in_the_text_of_a_single_field_are_only_text():
    (found,) = choices("data.path=/a:b/..,../c")
    assert [fields["data.path"] for fields in found.every()] == ["/a:b/..", "../c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.learning_rat=1", "unknown config field 'optimizer.learning_rat'.*Did you mean 'optimizer.learning"),
        ("learning_rate=1", "Did you mean 'optimizer.learning_rate'"),
        ("experiment=wmt", "unknown config field 'experiment'"),
        ("mesh=auto", "config section 'mesh' is set field by field"),
        ("training.seed", "--sweep=training.seed gives no values: --sweep=FIELD=VALUE"),
        ("training.seed=", "--sweep=training.seed= gives no values"),
        ("", "gives no values"),
        ("training.seed=1,,2", "has an empty value"),
        ("training.seed=1,", "has an empty value"),
        ("training.seed=1,x", "--sweep=training.seed=1,x: --config.training.seed takes a whole number, got 'x'"),
        ("training.seed=1.5", "takes a whole number, got '1.5'"),
        ("training.seed=1..x", "takes a whole number, got 'x'"),
        ("training.seed=3..1", "'3..1' is no range: LOW..HIGH"),
        ("optimizer.learning_rate=1e-3..inf", "is no range"),
        ("optimizer.learning_rate=1e-3,0.001", "gives 0.001 twice"),
        ("training.seed=0..3,2", "gives 2 twice"),
        ("training.seed+training.seed=1:2", "names a field twice"),
        ("optimizer.name+training.seed=adam:1,sgd", "'sgd' gives 1 values for 2 fields"),
        ("optimizer.name+training.seed=adam:1:2", "'adam:1:2' gives 3 values for 2 fields"),
        ("optimizer.name+training.seed=adam:", "has an empty value"),
        ('data.train="a,b', "a double quote is opened and not closed"),
    ],
)
def test_what_makes_no_sense_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        grid.read(text, typed)


def test_a_range_of_floats_is_no_grid():
    with pytest.raises(ValueError, match=r"learning_rate=1e-4..1e-2 holds a range.*--sweep_random=N"):
        grid.every(choices("training.seed=0,1", "optimizer.learning_rate=1e-4..1e-2"))


def test_a_grid_that_nobody_means_is_refused():
    with pytest.raises(ValueError, match=r"the sweep has 1,000,000 trials: draw some of them with --sweep_random=N"):
        grid.every(choices("training.seed=0..999", "data.seed=0..999"))


def test_a_draw_has_different_trials_of_the_grid_and_depends_on_its_seed_alone():
    among = choices("optimizer.learning_rate=1e-3,3e-4,1e-4", "training.seed=0..4")
    drawn = grid.draw(among, 7, seed=1)
    assert len({tuple(fields.items()) for fields in drawn}) == 7
    assert all(fields in grid.every(among) for fields in drawn)
    assert grid.draw(among, 7, seed=1) == drawn
    assert grid.draw(among, 7, seed=2) != drawn
    assert grid.draw(among, 9, seed=1)[:7] == drawn  # more of them begin with the same
    everything = grid.draw(among, 15, seed=1)
    assert sorted(map(str, everything)) == sorted(map(str, grid.every(among)))


def test_a_draw_of_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="--sweep_random=3: there are 2 trials to draw"):
        grid.draw(choices("training.seed=0,1"), 3, seed=0)


def test_a_range_so_narrow_that_its_numbers_are_alike_is_noticed(monkeypatch):
    monkeypatch.setattr(grid, "_MOST_DRAWS", 100)
    with pytest.raises(ValueError, match="only 2 different trials were found"):
        grid.draw(choices("optimizer.learning_rate=0.001..0.001001"), 5, seed=0)


def test_positive_floats_are_drawn_evenly_in_their_logarithm_and_others_evenly():
    drawn = grid.draw(choices("optimizer.learning_rate=1e-4..1e-2"), 400, 0)
    rates = [fields["optimizer.learning_rate"] for fields in drawn]
    assert 1e-4 <= min(rates) < 1.2e-4
    assert 0.8e-2 < max(rates) <= 1e-2
    assert 0.4 < sum(rate < 1e-3 for rate in rates) / 400 < 0.6  # the middle of the logarithm; of the range, a tenth
    assert all(float(f"{rate:.4g}") == rate for rate in rates)
    rates = [fields["model.dropout"] for fields in grid.draw(choices("model.dropout=0..0.4"), 400, 0)]
    assert 0.4 < sum(rate < 0.2 for rate in rates) / 400 < 0.6
    assert math.isclose(sum(rates) / 400, 0.2, abs_tol=0.02)
    seeds = {fields["training.seed"] for fields in grid.draw(choices("training.seed=0..9"), 10, 0)}
    assert seeds == set(range(10))


@pytest.mark.parametrize("text", ["0.100041..0.100049", "-0.100049..-0.100041"])
def test_a_number_that_is_rounded_stays_in_its_range(text):
    low, high = map(float, text.split(".."))
    drawn = {grid.Range(low, high).draw(random.Random(seed)) for seed in range(20)}
    assert drawn <= {low, high}  # 0.1 is what it would be rounded to


def test_ranges_of_fields_that_change_together_are_drawn_from_the_one_that_belongs():
    drawn = grid.draw(choices("optimizer.name+optimizer.learning_rate=adam:1e-4..1e-2,sgd:0.1..1.0"), 50, seed=3)
    assert {fields["optimizer.name"] for fields in drawn} == {"adam", "sgd"}
    assert all((fields["optimizer.learning_rate"] >= 0.1) == (fields["optimizer.name"] == "sgd") for fields in drawn)


@pytest.mark.parametrize("value", [True, False, 3, 1e-05, 0.1, "a b"])
def test_a_value_is_written_as_the_command_line_reads_it(value):
    name = {bool: "data.reverse", int: "training.seed", float: "optimizer.learning_rate", str: "data.path"}[type(value)]
    assert typed(name, as_text(value)) == value
