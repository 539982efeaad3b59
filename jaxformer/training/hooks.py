"""What happens along the way: the log, the stop at a loss that is no number, validation, checkpoints.

A hook says how often it wants to be called (`every`) and the loop calls it. Not for the order of things (`loop`).
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jaxformer.monitoring import progress as progress_line
from jaxformer.monitoring.throughput import Throughput
from jaxformer.monitoring.utilisation import Utilisation
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.loop import Loop, Progress, agreed
from jaxformer.training.retention import lower_is_better
from jaxformer.training.state import evaluation_params
from jaxformer.types import Mean

_LOGGER = logging.getLogger(__name__)


class Tracker(Protocol):
    """Where records go; see `monitoring.trackers`."""

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Records `metrics` at `step`."""

    def sync(self) -> None:
        """Makes them durable."""


class TrainingDiverged(ValueError):
    """The loss or the gradient is no finite number any more."""


class StopAtNan:
    """Ends training at the first step whose loss or gradient is not finite, naming it; what was saved before stays."""

    every = 1

    def __init__(self, schedule: Callable[[int], Any]) -> None:
        self._schedule = schedule

    def __call__(self, step: int, metrics: Mapping[str, Mean], progress: Progress) -> None:
        """Looks at one step.

        Raises:
          TrainingDiverged: naming the step, the value and what to try.
        """
        for name in ("loss", "grad_norm"):
            # A step that float16 skipped has no weight: not for here, but for `StopAtSkips`.
            if name in metrics and metrics[name].weight and not math.isfinite(value := metrics[name].value()):
                raise TrainingDiverged(
                    f"training diverged: {name} is {value} at step {step} (learning rate "
                    f"{float(self._schedule(step - 1)):.3g}); lower --config.optimizer.learning_rate, raise "
                    "--config.optimizer.warmup_steps or set --config.optimizer.clip_norm=1, in a new --workdir"
                )


class StopAtSkips:
    """Ends training after `MOST` steps in a row that float16 had to skip, naming them; what was saved before stays."""

    every = 1
    MOST = 30  # twice the halvings from the first scale to the smallest, 1

    def __init__(self) -> None:
        self._skipped = 0

    def __call__(self, step: int, metrics: Mapping[str, Mean], progress: Progress) -> None:
        """Looks at one step.

        Raises:
          TrainingDiverged: naming the steps, the scale and what to try.
        """
        if "skipped" not in metrics:
            return
        self._skipped = self._skipped + 1 if metrics["skipped"].value() else 0
        if self._skipped >= self.MOST:
            raise TrainingDiverged(
                f"training diverged: in float16, the gradients of the batches of steps {step - self._skipped + 1} to "
                f"{step} were all infinite, although the loss scale fell to {metrics['loss_scale'].value():g}; use "
                "--config.precision=bf16 or fp32, or lower --config.optimizer.learning_rate, in a new --workdir"
            )


class ProgressLine:
    """Keeps the live progress line moving."""

    every = 1

    def __init__(self, line: progress_line.Progress) -> None:
        self._line = line

    def __call__(self, step: int, metrics: Mapping[str, Mean], progress: Progress) -> None:
        """Moves the line to `step`."""
        self._line.update(step)


class FirstStep:
    """Says once how long after the start of this process its first step was done.

    Args:
      started: when the process started, in seconds since 1970.
    """

    every = 1

    def __init__(self, started: float) -> None:
        self._started: float | None = started

    def __call__(self, step: int, metrics: Mapping[str, Mean], progress: Progress) -> None:
        """Speaks at the first call alone."""
        if self._started is not None:
            seconds = time.time() - self._started
            _LOGGER.info("step %d was done %.1f s after the start; each batch shape is compiled once", step, seconds)
            self._started = None


class Log:
    """One record for every window of `every` steps: means over the window, learning rate, speed, memory, utilisation.

    The means are the same in a resumed run: the sums of an unfinished window are part of a checkpoint. Steps that
    float16 skipped are left out of them, and counted as `train/skipped_steps`. Speed is that of all devices together,
    memory and utilisation are of this process alone.
    """

    def __init__(
        self,
        every: int,
        tracker: Tracker,
        schedule: Callable[[int], Any],
        throughput: Throughput,
        utilisation: Utilisation | None = None,
    ) -> None:
        self.every = every
        self._tracker, self._schedule = tracker, schedule
        self._throughput, self._utilisation = throughput, utilisation

    def __call__(self, step: int, metrics: Mapping[str, Mean], progress: Progress) -> None:
        """Ends the window at `step` and records it."""
        skipped = progress.window.get("skipped")
        record = {f"train/{name}": value for name, value in progress.take_window().items()}
        if skipped is not None:
            record["train/skipped_steps"] = skipped[0]
        record["train/learning_rate"] = float(self._schedule(step - 1))
        record.update(self._throughput.window())
        if self._utilisation is not None:
            record.update(self._utilisation.window())
        self._tracker.log(step, record)


