"""Whether a price rises or falls on the next day, and its return: windows of features, a pooled encoder, two heads.

Beside the network stand what anyone can do (always rise, as the day before) and a linear classifier. Not for reading
and cleaning (`data.series`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.config import SeriesConfig
from jaxformer.data.series.datasets import PriceStatistics, price_windows, slices
from jaxformer.data.series.features import NAMES
from jaxformer.data.series.opening import check_source, least_days, open_panel, panel_of_table, required_columns
from jaxformer.data.series.panel import Panel
from jaxformer.data.series.splitting import Periods, borders_of, split_rows
from jaxformer.data.series.standardize import Standardizer
from jaxformer.data.series.windows import MOVEMENT, RETURN, PriceWindows
from jaxformer.evaluation import classification, forecasting
from jaxformer.evaluation.movement import daily_error, hit_rates
from jaxformer.monitoring import pictures, series_pictures
from jaxformer.monitoring.durable import atomic_write
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.classification import ClassificationTask
from jaxformer.tasks.objectives import Classes, Numbers
from jaxformer.training.studies.labelled import LabelledStudy, Predicted
from jaxformer.training.studies.price_baselines import price_baselines
from jaxformer.training.studies.records import LabelledData, LabelledFacts, LabelPredictor, Split
from jaxformer.training.studies.windows import WindowSplit, check_length, csv_number, evaluation_periods, table_of
from jaxformer.training.study import Curves

_LOGGER = logging.getLogger(__name__)
CLASSES = ("fall", "rise")
_CHUNK = 8192


def _statistics(facts: LabelledFacts) -> PriceStatistics:
    return PriceStatistics(*(Standardizer.from_dict(facts.values[name]) for name in ("features", "returns")))


class PriceMovementStudy(LabelledStudy):
    """See `LabelledStudy`. Its splits are `WindowSplit`s of `PriceWindows`."""

    noun = "windows"
    of_positions = False
    metrics = (
        "loss", "movement/loss", "movement/nll", "movement/accuracy", "return/loss", "return/mse", "return/mae",
        "accuracy", "macro_f1", "mcc", "calibration_error", "brier", "return_mse", "return_mae",
    )  # fmt: skip
    curves = Curves(
        "loss per window", {"validation/mcc": "validation MCC", "validation/accuracy": "validation accuracy"}, 100.0
    )

    def check(self) -> None:
        """Refuses sources of text, and lengths that do not fit."""
        super().check()
        check_source(self.config.data, self.config.task.kind)
        check_length(self.config.data.max_length, self.config.series.window)

    def _windows(self, panel: Panel, statistics: PriceStatistics, periods: Periods) -> dict[str, PriceWindows]:
        found = price_windows(panel, statistics, periods, window=self.config.series.window)
        for name, windows in found.items():
            if not windows.movements().any():
                raise ValueError(
                    f"the {name} period has no movement that is scored: move --config.series.split, or bring "
                    "--config.series.rise and .fall nearer to 0"
                )
        return found

    def prepare(self, *, download: bool = False) -> LabelledData:
        """The windows of every split, with statistics of the training period."""
        series = self.config.series
        panel, report = open_panel(self.config.data, series)
        periods = split_rows(panel.dates, series.split)
        statistics = PriceStatistics.fit(panel, periods, tails=series.outliers)
        windows = self._windows(panel, statistics, periods)
        movements = windows["train"].movements()
        counts = [int((movements < 0).sum()), int((movements > 0).sum())]
        if not all(counts):
            raise ValueError(
                f"the training period has {counts[0]} falls and {counts[1]} rises: both must occur; move "
                "--config.series.split, or bring --config.series.rise and .fall nearer to 0"
            )
        facts = LabelledFacts({
            "features": statistics.features.to_dict(), "returns": statistics.returns.to_dict(), "counts": counts,
            "borders": borders_of(panel.dates, periods),
        } | ({"tickers": len(panel.tickers)} if series.market_days else {}))  # fmt: skip
        splits = {name: WindowSplit.of(windows[name]) for name in ("validation", "test")}
        outliers = statistics.features.num_outliers(panel.features, channels=len(NAMES))
        report += f"\nwinsorised: numbers beyond those of training  {outliers:,}"
        report += "".join(f"\nwindows of {name}  {len(one):,}" for name, one in windows.items())
        train = WindowSplit.of(windows["train"])
        return LabelledData(facts, train.records, splits, report, extra=windows["train"])

    def evaluation_splits(self, facts: LabelledFacts) -> dict[str, Split]:
        """The same days again, in the units of the run; of another file those that lie in the periods of the run."""
        panel, report = open_panel(self.config.data, self.config.series)
        _LOGGER.info("%s", report)
        _check_market(panel, facts, self.config.series)
        periods = evaluation_periods(panel.dates, facts, self.config.series.split)
        windows = self._windows(panel, _statistics(facts), periods)
        return {name: WindowSplit.of(one) for name, one in windows.items()}

    def assumed_facts(self) -> LabelledFacts:
        """Features of unit variance."""
        ones = Standardizer.fit(np.array([[-1.0], [1.0]]) * np.ones(len(NAMES) + self.config.series.market_days))
        return LabelledFacts({
            "features": ones.to_dict(), "returns": Standardizer.fit(np.array([[-1.0], [1.0]])).to_dict(),
            "counts": [1, 1],
        })  # fmt: skip

    def make_task(self, facts: LabelledFacts, layout: Layout | None = None) -> ClassificationTask:
        """A pooled encoder with two heads: cross-entropy of the movement, an error of the return."""
        config = self.config
        weights = self.class_weights(facts.values["counts"])
        return ClassificationTask(
            config,
            {
                MOVEMENT: Classes(len(CLASSES), weights, config.training.label_smoothing),
                RETURN: Numbers(config.series.loss),
            },
            pooling=config.task.pooling,
            num_channels=len(facts.values["features"]["mean"]),
            linear_skip=config.series.linear_skip,
            part_weights=self.part_weights,
            layout=layout,
        )

    def measure(self, split: Any, predicted: Predicted) -> dict[str, float]:
        """Of the movements that are scored, see `classification_scores`; errors of returns, in per cent."""
        movements, returns = (one[split.numbers] for one in (split.windows.movements(), split.windows.returns()))
        scored, known = movements != 0, np.isfinite(returns)
        labels = (movements[scored] > 0).astype(int)
        found: dict[str, float] = {}
        if scored.any():
            found = classification.classification_scores(predicted[MOVEMENT][scored, 0], labels, CLASSES)
            guesses = predicted[MOVEMENT][scored, 0].argmax(axis=-1)
            days = split.windows.as_of(split.numbers[scored])
            found["accuracy_error"] = daily_error(guesses, labels, days)
        if known.any():
            guesses = split.windows.return_deviation * predicted[RETURN][known, 0, 0]
            found["return_mse"] = forecasting.mean_squared_error(guesses, returns[known])
            found["return_mae"] = forecasting.mean_absolute_error(guesses, returns[known])
        return found

    def size(self, split: Any) -> str:
        """The movements that are scored, and the windows, whose returns are."""
        movements = int((split.windows.movements()[split.numbers] != 0).sum())
        return f"{movements:,} movements, {len(split):,} windows"

    def baselines(self, prepared: LabelledData, splits: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """See `price_baselines`."""
        return price_baselines(prepared.extra, {name: split.windows for name, split in splits.items()})

    def write_predictions(self, name: str, split: Any, predicted: Predicted, folder: Path) -> Path:
        """`SPLIT.csv`: what is predicted after the close of each day for the next one, and what came."""
        windows, numbers = split.windows, split.numbers
        movements, returns = windows.movements()[numbers], windows.returns()[numbers]
        lines = [
            f"{line},{'' if movement == 0 else CLASSES[int(movement > 0)]},{csv_number(value)}\n"
            for line, movement, value in zip(_lines(windows, numbers, predicted), movements, returns, strict=True)
        ]
        file = folder / f"{name}.csv"
        atomic_write(file, _HEADER + ",movement,return_percent\n" + "".join(lines))
        return file

    def draw(self, predictor: LabelPredictor, splits: Mapping[str, Any], predicted: Mapping[str, Predicted],
             folder: Path) -> dict[str, Path]:  # fmt: skip
        """Calibration of every split, confusion and hit rate over time of the last one."""
        if not splits:
            return {}
        names = ("calibration", "confusion", "hit rate")
        files = {name: folder / f"{name.replace(' ', '_')}.png" for name in names}
        title = self.config.experiment
        found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for name, split in splits.items():
            movements = split.windows.movements()[split.numbers]
            scored = movements != 0
            labels = (movements[scored] > 0).astype(int)
            found[name] = (predicted[name][MOVEMENT][scored, 0], labels, split.windows.as_of(split.numbers[scored]))
        curves = {name: classification.reliability(rows, labels) for name, (rows, labels, _) in found.items()}
        pictures.draw_calibration(curves, files["calibration"], title=title)
        last = list(splits)[-1]
        rows, labels, days = found[last]
        guesses = rows.argmax(axis=-1)
        confusion = classification.confusion_matrix(labels, guesses, len(CLASSES))
        pictures.draw_confusion(confusion, CLASSES, files["confusion"], title=f"{title} {last}".strip())
        series_pictures.draw_hit_rates(
            {"model": hit_rates(guesses, labels, days), "always rise": hit_rates(np.ones_like(labels), labels, days)},
            files["hit rate"], error=daily_error(guesses, labels, days), title=f"{title} {last}".strip(),
        )  # fmt: skip
        return files

    def samples(self, split: Any, predicted: Predicted, count: int) -> str:
        """Days of tickers evenly spread over the split: the probability of a rise, and what came."""
        numbers = np.arange(min(count, len(split))) * len(split) // max(1, min(count, len(split)))
        windows, chosen = split.windows, split.numbers[numbers]
        returns = windows.returns()[chosen]
        days, tickers = windows.as_of(chosen), windows.tickers(chosen)
        return "".join(
            f"  after {day}  {ticker:<6}  rise {predicted[MOVEMENT][number, 0, 1]:4.0%}  came {value:+.2f} %\n"
            for number, day, ticker, value in zip(numbers, days, tickers, returns, strict=True)
        )

    def predict(
        self, predictor: LabelPredictor, lines: Iterable[str], *, interactive: bool = False
    ) -> Iterator[str]:
        """CSV of prices or features in, CSV out: for every day that has a window before its close, and every ticker."""
        panel = panel_of_table(table_of(lines, required_columns), self.config.series)
        _check_market(panel, predictor.facts, self.config.series)
        windows = _statistics(predictor.facts).windows(
            panel, window=self.config.series.window, days=(0, len(panel.dates) + 1), labelled=False
        )
        if not len(windows):
            of_prices, of_features = least_days(self.config.series)
            raise ValueError(
                f"the input has {len(panel.dates)} days, and none of its tickers enough without a gap for one "
                f"prediction: give {of_prices} days of prices or more, or {of_features} of features"
            )
        yield _HEADER + "\n"
        for numbers in slices(len(windows), _CHUNK):
            records: Any = WindowSplit.of(windows).records.take(numbers)
            yield "".join(f"{line}\n" for line in _lines(windows, numbers, predictor(records)))

    @property
    def prompt(self) -> str:
        """Lines of a table, up to the end of the input."""
        return "csv> "

    def next_commands(self, command: str, flags: str) -> list[str]:
        """Predict; score again."""
        return [f"{command} --mode=predict {flags} < prices.csv", f"{command} --mode=evaluate {flags}"]


def _check_market(panel: Panel, facts: LabelledFacts, series: SeriesConfig) -> None:
    """Warns where the market is much smaller than that of training: the mean of a few is another number."""
    if not series.market_days:
        return
    found, trained = int(np.isfinite(panel.returns[-series.window :]).any(axis=0).sum()), facts.values.get("tickers", 0)
    if 2 * found < trained:
        _LOGGER.warning(
            "what the market did is the mean return of the tickers in the input, here %d, in training %d: give all of "
            "them, even if you want to know of one", found, trained,
        )  # fmt: skip


_HEADER = "after,ticker,probability_of_rise,expected_return_percent"


def _lines(windows: PriceWindows, numbers: np.ndarray, predicted: Predicted) -> Iterator[str]:
    """A line of CSV for each of the windows `numbers`, of which `predicted` are the predictions."""
    expected = windows.return_deviation * predicted[RETURN][:, 0, 0].astype(np.float64)
    rises = predicted[MOVEMENT][:, 0, 1]
    for day, ticker, rise, value in zip(windows.as_of(numbers), windows.tickers(numbers), rises, expected, strict=True):
        yield f"{day},{ticker},{rise:.4f},{csv_number(value)}"
