"""One training run put together from its parts: data, task, mesh, state, hooks, loop.

Not for what comes before (claiming the workdir, preparing data) or after (final scores): `entry` does that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxformer.config import Config, DecodingConfig, to_dict
from jaxformer.data.pipeline import BatchPipeline, evaluation_batches
from jaxformer.data.prepare import PreparedData
from jaxformer.data.store import TokenizedDataset
from jaxformer.monitoring.progress import Progress as ProgressBar
from jaxformer.monitoring.throughput import PhaseClock, Throughput, process_start
from jaxformer.monitoring.trackers import JsonlTracker, TensorBoardTracker, Tracker, Trackers
from jaxformer.ops.attention import Mask, describe_attention
from jaxformer.parallel.mesh import first_copy, make_mesh, place_batch, place_replicated
from jaxformer.tasks.translation import TranslationTask, prefixed, score_translations
from jaxformer.training import hooks
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.feed import DeviceFeed
from jaxformer.training.interruption import Interrupted, Interruption
from jaxformer.training.loop import Loop, Progress
from jaxformer.training.optimizer import make_optimizer, make_schedule
from jaxformer.training.state import TrainState, create_state
from jaxformer.training.step import make_train_step
from jaxformer.training.workdir import Workdir
from jaxformer.types import Pair

_LOGGER = logging.getLogger(__name__)

def greedily(decoding: DecodingConfig) -> DecodingConfig:
    """How validation translates on the way: the configured search takes a few times longer, and scores the end."""
    return dataclasses.replace(decoding, method="greedy", n_best=1)


def open_checkpoints(config: Config, workdir: Workdir, *, read_only: bool = False) -> Checkpoints:
    """The checkpoints of a run, with the retention that `config` asks for; `read_only` beside a run that may go on."""
    training = config.training
    return Checkpoints(
        workdir.checkpoints,
        keep=training.keep_checkpoints,
        average=training.average_checkpoints,
        period=training.checkpoint_every,
        best_metric=training.best_metric,
        read_only=read_only,
    )


def check_same_batches(before: Mapping[str, Any], now: Mapping[str, Any], workdir: Workdir) -> None:
    """Refuses to continue a run on other batches than it began with: the order of its data would be another.

    Raises:
      ValueError: if the training data or the shapes of batches differ.
    """
    if before.get("data") != now["data"]:
        raise ValueError(
            f"the training data has changed since the run in {workdir.path} began: restore it, or choose another "
            "--workdir"
        )
    if before.get("shapes") != now["shapes"]:
        raise ValueError(
            f"the batches of the run in {workdir.path} had other shapes, because it ran on another number of devices: "
            "continue it on as many, or choose another --workdir"
        )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What training left behind, besides its checkpoints.

    Attributes:
      progress: at the end.
      speed: rates, seconds of each phase and memory, of this process.
      efficiency: real tokens over slots, as planned.
    """

    progress: Progress
    speed: dict[str, float]
    efficiency: float


