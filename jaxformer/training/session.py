"""One training run put together from its parts: data, task, mesh, state, hooks, loop.

Not for what comes before (claiming the workdir, preparing data) or after (final scores): `entry` does that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxformer.config import Config, to_dict
from jaxformer.data.bucketing import Shape
from jaxformer.data.dealing import imbalance
from jaxformer.monitoring.peaks import mesh_peak
from jaxformer.monitoring.progress import Progress as ProgressBar
from jaxformer.monitoring.throughput import PhaseClock, Throughput, process_start
from jaxformer.monitoring.trackers import JsonlTracker, TensorBoardTracker, Tracker, Trackers
from jaxformer.monitoring.utilisation import watch
from jaxformer.parallel.mesh import host_share, make_layout, place_batch
from jaxformer.training import hooks
from jaxformer.training.beginning import begin_with
from jaxformer.training.breakdown import describe_parts, time_parts
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.description import describe_run
from jaxformer.training.feed import DeviceFeed, count_tokens, side_lengths
from jaxformer.training.interruption import Interrupted, Interruption
from jaxformer.training.loop import BoundaryHook, Loop, Progress, StepHook
from jaxformer.training.memory import explained_out_of_memory, training_advice
from jaxformer.training.optimizer import make_optimizer, make_schedule
from jaxformer.training.profile import ProfileWindow
from jaxformer.training.same_data import check_same_data
from jaxformer.training.state import TrainState, create_state
from jaxformer.training.step import LossFunction, Stage, make_train_step
from jaxformer.training.study import MakeStudy, Prepared, Study, open_study, task_maker
from jaxformer.training.workdir import Workdir

_LOGGER = logging.getLogger(__name__)

_NO_BREAKDOWN = (
    "out of memory while a step was taken apart, for which the state is held twice: "
    "set --config.monitoring.breakdown=false"
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What training left behind, besides its checkpoints.

    Attributes:
      progress: at the end.
      speed: rates of all devices together; seconds of each phase and memory, of this process.
      efficiency: real tokens over slots, as planned.
      breakdown: seconds of the parts of a step, if `monitoring.breakdown` asked for them.
    """

    progress: Progress
    speed: dict[str, float]
    efficiency: float
    breakdown: dict[str, float]


