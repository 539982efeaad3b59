"""Prices and series, end to end: they learn what is in generated data, look at no future, and predict from CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import experiments
from jaxformer import training
from jaxformer.config import replace
from jaxformer.data.series.generator import generated_prices, generated_series
from jaxformer.data.series.multivariate import write_series
from jaxformer.data.series.opening import open_panel
from jaxformer.data.series.prices import PRICE_COLUMNS
from jaxformer.data.series.splitting import split_rows
from jaxformer.training.studies import forecasting, price_movement
from jaxformer.training.study import open_study
from jaxformer.training.workdir import Workdir

QUIET = {"monitoring": {"progress": False, "tensorboard": False, "samples": 4}}


def _trained(folder, variant, changes):
    config = replace(replace(experiments.find("stocks").config(variant), QUIET), changes)
    config = replace(config, {"data.cache_dir": str(folder / "cache")})
    workdir = Workdir(folder / "run")
    return config, workdir, training.train(config, workdir)


@pytest.fixture(scope="module")
def prices(tmp_path_factory):
    """The recipe for generated prices with fewer of them, beside what their market did on two days."""
    changes = {
        "data.num_examples": 900, "training.num_steps": 250, "training.eval_every": 125, "series.market_days": 2
    }  # fmt: skip
    yield _trained(tmp_path_factory.mktemp("prices"), "bundled", changes)
    jax.config.update("jax_compilation_cache_dir", None)  # `train` has set it for the process


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """The recipe for a generated series with less of it."""
    changes = {"data.num_examples": 1500, "training.num_steps": 200, "training.eval_every": 100}
    yield _trained(tmp_path_factory.mktemp("series"), "bundled_series", changes)
    jax.config.update("jax_compilation_cache_dir", None)


def _table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_movements_that_tend_to_be_taken_back_are_learnt(prices):
    _, workdir, result = prices
    metrics, rivals = result["metrics"], result["baselines"]
    assert metrics["test/mcc"] > 0.1
    assert metrics["test/accuracy"] > rivals["always rise"]["test/accuracy"] + 0.03
    assert rivals["always rise"]["test/mcc"] == 0.0
    assert rivals["as the day before"]["test/mcc"] < 0  # it is the opposite of what there is to learn
    assert rivals["linear"]["test/mcc"] > 0.1
    errors = [rivals[name]["test/return_mse"] for name in ("linear", "always rise", "as the day before")]
    assert metrics["test/return_mse"] < errors[1]
    assert errors == sorted(errors)
    assert 0 < metrics["test/accuracy_error"] < 0.05
    for name in ("learning-curve", "calibration", "confusion", "hit_rate"):
        assert (workdir.report / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name


def test_the_table_says_how_many_movements_are_scored(prices):
    config, _, _ = prices
    study = open_study(config)
    split = study.prepare().splits["test"]
    movements = int((split.windows.movements() != 0).sum())
    assert 0 < movements < len(split)
    assert study.size(split) == f"{movements:,} movements, {len(split):,} windows"


def test_predictions_of_prices_are_a_table_that_can_be_scored(prices):
    _, workdir, result = prices
    rows = _table((workdir.predictions / "test.csv").read_text())
    scored = [row for row in rows if row["movement"]]
    right = np.mean([(float(row["probability_of_rise"]) > 0.5) == (row["movement"] == "rise") for row in scored])
    assert right == pytest.approx(result["metrics"]["test/accuracy"], abs=0.005)  # probabilities have four digits
    errors = [float(row["expected_return_percent"]) - float(row["return_percent"]) for row in rows]
    assert np.mean(np.square(errors)) == pytest.approx(result["metrics"]["test/return_mse"], rel=1e-3)


@pytest.mark.parametrize("name", ["prices", pytest.param("series", marks=pytest.mark.slow)])
def test_evaluate_finds_the_same_scores(name, request):
    config, workdir, result = request.getfixturevalue(name)
    scores = training.evaluate(config, workdir)
    assert scores == pytest.approx({name: x for name, x in result["metrics"].items() if not name.startswith("train/")})
    assert "test/mcc" in scores or "test/mse" in scores


def _price_lines(histories):
    yield ",".join([*PRICE_COLUMNS, "ticker"])
    for ticker, history in histories.items():
        for date, row in zip(history.dates, history.values, strict=True):
            yield ",".join([str(date), *map(repr, map(float, row)), ticker])


def _predicted(run, lines):
    config, workdir, _ = run
    output = io.StringIO()
    training.predict(config, workdir, iter(lines), output)
    return _table(output.getvalue())


def test_prices_are_predicted_day_by_day_and_the_future_changes_nothing(prices, caplog):
    histories = generated_prices(num_tickers=3, num_days=60, seed=9)
    last = histories["T00"].dates[50]
    rows = _predicted(prices, _price_lines(histories))
    assert set(rows[0]) == {"after", "ticker", "probability_of_rise", "expected_return_percent"}
    assert len(rows) == 3 * (60 - 29 - 5 - 1 - 4)  # features, a market of settled tickers, two days of it, a window
    assert "the mean return of the tickers in the input, here 3, in training 20" in caplog.text
    assert rows[-1]["after"] == str(histories["T00"].dates[-1])  # about the day after the last
    for history in histories.values():
        history.values[51:] *= np.random.default_rng(0).uniform(0.3, 3.0, (9, 1))
    others = _predicted(prices, _price_lines(histories))
    early = [row for row in rows if row["after"] <= str(last)]
    assert early == [row for row in others if row["after"] <= str(last)]
    assert 0 < len(early) < len(rows)
    assert rows[-3:] != others[-3:]


def test_seasons_are_learnt_and_the_bands_hold_what_they_say(series):
    _, workdir, result = series
    metrics, rivals = result["metrics"], result["baselines"]
    assert metrics["test/mse"] < rivals["repeat season"]["test/mse"] < rivals["repeat last"]["test/mse"]
    assert metrics["test/mae"] < rivals["repeat season"]["test/mae"]
    assert metrics["test/mse"] < 1.2 * rivals["least squares"]["test/mse"]
    assert 0.65 < metrics["test/coverage"] < 0.95
    assert (workdir.report / "forecast.png").read_bytes().startswith(b"\x89PNG")
    with np.load(workdir.predictions / "test.npz") as found:
        assert found["forecast"].shape == (len(found["window"]), 24)


def test_forecasts_far_from_training_are_written_as_they_were_scored(tmp_path):
    study = forecasting.ForecastingStudy(experiments.find("stocks").config("bundled_series"))
    far = np.array([[1.2345678, -1e6]], np.float32)
    predicted = {"forecast": far[..., None], "bands": far[..., None] + np.float32([-1, 0, 1])}
    split = SimpleNamespace(numbers=np.array([3]))
    with np.load(study.write_predictions("test", split, predicted, tmp_path)) as found:
        np.testing.assert_array_equal(found["forecast"], far)
        np.testing.assert_array_equal(found["bands"], predicted["bands"])


def test_the_steps_after_a_table_are_forecast_in_its_units(series, tmp_path):
    whole = generated_series(num_rows=1524)
    write_series(tmp_path / "all.csv", whole)
    lines = (tmp_path / "all.csv").read_text().splitlines()
    rows = _predicted(series, lines[:1501])  # names, and the 1500 rows that the run knows
    assert [row["date"] for row in rows] == [line.partition(",")[0] for line in lines[1501:]]
    assert list(rows[0])[:4] == ["date", "channel_0", "channel_0_low", "channel_0_high"]
    actual = whole.values[1500:]
    forecast = np.array([[float(row[name]) for name in whole.names] for row in rows])
    season = whole.values[1476:1500]
    assert np.abs(forecast - actual).mean() < 1.2 * np.abs(season - actual).mean()
    low, high = (
        np.array([[float(row[name + end]) for name in whole.names] for row in rows]) for end in ("_low", "_high")
    )
    assert 0.5 < ((low <= actual) & (actual <= high)).mean() < 1.0
    # Rows before the last look-back do not matter, nor does the order of columns.
    shorter = _predicted(series, [lines[0], *lines[1405:1501]])
    assert [row["channel_1"] for row in shorter] == [row["channel_1"] for row in rows]


@pytest.mark.parametrize(
    ("run", "change", "message"),
    [
        ("series", lambda lines: lines[:40], "the input has 39 steps, but a forecast needs the last 96"),
        ("series", lambda lines: [lines[0].replace("channel_2", "other"), *lines[1:]], "has no column 'channel_2'"),
        ("series", lambda lines: [*lines[:7], lines[7] + "x", *lines[8:]], "row 8, column 'channel_3': expected a num"),
        ("series", lambda lines: [], "is empty"),
        ("prices", lambda lines: lines, "the input has no column 'ticker'"),
        ("few prices", lambda lines: lines, "the input has 39 days, and none of its tickers enough without a gap"),
    ],
)
def test_bad_input_of_predict_is_refused(run, change, message, request, tmp_path):
    write_series(tmp_path / "all.csv", generated_series(num_rows=120))
    lines = (tmp_path / "all.csv").read_text().splitlines()
    if run == "few prices":
        run, lines = "prices", list(_price_lines(generated_prices(num_tickers=20, num_days=39)))
    elif run == "prices":
        lines = [",".join(PRICE_COLUMNS), "2016-01-04,1,1,1,1,1,1"]
    with pytest.raises(ValueError, match=re.escape(message)):
        _predicted(request.getfixturevalue(run), change(lines))


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("bundled", {"data.source": "tfds"}, "data.source=tfds is for text, and task.kind=price_movement"),
        ("bundled", {"data.source": "files"}, "needs a CSV file or a folder of them: set --config.data.path=FILE"),
        ("kdd17", {"data.num_examples": 9}, "data.num_examples=9 is how much is generated"),
        ("bundled", {"series.window": 6}, "every window has 6 positions: set --config.data.max_length=6"),
        ("series", {"series.patch_length": 200}, "patches of 200 steps, 8 apart, do not fit a past of 96"),
        ("series", {"data.max_length": 11}, "every window has 12 positions: set --config.data.max_length=12"),
        ("series", {"training.best_metric": "validation/mcc"}, "is not measured where task.kind=forecasting"),
    ],
)
def test_what_does_not_go_together_is_refused_before_data_is_read(variant, changes, message):
    config = replace(experiments.find("stocks").config(variant), changes)
    with pytest.raises(ValueError, match=re.escape(message)):
        open_study(config).check()


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("bundled", {"series.rise": 90.0, "series.fall": -90.0}, "the train period has no movement that is scored"),
        ("bundled", {"series.split": "2010-01-20,2010-02-01"}, "the train period has"),
        ("bundled", {"data.num_examples": 30}, "tickers has the 35 days that one window and its features need"),
        ("bundled_series", {"series.split": "10,20,3000"}, "series.split='10,20,3000' needs 3,030 rows"),
        ("bundled_series", {"series.horizon": 400}, "the validation period has"),
    ],
)
def test_data_that_cannot_be_used_is_refused_with_what_to_do(variant, changes, message):
    config = replace(experiments.find("stocks").config(variant), {"data.num_examples": 1500, **changes})
    with pytest.raises(ValueError, match=re.escape(message)):
        open_study(config).prepare()


@pytest.mark.parametrize(
    ("period", "kept", "message"),
    [
        ("test", (), "the test period has no movement that is scored"),
        ("train", (1,), r"has 0 falls and \d+ rises: both must occur"),
    ],
)
def test_periods_of_which_nothing_could_be_said_are_refused(period, kept, message, monkeypatch):
    config = replace(experiments.find("stocks").config("bundled"), {"data.num_examples": 300})
    panel, report = open_panel(config.data, config.series)
    movements, rows = panel.movements.copy(), slice(*split_rows(panel.dates, config.series.split)[period])
    movements[rows] *= np.isin(movements[rows], kept)
    changed = dataclasses.replace(panel, movements=movements)
    monkeypatch.setattr(price_movement, "open_panel", lambda *_: (changed, report))
    with pytest.raises(ValueError, match=message):
        open_study(config).prepare()


def test_files_of_prices_are_read_as_generated_ones_are(tmp_path):
    histories = generated_prices(num_tickers=20, num_days=200)
    (tmp_path / "prices.csv").write_text("\n".join(_price_lines(histories)))
    config = experiments.find("stocks").config("bundled")
    made = open_study(replace(config, {"data.num_examples": 200})).prepare()
    changes = {"data.source": "files", "data.path": str(tmp_path / "prices.csv")}
    read = open_study(replace(config, changes)).prepare()
    assert read.checksum == made.checksum
    assert read.facts.digest == made.facts.digest
    assert read.report == made.report


@pytest.mark.parametrize("variant", ["bundled", "bundled_series"])
def test_no_day_of_training_is_scored_when_another_file_is_evaluated(variant, tmp_path):
    """Of a file that begins later, the same shares would be other days."""
    kind = "prices" if variant == "bundled" else "series"
    (tmp_path / "all.csv").write_text("\n".join(_price_lines(generated_prices(num_tickers=4, num_days=400))))
    if kind == "series":
        write_series(tmp_path / "all.csv", generated_series(num_rows=2000))
    names, *lines = (tmp_path / "all.csv").read_text().splitlines()
    middle = sorted(line.partition(",")[0] for line in lines)[len(lines) // 2]
    (tmp_path / "later.csv").write_text("\n".join([names, *(line for line in lines if line >= middle)]))
    changes = {"data.source": "files", "data.num_examples": 0, "series.split": "0.6,0.15,0.2"}

    def study(name):
        config = replace(experiments.find("stocks").config(variant), changes)
        return open_study(replace(config, {"data.path": str(tmp_path / f"{name}.csv")}))

    prepared = study("all").prepare()
    assert len(prepared.facts.values["borders"]) == 3  # a twentieth of the rows is not used
    for name, split in study("later").evaluation_splits(prepared.facts).items():
        wanted = prepared.splits[name].records.windows.batch(np.arange(len(split)))
        found = split.records.windows.batch(np.arange(len(split)))
        np.testing.assert_array_equal(found.inputs.positions, wanted.inputs.positions)
        for label in found.labels:
            np.testing.assert_allclose(found.labels[label].values, wanted.labels[label].values, rtol=1e-6)
        assert len(split) == len(prepared.splits[name])
    early = "\n".join([names, *(line for line in lines if line < middle)])
    (tmp_path / "early.csv").write_text(early)
    with pytest.raises(ValueError, match=r"but the run was trained to be scored from \S+ on and before"):
        study("early").evaluation_splits(prepared.facts)


def test_least_squares_see_every_channel(monkeypatch):
    monkeypatch.setattr(forecasting, "_MOST_FITTED", 100)
    chosen = forecasting._fitted(700)  # every 7th of 700 would be the windows of a single one of 7 channels
    assert len(np.unique(chosen)) == 100
    assert set(chosen % 7) == set(range(7))
    assert forecasting._fitted(5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("variant", ["bundled", "bundled_series"])
def test_a_plan_needs_no_data(variant, tmp_path, capsys):
    training.plan(experiments.find("stocks").config(variant), tmp_path / "run")
    printed = capsys.readouterr().out
    assert "parameters, fp32" in printed
    assert "evaluation" in printed
