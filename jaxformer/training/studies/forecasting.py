"""The next steps of every channel of a series, with bands: patches of the past, a channel at a time (Nie et al. 2023).

Beside the network stand what anyone can do (repeat the last step, or the last season) and least squares, which is hard
to beat. Errors are in standardised units, as papers give them; what is written for a person is in those of the file.
Not for reading and cleaning (`data.series`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.config import Config
from jaxformer.data.series.datasets import series_windows, slices
from jaxformer.data.series.multivariate import MultivariateSeries, series_of
from jaxformer.data.series.opening import check_source, open_series
from jaxformer.data.series.splitting import Periods, borders_of, split_rows
from jaxformer.data.series.standardize import Standardizer
from jaxformer.data.series.windows import BANDS, FORECAST, Patching, SeriesWindows
from jaxformer.evaluation import forecasting
from jaxformer.evaluation.baselines import LinearForecast, repeat_last, repeat_season
from jaxformer.monitoring import series_pictures
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.forecasting import ForecastingTask
from jaxformer.tasks.objectives import Numbers, Quantiles
from jaxformer.training.studies.labelled import LabelledStudy, Predicted
from jaxformer.training.studies.records import LabelledData, LabelledFacts, LabelPredictor, Split
from jaxformer.training.studies.windows import (
    STANDARD_INPUT,
    WindowSplit,
    check_length,
    csv_number,
    evaluation_periods,
    table_of,
)
from jaxformer.training.study import Curves

_LOGGER = logging.getLogger(__name__)
LEVELS = (0.1, 0.5, 0.9)
"""Of the quantiles; the first and the last are the band, which shall hold four numbers of five."""
_CHUNK = 4096
_MOST_FITTED = 200_000
"""Training windows that least squares are fitted to, at most, drawn at random."""
_SHOWN_CHANNELS = 4


def _patching(config: Config) -> Patching:
    series = config.series
    return Patching(series.window, series.patch_length, series.patch_stride)


def _fitted(count: int) -> np.ndarray:
    """Ascending numbers of the windows, of `count`, that least squares are fitted to; the same ones every time.

    Drawn, because every n-th one would leave out channels wherever n and their number have a factor in common.
    """
    if count <= _MOST_FITTED:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, _MOST_FITTED, replace=False))


class ForecastingStudy(LabelledStudy):
    """See `LabelledStudy`. Its splits are `WindowSplit`s of `SeriesWindows`."""

    noun = "windows"
    of_positions = False
    metrics = (
        "loss", "forecast/loss", "forecast/mse", "forecast/mae", "bands/loss", "mse", "mae", "coverage", "pinball_loss",
    )  # fmt: skip
    curves = Curves("loss per step", {"validation/mse": "validation MSE", "validation/mae": "validation MAE"})

    def check(self) -> None:
        """Refuses sources of text, patches that do not fit, and other lengths."""
        super().check()
        check_source(self.config.data, self.config.task.kind)
        check_length(self.config.data.max_length, _patching(self.config).num_patches)

    def _open(
        self, series: MultivariateSeries, units: Standardizer, periods: Periods
    ) -> dict[str, SeriesWindows]:
        return series_windows(series, units, periods, _patching(self.config), horizon=self.config.series.horizon)

    def prepare(self, *, download: bool = False) -> LabelledData:
        """The windows of every split, in units of the training period."""
        series, report = open_series(self.config.data)
        periods = split_rows(series.dates, self.config.series.split)
        units = Standardizer.fit(series.values[slice(*periods["train"])], tails=self.config.series.outliers)
        windows = self._open(series, units, periods)
        borders = borders_of(series.dates, periods)
        facts = LabelledFacts({"names": list(series.names), "units": units.to_dict(), "borders": borders})
        splits = {name: WindowSplit.of(windows[name]) for name in ("validation", "test")}
        text = f"{report.table()}\nwinsorised: numbers beyond those of training  {units.num_outliers(series.values):,}"
        text += "".join(f"\nwindows of {name}, all channels  {len(one):,}" for name, one in windows.items())
        return LabelledData(facts, WindowSplit.of(windows["train"]).records, splits, text, extra=windows["train"])

    def evaluation_splits(self, facts: LabelledFacts) -> dict[str, Split]:
        """The same rows again, in the units of the run; of another file those that lie in the periods of the run.

        Raises:
          ValueError: for channels that are not those of the run, or rows of which none is in either period.
        """
        series, report = open_series(self.config.data)
        _LOGGER.info("%s", report.table())
        if list(series.names) != facts.values["names"]:
            raise ValueError(
                f"the series has the channels {', '.join(series.names)}, but the run was trained on "
                f"{', '.join(facts.values['names'])}: name the file of these with --config.data.path"
            )
        periods = evaluation_periods(series.dates, facts, self.config.series.split)
        windows = self._open(series, Standardizer.from_dict(facts.values["units"]), periods)
        return {name: WindowSplit.of(one) for name, one in windows.items()}

    def assumed_facts(self) -> LabelledFacts:
        """One channel of unit variance: the network does not depend on their number."""
        return LabelledFacts({"names": ["channel"], "units": Standardizer.fit(np.array([[-1.0], [1.0]])).to_dict()})

    def make_task(self, facts: LabelledFacts, layout: Layout | None = None) -> ForecastingTask:
        """An encoder of patches with two heads: numbers, and the quantiles around them."""
        series, patching = self.config.series, _patching(self.config)
        return ForecastingTask(
            self.config,
            {FORECAST: Numbers(series.loss), BANDS: Quantiles(LEVELS)},
            patch_length=series.patch_length,
            num_patches=patching.num_patches,
            horizon=series.horizon,
            reversible=series.reversible,
            linear_skip=series.linear_skip,
            part_weights=self.part_weights,
            layout=layout,
        )

    def measure(self, split: Any, predicted: Predicted) -> dict[str, float]:
        """MSE and MAE of the forecast, how much the band covers, and the mean pinball loss of its quantiles."""
        actual, known = (part(split.numbers) for part in (split.windows.future, split.windows.known))
        forecast, bands = predicted[FORECAST][..., 0], predicted[BANDS]
        return {
            "mse": forecasting.mean_squared_error(forecast, actual, known),
            "mae": forecasting.mean_absolute_error(forecast, actual, known),
            "coverage": forecasting.coverage(bands[..., 0], bands[..., -1], actual, known),
            "pinball_loss": float(np.mean([
                forecasting.pinball_loss(bands[..., i], actual, level, known) for i, level in enumerate(LEVELS)
            ])),
        }  # fmt: skip

    def baselines(self, prepared: LabelledData, splits: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Repeat the last step, repeat the last season, and least squares on the training windows."""
        train: SeriesWindows = prepared.extra
        horizon, season = self.config.series.horizon, self.config.series.season
        chosen = _fitted(len(train))
        pieces = (chosen[part] for part in slices(len(chosen), _CHUNK))
        linear = LinearForecast.fit(((train.past(part), train.future(part)) for part in pieces), relative=True)
        rivals: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "repeat last": lambda past: repeat_last(past, horizon),
            "least squares": linear,
        }
        if season <= train.patching.look_back:
            rivals["repeat season"] = lambda past: repeat_season(past, horizon, season)
        found: dict[str, dict[str, float]] = {}
        for rival, forecast in rivals.items():
            found[rival] = {}
            for name, split in splits.items():
                guesses = np.concatenate(
                    [forecast(split.windows.past(split.numbers[part])) for part in slices(len(split), _CHUNK)]
                )
                actual, known = split.windows.future(split.numbers), split.windows.known(split.numbers)
                found[rival][f"{name}/mse"] = forecasting.mean_squared_error(guesses, actual, known)
                found[rival][f"{name}/mae"] = forecasting.mean_absolute_error(guesses, actual, known)
        return found

    def write_predictions(self, name: str, split: Any, predicted: Predicted, folder: Path) -> Path:
        """`SPLIT.npz`: forecasts and bands of all windows, in standardised units, as they were scored."""
        file = folder / f"{name}.npz"
        np.savez_compressed(
            file, window=split.numbers, forecast=predicted[FORECAST][..., 0].astype(np.float32),
            bands=predicted[BANDS].astype(np.float32),
        )  # fmt: skip
        return file

    def draw(self, predictor: LabelPredictor, splits: Mapping[str, Any], predicted: Mapping[str, Predicted],
             folder: Path) -> dict[str, Path]:  # fmt: skip
        """A forecast of some channels from the middle of the last split, with bands, beside what came."""
        if not splits:
            return {}
        name = list(splits)[-1]
        split, names = splits[name], predictor.facts.values["names"]
        units = Standardizer.from_dict(predictor.facts.values["units"])
        first = len(split) // len(names) // 2 * len(names)
        shown = []
        for channel in range(min(_SHOWN_CHANNELS, len(names))):
            place, numbers = first + channel, split.numbers[first + channel : first + channel + 1]

            def own(values: np.ndarray, channel: int = channel) -> np.ndarray:
                return units.restored(values, channel)

            shown.append(series_pictures.Forecast(
                names[channel], own(split.windows.past(numbers)[0]), own(split.windows.future(numbers)[0]),
                own(predicted[name][FORECAST][place, :, 0]), own(predicted[name][BANDS][place]),
            ))  # fmt: skip
        path = folder / "forecast.png"
        series_pictures.draw_forecasts(shown, path, title=f"{self.config.experiment} {name}".strip(), levels=LEVELS)
        return {"forecast": path}

    def samples(self, split: Any, predicted: Predicted, count: int) -> str:
        """The mean absolute error of some steps ahead, in standardised units."""
        horizon = self.config.series.horizon
        actual, known = split.windows.future(split.numbers), split.windows.known(split.numbers)
        lines = []
        for step in np.unique(np.linspace(0, horizon - 1, max(2, count)).astype(int)):
            guesses = predicted[FORECAST][:, step, 0]
            error = forecasting.mean_absolute_error(guesses, actual[:, step], known[:, step])
            lines.append(f"  {step + 1:>4} steps ahead  mean absolute error {error:.4f}\n")
        return "".join(lines)

    def predict(
        self, predictor: LabelPredictor, lines: Iterable[str], *, interactive: bool = False
    ) -> Iterator[str]:
        """CSV of the past in, CSV out: the steps after its last row, with bands, in the units of the file."""
        names, config = predictor.facts.values["names"], self.config
        series, report = series_of(table_of(lines, ("date", *names)), names)
        if report.changes:
            _LOGGER.warning("%s was cleaned:\n%s", STANDARD_INPUT, report.table())
        patching, units = _patching(config), Standardizer.from_dict(predictor.facts.values["units"])
        rows = len(series.values)
        if rows < patching.look_back:
            raise ValueError(
                f"the input has {rows} steps, but a forecast needs the last {patching.look_back}: give a longer past"
            )
        values = np.concatenate([units.apply(series.values), np.zeros((config.series.horizon, len(names)), np.float32)])
        if np.isnan(values[rows - patching.look_back :]).any():
            raise ValueError("a channel has no value at the beginning of the last steps: give a longer past")
        windows = SeriesWindows(
            values, np.zeros(values.shape, bool), patching, horizon=config.series.horizon, rows=(rows, len(values))
        )
        predicted = predictor(WindowSplit.of(windows).records)
        columns = [
            units.restored(part, channel)
            for channel in range(len(names))
            for part in (predicted[FORECAST][channel, :, 0], *(predicted[BANDS][channel, :, i] for i in (0, -1)))
        ]
        yield ",".join(["date", *(f"{name}{end}" for name in names for end in ("", "_low", "_high"))]) + "\n"
        for step, row in enumerate(np.stack(columns, axis=1), 1):
            date = str(series.dates[-1] + step * series.step).replace("T", " ")
            yield ",".join([date, *map(csv_number, row)]) + "\n"

    @property
    def prompt(self) -> str:
        """Lines of a table, up to the end of the input."""
        return "csv> "

    def predicting(self) -> str:
        """For the log."""
        return "forecasting"

    def next_commands(self, command: str, flags: str) -> list[str]:
        """Forecast; score again."""
        return [f"{command} --mode=predict {flags} < series.csv", f"{command} --mode=evaluate {flags}"]
