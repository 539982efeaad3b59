"""The loop and its hooks on a model of five numbers: order, windows, interruption, divergence, early stopping."""

from __future__ import annotations

import json
import re
import signal
import time
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.config import MeshConfig, OptimizerConfig
from jaxformer.monitoring.throughput import PhaseClock, Throughput
from jaxformer.parallel.mesh import make_layout, place_batch
from jaxformer.training import hooks
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.feed import DeviceFeed, count_tokens
from jaxformer.training.interruption import Interrupted, Interruption
from jaxformer.training.loop import Loop, Progress
from jaxformer.training.optimizer import make_optimizer, make_schedule
from jaxformer.training.state import create_state
from jaxformer.training.step import Stage, make_train_step
from jaxformer.types import Batch, Mean
from tests.training.test_feed import Counter

STEPS = 23


class Recorder:
    """A tracker in memory."""

    def __init__(self) -> None:
        self.records: list[tuple[int, dict[str, Any]]] = []

    def log(self, step, metrics):
        self.records.append((step, dict(metrics)))

    def sync(self):
        pass

    def losses(self) -> dict[int, float]:
        return {step: record["train/loss"] for step, record in self.records if "train/loss" in record}


class AskAt:
    """Behaves as an `Interruption` that is asked after `step` boundaries."""

    def __init__(self, boundaries: int) -> None:
        self._left = boundaries

    @property
    def requested(self) -> int:
        self._left -= 1
        return signal.SIGTERM if self._left < 0 else 0


def _loss(params: Any, batch: Batch, seed: jax.Array) -> tuple[Mean, dict[str, Mean]]:
    noise = jax.random.uniform(jax.random.key(seed[0]), params["w"].shape)
    error = (params["w"] * noise - batch.source.tokens / 10.0) ** 2
    loss = Mean((error * batch.source.weights).sum(), batch.source.weights.sum())
    return loss, {"loss": loss}


LAYOUT = make_layout(MeshConfig(data=1))
CONFIG = OptimizerConfig(warmup_steps=5, learning_rate=0.1)
SCHEDULE = make_schedule(CONFIG, STEPS)
OPTIMIZER = make_optimizer(CONFIG, STEPS)
STEP = [Stage(0, make_train_step(_loss, OPTIMIZER, ema_decay=0.9))]


def _new_state(value: float = 1.0) -> Any:
    return create_state({"w": jnp.full(5, value)}, OPTIMIZER, seed=3, ema=True, layout=LAYOUT)


def _run(folder: Path, *, interruption: Any = None, evaluate=None, patience: int = 0, every: int = 10):
    """Trains, or continues what is in `folder`; returns the loop and the records."""
    checkpoints = Checkpoints(folder, keep=2, best_metric="validation/loss", period=every)
    tracker, pipeline = Recorder(), Counter()
    try:
        found = checkpoints.restore(_new_state())
        state, progress = (found[0], Progress.from_json(found[1])) if found else (_new_state(), Progress())
        pipeline.set_state(progress.iterator or {"index": 0})
        saver = hooks.SaveCheckpoint(every, 0.0, checkpoints, tracker, {"seed": 3})
        if found:
            saver.restored(progress)
        boundary: list[Any] = [saver]
        if evaluate is not None:
            boundary.insert(0, hooks.Validation(5, evaluate, tracker, metric="validation/loss", patience=patience))
        phases = PhaseClock()
        with DeviceFeed(pipeline, lambda batch: place_batch(batch, LAYOUT)) as feed:
            throughput = Throughput(phases)
            loop = Loop(
                STEP,
                state,
                progress,
                feed,
                num_steps=STEPS,
                step_hooks=[hooks.StopAtNan(SCHEDULE), hooks.Log(4, tracker, SCHEDULE, throughput)],
                boundary_hooks=boundary,
                interruption=interruption,
                saver=saver,
                phases=phases,
                throughput=throughput,
            )
            try:
                loop.run()
            except Interrupted as interrupted:
                return interrupted, tracker
        return loop, tracker
    finally:
        checkpoints.close()


def _ask_at_validation(step: int, interruption: Interruption) -> Any:
    """A validation that improves every time, during the one of `step` a signal arrives."""
    calls = iter(range(5, 100, 5))

    def evaluate(params):
        now = next(calls)
        if now == step:
            interruption.requested = signal.SIGTERM
        return {"validation/loss": 1.0 / now}

    return evaluate


