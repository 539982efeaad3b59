"""What came of trials, from files written here: which are ranked, by what, and how the tables show it."""

from __future__ import annotations

import json
import math

import pytest

from jaxformer.config import Config, to_dict
from jaxformer.training.sweep import table
from jaxformer.training.sweep.folder import SweepFolder, Trial
from jaxformer.training.sweep.outcomes import FINAL, ON_THE_WAY, collect
from jaxformer.training.workdir import flat

BLEU = "validation/bleu"


def collected(path, trials, metric=BLEU, **kwargs):
    """The results of trials that are (fields, curve, metrics of the final evaluation); unfinished where these are None.

    Fields are the learning rate and the seed; a text in the place of the metrics is the state in which a trial ended.
    """
    found = {}
    for number, ((rate, seed), curve, metrics) in enumerate(trials):
        name = f"t{number}"
        (path / name).mkdir(parents=True)
        records = [{"step": 10 * (i + 1), "time": 0.0, metric: value} for i, value in enumerate(curve)]
        (path / name / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        if isinstance(metrics, dict):
            (path / name / "result.json").write_text(json.dumps({"metrics": metrics, "step": 99}))
        found[name] = Trial(name, {"optimizer.learning_rate": rate, "training.seed": seed}, path / name)
        if isinstance(metrics, str):
            found[name].ended(metrics, "a | b\nc")
    return collect(SweepFolder(path, flat(to_dict(Config())), found), metric, **kwargs)


def names(results):
    return [outcome.trial.name for outcome in results.outcomes]


def test_the_final_evaluation_ranks_only_where_every_finished_trial_has_it(tmp_path):
    both = [((1.0, 0), [5.0], {BLEU: 1.0}), ((2.0, 0), [3.0], {BLEU: 2.0})]
    results = collected(tmp_path / "both", both)
    assert (results.basis, names(results)) == (FINAL, ["t1", "t0"])
    others = [((2.0, 0), [3.0], {"test/bleu": 2.0}), ((3.0, 0), [9.0], "failed")]
    results = collected(tmp_path / "one", [both[0], *others])
    assert (results.basis, names(results)) == (ON_THE_WAY, ["t0", "t1", "t2"])


def test_what_did_not_finish_or_is_no_number_has_no_rank(tmp_path):
    trials = [
        ((1.0, 0), [9.0], "failed"), ((2.0, 0), [8.0], {BLEU: "nan"}), ((3.0, 0), [1.0], {BLEU: 1.0}),
        ((4.0, 0), [7.0], None),
    ]  # fmt: skip
    results = collected(tmp_path, trials)
    assert [(place, outcome.trial.name) for place, outcome in table.ranked(results)] == [
        (1, "t2"), (0, "t0"), (0, "t1"), (0, "t3"),
    ]  # fmt: skip
    assert [row[0] for row in table.ranking(results)[1:]] == ["1", "-", "-", "-"]
    assert [outcome.steps for outcome in results.outcomes] == [99, 10, 99, 10]


def test_groups_are_ordered_by_their_means_and_say_how_many_of_them_count(tmp_path):
    trials = [
        ((1.0, 0), [], {BLEU: 10.0}), ((1.0, 1), [], {BLEU: 2.0}),
        ((2.0, 0), [], {BLEU: 8.0}), ((2.0, 1), [], {BLEU: 8.0}), ((2.0, 2), [], "failed"),
    ]  # fmt: skip
    results = collected(tmp_path, trials)
    assert names(results)[0] == "t0"  # though its group is not the best
    assert table.over_seeds(results)[1:] == [
        ["1", "2.0", "2 of 3", "8 ± 0"], ["2", "1.0", "2", "6.0 ± 4.0"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "-"), ([23.456], "23.46"), ([2.0, 2.0], "2 ± 0"), ([23.0, 23.7], "23.35 ± 0.35"),
        ([100.0, 140.0], "120 ± 20"), ([0.001, 0.0012], "0.00110 ± 0.00010"),
    ],
)  # fmt: skip
def test_a_mean_has_the_decimals_of_its_error(values, text):
    assert table.mean_text(values) == text


def test_a_reason_stays_in_its_cell_of_a_marked_table(tmp_path):
    results = collected(tmp_path, [((1.0, 0), [], {BLEU: 1.0}), ((2.0, 0), [], "failed")])
    assert table.markdown(results, "title").splitlines()[-3].endswith("| failed: a \\| b c |")


def test_columns_of_numbers_stand_to_the_right():
    lines = table.aligned([["rate", "state"], ["1e-05", "x"], ["0.25", "yy"]]).splitlines()
    assert lines == [" rate  state", "1e-05  x", " 0.25  yy"]


def test_long_reasons_are_cut_in_the_table_and_whole_in_the_file(tmp_path):
    results = collected(tmp_path, [((1.0, 0), [], {BLEU: 1.0}), ((2.0, 0), [], "failed")])
    failed = results.outcomes[1]
    object.__setattr__(failed, "reason", "x" * 200)
    shown = table.ranking(results)[2][-1]
    assert (len(shown), shown[-4:]) == (90, "x...")
    assert "x" * 200 in table.comma_separated(results)


def test_less_of_a_loss_is_better_on_the_way_too(tmp_path):
    results = collected(tmp_path, [((1.0, 0), [3.0, 1.0, 2.0], {}), ((2.0, 0), [1.5], {})], "validation/loss")
    assert [(outcome.trial.name, outcome.best, outcome.last) for outcome in results.outcomes] == [
        ("t0", 1.0, 2.0), ("t1", 1.5, 1.5),
    ]  # fmt: skip
    assert not math.isnan(results.score(results.outcomes[0]))
