"""Studies of prices and of series, opened as a run opens them: what they learn from knows nothing of what comes later.

That windows, statistics and predictions do not, one by one, is tested where they are made (`tests/data/series`).
"""

from __future__ import annotations

import numpy as np
import pytest

import experiments
from jaxformer.config import replace
from jaxformer.data.series.generator import generated_prices, generated_series
from jaxformer.data.series.multivariate import write_series
from jaxformer.data.series.prices import PRICE_COLUMNS
from jaxformer.training.study import open_study


def _write_prices(path, later, seed):
    """Generated prices, of which the share `later` at the end is multiplied by something random."""
    random = np.random.default_rng(seed)
    lines = [",".join([*PRICE_COLUMNS, "ticker"])]
    for ticker, history in generated_prices(num_tickers=4, num_days=500, seed=3).items():
        values, first = history.values.copy(), round((1 - later) * len(history.values))
        values[first:] *= np.exp(0.3 * random.normal(size=(len(values) - first, 1)))
        for date, row in zip(history.dates, values, strict=True):
            lines.append(",".join([str(date), *map(repr, map(float, row)), ticker]))
    path.write_text("\n".join(lines) + "\n")


def _write_series(path, later, seed):
    series = generated_series(num_rows=900, seed=3)
    first = round((1 - later) * len(series.values))
    series.values[first:] = seed * np.random.default_rng(seed).normal(size=series.values[first:].shape)
    write_series(path, series)


@pytest.mark.parametrize(
    ("variant", "write", "extra"),
    [
        ("kdd17", _write_prices, {"series.split": "0.6,0.2,0.2", "series.outliers": 0.01}),
        ("series", _write_series, {"series.split": "0.6,0.2,0.2", "series.outliers": 0.01}),
    ],
)
@pytest.mark.parametrize(("later", "same"), [(0.2, ("train", "validation")), (0.4, ("train",))])
def test_another_future_changes_no_fact_and_no_earlier_window(tmp_path, variant, write, extra, later, same):
    found = []
    for name, seed in (("one", 3), ("other", 40)):
        path = tmp_path / f"{name}.csv"
        write(path, later, seed)
        config = replace(experiments.find("stocks").config(variant), {"data.path": str(path), **extra})
        found.append(open_study(config).prepare())
    one, other = found
    assert one.facts.values == other.facts.values
    assert {"units", "features"} & set(one.facts.values)  # the statistics are among the facts

    def windows(prepared, split):
        return prepared.extra if split == "train" else prepared.splits[split].windows

    for split in (*same, "test"):
        mine, others = windows(one, split), windows(other, split)
        equal = len(mine) == len(others) and np.array_equal(_inputs(mine), _inputs(others))
        assert equal == (split in same), split


def _inputs(windows):
    return windows.batch(np.arange(len(windows))).inputs.values