class Validation:
    """Evaluates every `every` steps and at the last, remembers the best, and stops when there is no improvement.

    Args:
      every: in steps; 0 for never.
      evaluate: parameters -> metrics such as `validation/bleu`.
      tracker: gets them.
      metric: the one that is watched.
      patience: validations without improvement before training stops; 0 for never.
    """

    phase = "evaluation"

    def __init__(
        self,
        every: int,
        evaluate: Callable[[Any], Mapping[str, float]],
        tracker: Tracker,
        *,
        metric: str,
        patience: int = 0,
    ) -> None:
        self.every = every
        self._evaluate, self._tracker, self._metric, self._patience = evaluate, tracker, metric, patience

    def due(self, loop: Loop) -> bool:
        """At multiples of `every` and at the end, unless it has just been done (before a checkpoint, say)."""
        step = loop.progress.step
        reached = self.every > 0 and step > 0 and (step % self.every == 0 or loop.done)
        return reached and loop.progress.evaluated != step

    def __call__(self, loop: Loop) -> None:
        """Evaluates, records, and updates the progress.

        Raises:
          ValueError: if the watched metric is not among what `evaluate` returns.
        """
        progress = loop.progress
        scores = dict(self._evaluate(evaluation_params(loop.state)))
        if self._metric not in scores:
            raise ValueError(
                f"training.best_metric={self._metric!r} is not measured here: choose one of {', '.join(sorted(scores))}"
            )
        progress.evaluated, progress.scores = progress.step, scores
        value = scores[self._metric]
        sign = -1.0 if lower_is_better(self._metric) else 1.0
        if progress.best is None or not math.isfinite(progress.best) or sign * value > sign * progress.best:
            progress.best, progress.best_step, progress.stale = value, progress.step, 0
        else:
            progress.stale += 1
            if self._patience and progress.stale >= self._patience:
                progress.stopped = (
                    f"{self._metric} has not improved on {progress.best:.4g} (step {progress.best_step}) "
                    f"in {progress.stale} validations"
                )
        self._tracker.log(progress.step, scores)


class SaveCheckpoint:
    """Saves every `every` steps, after `minutes` without a save, at a new best, and at the end.

    Args:
      every: in steps; 0 leaves the other reasons.
      minutes: of the clock; 0 for never. Several processes look at it at every tenth step.
      checkpoints: where to.
      tracker: made durable first, so that no record of a saved step can be missing after a restart.
      config: saved with it, a JSON value.
    """

    phase = "checkpoint"

    def __init__(
        self, every: int, minutes: float, checkpoints: Checkpoints, tracker: Tracker, config: Mapping[str, Any]
    ) -> None:
        self.every = every
        self._seconds, self._checkpoints, self._tracker, self._config = 60 * minutes, checkpoints, tracker, config
        self._saved_at = time.monotonic()
        self._saved: tuple[int, int] | None = None

    def restored(self, progress: Progress) -> None:
        """Says that `progress` is on disk already."""
        self._saved = (progress.step, progress.evaluated)

    def due(self, loop: Loop) -> bool:
        """See the class; never twice for the same step, unless it has been evaluated in between."""
        progress = loop.progress
        if progress.step == 0 or self._saved == (progress.step, progress.evaluated):
            return False
        regular = self.every > 0 and progress.step % self.every == 0
        best = progress.best_step == progress.evaluated == progress.step
        return regular or best or loop.done or self._late(progress.step)

    def _late(self, step: int) -> bool:
        # Several processes must save together, and their clocks do not agree: they save once one of them is late.
        return self._seconds > 0 and agreed(time.monotonic() - self._saved_at > self._seconds, step) > 0

    def __call__(self, loop: Loop) -> None:
        """Saves; the arrays are written in the background."""
        progress = loop.progress
        again = self._saved is not None and self._saved[0] == progress.step  # by a signal, before it was evaluated
        self._tracker.sync()
        scores = progress.scores if progress.evaluated == progress.step else None
        run = {**dataclasses.asdict(progress), "config": self._config}
        self._checkpoints.save(progress.step, loop.state, run, scores, replace=again)
        self._saved, self._saved_at = (progress.step, progress.evaluated), time.monotonic()

    def save(self, loop: Loop) -> None:
        """Saves now, unless this step is on disk already, and waits until it is safe."""
        if loop.progress.step and self._saved != (loop.progress.step, loop.progress.evaluated):
            self(loop)
        self._checkpoints.wait()