class Session:
    """A run that can be trained.

    Args:
      config: of the run.
      workdir: claimed by this process.
      prepared: its data.
      checkpoints: where states are kept.
    """

    def __init__(self, config: Config, workdir: Workdir, prepared: PreparedData, checkpoints: Checkpoints) -> None:
        self.config, self.workdir, self.prepared, self.checkpoints = config, workdir, prepared, checkpoints
        self.mesh = make_mesh(config.mesh)
        self.task = TranslationTask(config, prepared.tokenizer)
        self.pipeline = BatchPipeline(
            prepared.variants,
            config.data,
            seed=config.training.seed,
            shard_index=jax.process_index(),
            shard_count=jax.process_count(),
            divisor=self.mesh.size * config.memory.accumulate,
        )
        self.schedule = make_schedule(config.optimizer, config.training.num_steps)
        self.optimizer = make_optimizer(config.optimizer, config.training.num_steps)
        if config.training.early_stopping and not (prepared.validation and config.training.eval_every):
            raise ValueError(
                f"training.early_stopping={config.training.early_stopping} needs a validation split and "
                "training.eval_every above 0: give both, or set --config.training.early_stopping=0"
            )

    def describe(self) -> str:
        """What is about to be trained, in a few lines."""
        pipeline, training = self.pipeline, self.config.training
        shapes = ", ".join(f"{s.rows}x({s.source_length}+{s.target_length})" for s in pipeline.shapes)
        epochs = training.num_steps / pipeline.batches_per_epoch
        return "\n".join(
            [
                f"model: {self.task.num_parameters:,} parameters, {self.config.precision}",
                self._attention(),
                f"batches: {shapes} (rows x (source + target)); planned padding efficiency {pipeline.efficiency:.3f}",
                f"training: {len(self.prepared.train):,} pairs, {pipeline.batches_per_epoch:,} batches an epoch, "
                f"{training.num_steps:,} steps = {epochs:.1f} epochs, on {self.mesh.size} device(s)",
            ]
        )

    def _attention(self) -> str:
        """Which attention the decoder's longest rows use, and why."""
        model = self.config.model
        rows, _, length = max(self.pipeline.shapes, key=lambda shape: shape.target_length)
        heads = (rows // self.mesh.size // self.config.memory.accumulate, length, model.num_heads)
        q = jax.ShapeDtypeStruct((*heads, model.d_model // model.num_heads), self.task.dtype)
        k = jax.ShapeDtypeStruct((*heads[:2], model.num_kv_heads or model.num_heads, q.shape[3]), q.dtype)
        segments: Any = jax.ShapeDtypeStruct(heads[:2], np.int32)
        mask = Mask(causal=True) & Mask.segments(segments)
        return describe_attention(q, k, mask=mask, dropout=model.attention_dropout)

    def train(self, interruption: Interruption) -> Outcome:
        """Restores if there is something to restore, then runs the loop to its end.

        Raises:
          Interrupted: when a signal asked for it; the state has been saved.
          TrainingDiverged: at a loss that is no number.
        """
        config, training = self.config, self.config.training
        state, progress, restored = self._start()
        phases = PhaseClock()
        throughput = Throughput(phases)
        with contextlib.ExitStack() as stack:
            feed = stack.enter_context(DeviceFeed(self.pipeline, lambda batch: place_batch(batch, self.mesh)))
            tracker, bar = self._trackers(progress.step)
            stack.callback(tracker.close)
            stack.callback(bar.close)
            saver = hooks.SaveCheckpoint(
                training.checkpoint_every, training.checkpoint_minutes, self.checkpoints, tracker, to_dict(config)
            )
            if restored:
                saver.restored(progress)
            boundary: list[Any] = [saver]
            if self.prepared.validation and training.eval_every:
                validation = hooks.Validation(
                    training.eval_every,
                    self._validation(self.prepared.validation),
                    tracker,
                    metric=training.best_metric,
                    patience=training.early_stopping,
                )
                boundary.insert(0, validation)
            loop = Loop(
                make_train_step(
                    self.task.loss_function,
                    self.optimizer,
                    accumulate=config.memory.accumulate,
                    ema_decay=training.ema_decay,
                ),
                state,
                progress,
                feed,
                num_steps=training.num_steps,
                step_hooks=[
                    hooks.StopAtNan(self.schedule),
                    hooks.StopAtSkips(),
                    hooks.ProgressLine(bar),
                    hooks.FirstStep(process_start()),
                    hooks.Log(training.log_every, tracker, self.schedule, throughput),
                ],
                boundary_hooks=boundary,
                interruption=interruption,
                saver=saver,
                phases=phases,
                throughput=throughput,
            )
            loop.run()
            saver.save(loop)
        if progress.stopped:
            _LOGGER.info("stopped early at step %d: %s", progress.step, progress.stopped)
        if interruption.requested:
            raise Interrupted(interruption.requested, progress.step)
        return Outcome(progress, throughput.total(), self.pipeline.efficiency)

    def _start(self) -> tuple[TrainState, Progress, bool]:
        training = self.config.training
        params = self.task.init_params(training.seed)
        state = create_state(
            params,
            self.optimizer,
            seed=training.seed + 1,
            ema=training.ema_decay > 0,
            loss_scale=self.config.precision == "fp16",
        )
        state = place_replicated(state, self.mesh)
        found = self.checkpoints.restore(state)
        if found is None:
            return state, Progress(batches=self._batches()), False
        progress = Progress.from_json(found[1])
        check_same_batches(progress.batches, self._batches(), self.workdir)
        self.pipeline.set_state(progress.iterator)
        _LOGGER.info("restored step %d from %s", progress.step, self.checkpoints.directory)
        return found[0], progress, True

    def _batches(self) -> dict[str, Any]:
        """What an iterator state counts; equal where it may be restored, and as JSON gives it back."""
        shapes = [list(map(int, shape)) for shape in self.pipeline.shapes]
        lengths = 0  # of both sides of every pair: with the seed, they alone decide which records form which batch
        for data in self.prepared.variants:
            for side in (data.source_lengths, data.target_lengths):
                lengths = zlib.crc32(np.ascontiguousarray(side).data, lengths)
        return {"data": [len(self.prepared.train), lengths], "shapes": shapes}

    def _trackers(self, step: int) -> tuple[Trackers, ProgressBar]:
        monitoring = self.config.monitoring
        writer = jax.process_index() == 0
        bar = ProgressBar(self.config.training.num_steps, start=step, enabled=monitoring.progress and writer)
        if not writer:
            return Trackers([]), bar
        records = JsonlTracker(self.workdir.metrics)
        records.truncate_after(step)
        trackers: list[Tracker] = [records, bar]
        if monitoring.tensorboard:
            trackers.append(TensorBoardTracker(self.workdir.tensorboard, purge_after=step or None))
        return Trackers(trackers), bar

    def _validation(self, pairs: list[Pair]) -> Callable[[Any], Mapping[str, float]]:
        batches = self._loss_batches(pairs)
        data = self.config.data
        if batches is not None:  # a row on every device must fit, however long it is
            longest = int(max(batches.source_lengths.max(), batches.target_lengths.max()))
            data = dataclasses.replace(data, batch_tokens=max(data.batch_tokens, longest * self.mesh.size))
        translated = pairs[: self.config.training.eval_examples or None]
        translator: Any = None

        def evaluate(params: Any) -> Mapping[str, float]:
            nonlocal translator
            values = {}
            if batches is not None:
                divided = evaluation_batches(
                    batches,
                    data,
                    shard_index=jax.process_index(),
                    shard_count=jax.process_count(),
                    divisor=self.mesh.size,
                )
                values = self.task.evaluate_loss(params, divided, lambda batch: place_batch(batch, self.mesh))
            alone = first_copy(params)
            if translator is None:
                translator = self.task.translator(alone, greedily(self.config.decoding))
            self.task.update_translator(translator, alone)
            hypotheses = [found.text for found in translator.translate([pair.source for pair in translated])]
            scores = score_translations(hypotheses, translated)
            return prefixed("validation", {**values, **scores.values})

        return evaluate

    def _loss_batches(self, pairs: list[Pair]) -> TokenizedDataset | None:
        tokenizer = self.prepared.tokenizer
        sources = tokenizer.encode_source([pair.source for pair in pairs])
        targets = tokenizer.encode_target([pair.target for pair in pairs])
        longest = self.task.max_length
        fits = [(s, t) for s, t in zip(sources, targets, strict=True) if max(len(s), len(t)) <= longest]
        if len(fits) < len(pairs):
            _LOGGER.info(
                "%d validation pairs are longer than %d tokens: left out of the loss, but translated and scored",
                len(pairs) - len(fits), longest,
            )  # fmt: skip
        return TokenizedDataset.from_lists([s for s, _ in fits], [t for _, t in fits]) if fits else None