class Session:
    """A run that can be trained.

    Args:
      config: of the run.
      workdir: claimed by this process.
      study: of the configuration.
      prepared: its data.
      checkpoints: where states are kept.
      beside: trackers that get what those of the configuration get, on the first process; they are not closed.
      make_study: of other configurations.
    """

    def __init__(
        self,
        config: Config,
        workdir: Workdir,
        study: Study,
        prepared: Prepared,
        checkpoints: Checkpoints,
        *,
        beside: Sequence[Tracker] = (),
        make_study: MakeStudy = open_study,
    ) -> None:
        self.config, self.workdir, self.checkpoints = config, workdir, checkpoints
        self.study, self.prepared = study, prepared
        self._beside, self._make_study = beside, make_study
        self.layout = make_layout(config.mesh)
        self.task = study.make_task(prepared.facts, self.layout)
        index, count = host_share(self.layout)
        self.pipeline = study.make_pipeline(
            prepared,
            shard_index=index,
            shard_count=count,
            divisor=self.layout.parts("rows") * config.memory.accumulate,
            length_divisor=self.layout.parts("length"),
            shapes=self._shapes_before(),
        )
        self.schedule = make_schedule(config.optimizer, config.training.num_steps)
        self.optimizer = make_optimizer(config.optimizer, config.training.num_steps)
        if config.training.early_stopping and not prepared.splits.get("validation"):
            raise ValueError(
                f"training.early_stopping={config.training.early_stopping} needs a validation split: give one, or set "
                "--config.training.early_stopping=0"
            )

    def describe(self) -> str:
        """What is about to be trained, in a few lines."""
        return describe_run(self.study, self.task, self.pipeline, self.layout, self.prepared.size)

    def train(self, interruption: Interruption) -> Outcome:
        """Restores if there is something to restore, then runs the loop to its end.

        Raises:
          Interrupted: when a signal asked for it; the state has been saved.
          TrainingDiverged: at a loss that is no number.
          OutOfMemory: if a device has too little, with what would need less.
        """
        config, training = self.config, self.config.training
        with explained_out_of_memory(self._memory_advice):
            state, progress, restored = self._start()
        with explained_out_of_memory(lambda: _NO_BREAKDOWN):
            breakdown = self._time_step(state, progress.step) if config.monitoring.breakdown else {}
        phases = PhaseClock()
        throughput = Throughput(phases, mesh_peak(config.precision, self.layout.mesh).rate)
        with contextlib.ExitStack() as stack:
            place = functools.partial(place_batch, layout=self.layout)
            feed = stack.enter_context(DeviceFeed(self.pipeline, place, count=self._count))
            tracker, bar = self._trackers(progress)
            stack.callback(tracker.close)
            stack.callback(bar.close)
            saver = hooks.SaveCheckpoint(
                training.checkpoint_every, training.checkpoint_minutes, self.checkpoints, tracker, to_dict(config)
            )
            if restored:
                saver.restored(progress)
            loop = Loop(
                self._make_stages(),
                state,
                progress,
                feed,
                num_steps=training.num_steps,
                step_hooks=self._step_hooks(stack, tracker, bar, throughput),
                boundary_hooks=[*self._boundary_hooks(stack, tracker, progress), saver],
                interruption=interruption,
                saver=saver,
                phases=phases,
                throughput=throughput,
            )
            with explained_out_of_memory(self._memory_advice):
                loop.run()
            saver.save(loop)
        if progress.stopped:
            _LOGGER.info("stopped early at step %d: %s", progress.step, progress.stopped)
        if interruption.requested:
            raise Interrupted(interruption.requested, progress.step)
        return Outcome(progress, throughput.total(), self.pipeline.efficiency, breakdown)

    def _shapes_before(self) -> list[Shape] | None:
        """The shapes of batches that the run began with, and keeps on any number of devices; None for a new run."""
        run = self.checkpoints.newest_run()
        if run is None:
            return None
        before = Progress.from_json(run).batches
        check_same_data(before.get("data"), self.prepared.checksum, self.workdir)
        return [Shape(*shape) for shape in before["shapes"]]

    def _make_stages(self) -> list[Stage]:
        """One step function, or one without R-Drop and then one with it."""
        training = self.config.training
        make = functools.partial(
            make_train_step,
            optimizer=self.optimizer,
            accumulate=self.config.memory.accumulate,
            ema_decay=training.ema_decay,
            layout=self.layout,
        )
        stages = []
        if not training.r_drop or training.r_drop_start:
            stages.append(Stage(0, make(self._loss_function(r_drop=False))))
        if training.r_drop:
            stages.append(Stage(training.r_drop_start, make(self._loss_function(r_drop=True)), passes=2))
        return stages

    def _loss_function(self, *, r_drop: bool) -> LossFunction:
        alpha = self.config.training.r_drop
        function: Any = self.task.loss_function
        return functools.partial(function, r_drop=alpha if r_drop else 0.0) if alpha else function

    def _step_hooks(
        self, stack: contextlib.ExitStack, tracker: Tracker, bar: ProgressBar, throughput: Throughput
    ) -> list[StepHook]:
        utilisation = watch(self.layout.mesh.local_devices)
        stack.callback(utilisation.close)
        return [
            hooks.StopAtNan(self.schedule),
            hooks.StopAtSkips(),
            hooks.ProgressLine(bar),
            hooks.FirstStep(process_start()),
            hooks.Log(self.config.training.log_every, tracker, self.schedule, throughput, utilisation),
        ]

    def _boundary_hooks(self, stack: contextlib.ExitStack, tracker: Tracker, progress: Progress) -> list[BoundaryHook]:
        """What is due before a checkpoint is made."""
        found: list[BoundaryHook] = []
        training, profile = self.config.training, self.config.profile
        if profile.num_steps:
            if progress.step >= profile.start_step:
                _LOGGER.warning(
                    "profile.start_step=%d is past: the run continues at step %d, and nothing is traced",
                    profile.start_step, progress.step + 1,
                )  # fmt: skip
            window = ProfileWindow(profile.start_step, profile.num_steps, self.workdir.profile)
            stack.callback(window.close)
            found.append(window)
        evaluate = self.study.validation(self.prepared, self.task, self.layout) if training.eval_every else None
        if evaluate is not None:
            found.append(hooks.Validation(
                training.eval_every, evaluate, tracker, metric=training.best_metric, patience=training.early_stopping
            ))  # fmt: skip
        return found

    def _count(self, batch: Any, row_tokens: np.ndarray) -> dict[str, float]:
        """Tokens, model FLOPs of a pass, and imbalance of a whole batch, of which this host has `batch`."""
        shape = Shape(row_tokens.shape[1], *side_lengths(batch))
        flops = self.study.flops(self.task, shape)
        counts = count_tokens(batch, row_tokens) | {"flops": round(flops)}
        if (parts := self.layout.parts("rows")) > 1:
            counts["imbalance"] = float(imbalance(row_tokens.sum(axis=0), parts))
        return counts

    def _memory_advice(self) -> str:
        rows, source, target = max(self.pipeline.shapes, key=lambda shape: shape.source_length + shape.target_length)
        make_task = task_maker(self.prepared.facts, self._make_study)
        return training_advice(self.config, make_task, self.layout, (rows, source, target))

    def _time_step(self, state: TrainState, step: int) -> dict[str, float]:
        """Times the parts of the step that follows `step` others on the first batch, and says so."""
        before = self.pipeline.get_state()
        batch = next(self.pipeline)
        self.pipeline.set_state(before)
        parts = time_parts(
            self._loss_function(r_drop=step >= self.config.training.r_drop_start),
            self.optimizer,
            state,
            place_batch(batch, self.layout),
            accumulate=self.config.memory.accumulate,
            ema_decay=self.config.training.ema_decay,
            layout=self.layout,
        )
        _LOGGER.info("%s", describe_parts(parts, batch))
        return parts

    def _start(self) -> tuple[TrainState, Progress, bool]:
        training = self.config.training
        state = create_state(
            lambda: self.task.new_params(training.seed),
            self.optimizer,
            seed=training.seed + 1,
            ema=training.ema_decay > 0,
            loss_scale=self.config.precision == "fp16",
            layout=self.layout,
        )
        found = self.checkpoints.restore(state)
        if found is None:
            if training.start_from:
                state = begin_with(state, self.config, self.layout, self.prepared.facts, self._make_study)
            return state, Progress(batches=self._batches()), False
        progress = Progress.from_json(found[1])
        self.pipeline.set_state(progress.iterator)
        _LOGGER.info("restored step %d from %s", progress.step, self.checkpoints.directory)
        return found[0], progress, True

    def _batches(self) -> dict[str, Any]:
        """What an iterator state counts; equal where it may be restored, and as JSON gives it back."""
        return {"data": self.prepared.checksum, "shapes": [list(map(int, shape)) for shape in self.pipeline.shapes]}

    def _trackers(self, progress: Progress) -> tuple[Trackers, ProgressBar]:
        monitoring, step = self.config.monitoring, progress.step
        writer = jax.process_index() == 0
        bar = ProgressBar(self.config.training.num_steps, start=step, enabled=monitoring.progress and writer)
        if not writer:
            return Trackers([]), bar
        records = JsonlTracker(self.workdir.metrics)
        evaluated = () if progress.evaluated == step else ("validation/",)
        records.truncate_after(step, again=("final/", "test/", *evaluated))
        trackers: list[Tracker] = [records, bar]
        if monitoring.tensorboard:
            trackers.append(TensorBoardTracker(self.workdir.tensorboard, purge_after=step or None))
        return Trackers(trackers, beside=self._beside), bar