def _leaves(state: Any) -> list[np.ndarray]:
    plain = (state.step, state.params, state.ema, state.opt_state, jax.random.key_data(state.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(plain)]


def test_the_first_step_is_told_once_with_its_time(caplog):
    hook = hooks.FirstStep(time.time() - 12.0)
    with caplog.at_level("INFO"):
        hook(7, {}, Progress())
        hook(8, {}, Progress())
    assert re.fullmatch(r"step 7 was done 12\.\d s after the start; .*", caplog.messages[0])
    assert len(caplog.messages) == 1


def test_an_interrupted_run_ends_like_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole, wanted = _run(tmp_path / "whole")
    losses: dict[int, float] = {}
    for boundaries in (3, 9, 2, 30):  # stops at steps 3, 12 and 14: inside windows, and off the regular checkpoints
        part, tracker = _run(tmp_path / "parts", interruption=AskAt(boundaries))
        losses.update(tracker.losses())
    assert isinstance(part, Loop), "the last part must have reached the end"
    assert sorted(losses) == [4, 8, 12, 16, 20, 23]
    assert losses == wanted.losses()
    for one, other in zip(_leaves(part.state), _leaves(whole.state), strict=True):
        np.testing.assert_array_equal(one, other)
    assert part.progress.iterator == whole.progress.iterator == {"index": STEPS}
    assert part.progress.tokens == whole.progress.tokens == 3 * STEPS, "of both hosts together"


def test_an_interruption_saves_the_very_step_and_carries_the_exit_code(tmp_path):
    interrupted, _ = _run(tmp_path, interruption=AskAt(7))
    assert isinstance(interrupted, Interrupted)
    assert (interrupted.step, interrupted.code) == (7, 143)
    assert str(interrupted) == "stopped by SIGTERM; saved at step 7"
    checkpoints = Checkpoints(tmp_path, read_only=True)
    run = checkpoints.run(7)
    checkpoints.close()
    assert run["step"] == 7
    assert run["iterator"] == {"index": 7}, "batches that only waited in the queue must not count"
    assert run["window"]["loss"][1] == 3 * 3, "the window holds steps 5, 6 and 7, of three tokens each"


def test_a_window_is_the_weighted_mean_of_its_steps():
    progress = Progress()
    progress.add({"loss": Mean(np.float32(6.0), np.float32(3.0))})
    progress.add({"loss": Mean(np.float32(1.0), np.float32(1.0))})
    assert Progress.from_json(json.loads(json.dumps({"window": progress.window, "x": 1}))).window == progress.window
    assert progress.take_window() == {"loss": 7.0 / 4.0}
    assert progress.window == {}


def test_what_float16_skipped_is_counted_and_in_no_mean():
    def step(loss, skipped):
        taken = np.float32(1 - skipped)
        return {"loss": Mean(np.float32(loss) * taken, taken), "skipped": Mean(np.float32(skipped), np.float32(1))}

    progress, tracker = Progress(), Recorder()
    log = hooks.Log(2, tracker, lambda step: 0.1, types.SimpleNamespace(window=dict))
    last = lambda: tracker.records[-1][1]  # noqa: E731
    for metrics in (step(0, 1), step(3, 0)):
        progress.add(metrics)
    log(2, {}, progress)
    assert (last()["train/loss"], last()["train/skipped_steps"]) == (3.0, 1)
    progress.add(step(0, 1))
    log(3, {}, progress)
    assert "train/loss" not in last()
    assert (last()["train/skipped"], last()["train/skipped_steps"]) == (1.0, 1)
    progress.add({"loss": Mean(np.float32(0), np.float32(0))})  # labels of no weight, in another precision
    log(4, {}, progress)
    assert np.isnan(last()["train/loss"])
    assert "train/skipped_steps" not in last()


def test_divergence_names_the_step_and_leaves_the_checkpoints(tmp_path):
    class Poisoned(Counter):
        def __next__(self) -> Batch:
            batch = super().__next__()
            if self.next == 13:
                batch.source.weights[:] = np.inf
            return batch

    checkpoints = Checkpoints(tmp_path)
    saver = hooks.SaveCheckpoint(5, 0.0, checkpoints, Recorder(), {})
    with DeviceFeed(Poisoned(), lambda batch: place_batch(batch, LAYOUT)) as feed:
        loop = Loop(
            STEP, _new_state(), Progress(), feed,
            num_steps=STEPS, step_hooks=[hooks.StopAtNan(SCHEDULE)], boundary_hooks=[saver],
        )  # fmt: skip
        with pytest.raises(hooks.TrainingDiverged, match=r"diverged: loss is nan at step 13 \(learning rate 0.06"):
            loop.run()
    checkpoints.wait()
    assert checkpoints.steps() == [5, 10]
    checkpoints.close()


def test_early_stopping_counts_validations_without_improvement_and_keeps_the_best(tmp_path):
    values = iter([3.0, 2.0, 2.5, 2.0, 9.0])
    loop, tracker = _run(tmp_path, evaluate=lambda params: {"validation/loss": next(values)}, patience=2)
    assert loop.progress.step == 20
    assert (loop.progress.best, loop.progress.best_step, loop.progress.stale) == (2.0, 10, 2)
    assert loop.progress.stopped == "validation/loss has not improved on 2 (step 10) in 2 validations"
    assert [step for step, record in tracker.records if "validation/loss" in record] == [5, 10, 15, 20]
    checkpoints = Checkpoints(tmp_path, best_metric="validation/loss", read_only=True)
    assert checkpoints.best_step() == 10
    checkpoints.close()
    again, _ = _run(tmp_path, evaluate=lambda params: {"validation/loss": 0.0}, patience=2)
    assert again.progress.step == 20, "a run that stopped early has ended"


def test_early_stopping_counts_on_across_a_restart(tmp_path):
    values = iter([3.0, 4.0, 4.0, 4.0])

    def evaluate(params):
        return {"validation/loss": next(values)}

    _run(tmp_path, evaluate=evaluate, patience=3, interruption=AskAt(12))
    loop, _ = _run(tmp_path, evaluate=evaluate, patience=3)
    assert (loop.progress.step, loop.progress.stale, loop.progress.best) == (20, 3, 3.0)


def test_the_last_window_is_recorded_where_training_stops_early(tmp_path):
    values = iter([3.0, 3.0, 9.0])
    loop, tracker = _run(tmp_path, evaluate=lambda params: {"validation/loss": next(values)}, patience=2)
    assert loop.progress.step == 15
    assert sorted(tracker.losses()) == [4, 8, 12, 15]
    assert loop.progress.window == {}


def test_a_first_validation_that_is_no_number_is_not_the_best_for_ever(tmp_path):
    values = iter([float("nan"), 3.0, 4.0, 4.0, 4.0])
    loop, _ = _run(tmp_path, evaluate=lambda params: {"validation/loss": next(values)})
    assert (loop.progress.best, loop.progress.best_step) == (3.0, 10)


def test_a_signal_during_validation_is_heard_right_after_it(tmp_path):
    interruption = Interruption()
    interrupted, tracker = _run(tmp_path, evaluate=_ask_at_validation(10, interruption), interruption=interruption)
    assert isinstance(interrupted, Interrupted)
    assert interrupted.step == 10
    assert tracker.records[-1] == (10, {"validation/loss": 0.1})
    checkpoints = Checkpoints(tmp_path, best_metric="validation/loss", read_only=True)
    assert checkpoints.best_step() == 10
    checkpoints.close()


def test_the_best_is_saved_even_without_regular_checkpoints(tmp_path):
    values = iter([3.0, 2.0, 2.5, 2.7, 2.6])
    _run(tmp_path, evaluate=lambda params: {"validation/loss": next(values)}, every=0)
    checkpoints = Checkpoints(tmp_path, best_metric="validation/loss", read_only=True)
    assert checkpoints.best_step() == 10
    checkpoints.close()


def test_an_interruption_before_the_first_step_says_so():
    assert str(Interrupted(signal.SIGTERM, 0)) == "stopped by SIGTERM; before the first step"


def test_a_step_saved_by_a_signal_is_saved_again_with_its_scores(tmp_path):
    _run(tmp_path, evaluate=lambda params: {"validation/loss": 1.0}, interruption=AskAt(5))
    loop, tracker = _run(tmp_path, evaluate=lambda params: {"validation/loss": 1.0})
    assert tracker.records[0] == (5, {"validation/loss": 1.0}), "the validation that was due comes first"
    checkpoints = Checkpoints(tmp_path, best_metric="validation/loss", read_only=True)
    assert checkpoints.best_step() == 5
    checkpoints.close()
    assert loop.progress.best_step == 5


def test_a_metric_that_is_not_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'validation/loss' is not measured here: choose one of validation/bleu"):
        _run(tmp_path, evaluate=lambda params: {"validation/bleu": 1.0})


def test_checkpoints_by_the_clock(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(hooks.time, "monotonic", lambda: now[0])
    saver = hooks.SaveCheckpoint(0, 10.0, None, Recorder(), {})  # type: ignore[arg-type]
    loop = Loop(STEP, None, Progress(step=3), None, num_steps=STEPS)  # type: ignore[arg-type]
    now[0] = 599.0
    assert not saver.due(loop)
    now[0] = 601.0
    assert saver.due(loop)
    saver.restored(loop.progress)
    assert not saver.due(loop), "this very step is on disk"


def test_processes_save_by_the_clock_together(monkeypatch):
    """At every tenth step, if any of them is late, whatever the clock of this one says."""
    from jax.experimental import multihost_utils

    others: list[int] = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda mine: np.array([mine, others.pop()]))
    saver = hooks.SaveCheckpoint(0, 10.0, None, Recorder(), {})  # type: ignore[arg-type]
    loop = Loop(STEP, None, Progress(step=9), None, num_steps=STEPS + 20)  # type: ignore[arg-type]
    assert not saver.due(loop), "nobody is asked"
    loop.progress.step = 10
    for late in (0, 1):
        others.append(late)
        assert saver.due(loop) == bool(late)
    assert not others
    monkeypatch.setattr(hooks.time, "monotonic", lambda: 1e12)
    others.append(0)
    assert saver.due(loop)
    loop.progress.step = 11
    assert not saver.due(loop), "the other one would not save"
    never = hooks.SaveCheckpoint(0, 0.0, None, Recorder(), {})  # type: ignore[arg-type]
    loop.progress.step = 20
    assert not never.due(loop)


def test_signals_ask_once_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        assert interruption.requested == 0
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL, "a second Ctrl-C must end the process at once"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_steps_that_compile_count_in_no_rate():
    """Two shapes: their first steps are timed as compilation, and their tokens are left out of the rates."""

    class TwoShapes(Counter):
        def __next__(self):
            batch = super().__next__()
            return batch if self.next % 2 else jax.tree.map(lambda x: np.repeat(x, 2, axis=0), batch)

    phases = PhaseClock()
    throughput = Throughput(phases)
    seen = []
    throughput.update = lambda **counts: seen.append(counts)
    progress = Progress()
    with DeviceFeed(TwoShapes(), lambda batch: place_batch(batch, LAYOUT)) as feed:
        loop = Loop(STEP, _new_state(), progress, feed, num_steps=8, phases=phases, throughput=throughput)
        loop.run()
        loop.settle()
    assert len(seen) == 6
    assert progress.tokens > sum(counts["target_tokens"] for counts in seen)


def test_a_stage_begins_at_its_step_and_counts_its_passes_and_its_compilations():
    taken: list[str] = []

    def step(name):
        def take(state, batch):
            taken.append(name)
            return STEP[0].step(state, batch)

        return take

    phases = PhaseClock()
    throughput = Throughput(phases)
    seen = []
    throughput.update = lambda **counts: seen.append(counts["flops"])
    count = lambda batch, rows: count_tokens(batch, rows) | {"flops": 7}  # noqa: E731
    stages = [Stage(0, step("early")), Stage(3, step("late"), passes=2)]
    with DeviceFeed(Counter(), lambda batch: place_batch(batch, LAYOUT), count=count) as feed:
        loop = Loop(stages, _new_state(), Progress(), feed, num_steps=6, phases=phases, throughput=throughput)
        loop.run()
        loop.settle()
    assert taken == ["early"] * 3 + ["late"] * 3
    assert seen == [7, 7, 14, 14], "the first step of each stage compiles"
    with DeviceFeed(Counter(), lambda batch: place_batch(batch, LAYOUT)) as feed:
        Loop(stages, _new_state(), Progress(step=4), feed, num_steps=6).run()
    assert taken[6:] == ["late"] * 2, "a run that is continued knows where it is"
