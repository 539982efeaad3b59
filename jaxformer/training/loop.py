"""The training loop: its order, and the values that only the host knows.

    [evaluation, checkpoint if due] -> next batch -> step -> hooks -> again, until the last step

Restoring comes before it and the final evaluation after it, both in `entry`. The loop runs ahead of the device by a few
steps: metrics are fetched once they are old enough to be finished, so that the device never waits for the host. Nothing
goes from the host to the device in the loop's thread, which JAX's transfer guard holds to that: batches come placed by
the feed's thread. Not for what happens on the way: that is `hooks`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from jaxformer.monitoring.throughput import TRAINING_PHASES, PhaseClock, Throughput
from jaxformer.training.feed import DeviceFeed
from jaxformer.training.interruption import Interrupted, Interruption
from jaxformer.training.state import TrainState
from jaxformer.training.step import Stage
from jaxformer.types import Mean

LAG = 2
"""Steps the host may be ahead of the newest metrics it has seen."""


@dataclasses.dataclass
class Progress:
    """What a run knows besides its `TrainState`; saved with every checkpoint as JSON, whose floats come back exactly.

    Attributes:
      step: steps taken.
      iterator: the data iterator's state after them.
      batches: what that state counts: the prepared data and the shapes of its batches.
      window: sums and weights of every metric since the last record of the log.
      tokens: real target tokens trained on so far, by all processes together; of an encoder, those of its inputs.
      evaluated: the step of the last validation, 0 for none.
      scores: what that validation found.
      best: the best value of the watched metric so far; None before the first.
      best_step: where that was.
      stale: validations since then.
      stopped: why training ended before its last step; empty while it has not.
      seconds: of training so far, with waiting for data, without compiling, evaluation and checkpoints.
    """

    step: int = 0
    iterator: dict[str, int] = dataclasses.field(default_factory=dict)
    batches: dict[str, Any] = dataclasses.field(default_factory=dict)
    window: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    tokens: int = 0
    evaluated: int = 0
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    stopped: str = ""
    seconds: float = 0.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Progress:
        """From what `dataclasses.asdict` made; other entries are left alone."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    def add(self, metrics: Mapping[str, Mean]) -> None:
        """Adds one step's metrics, which are on the host, to the window."""
        for name, mean in metrics.items():
            total = self.window.setdefault(name, [0.0, 0.0])
            total[0] += float(mean.sum)
            total[1] += float(mean.weight)

    def take_window(self) -> dict[str, float]:
        """The means over the window, which then begins anew.

        Steps that float16 skipped count in none of them but `skipped`, their share; a window of nothing else has no
        loss.
        """
        float16 = "skipped" in self.window
        means = {
            name: total / weight if weight else float("nan")
            for name, (total, weight) in self.window.items()
            if weight or not float16
        }
        self.window = {}
        return means


class _Pending(NamedTuple):
    """A step that has been dispatched: its metrics on the device, its counts, and whether they count in rates."""

    step: int
    metrics: Any
    counts: dict[str, float]
    timed: bool


class StepHook(Protocol):
    """Called after every `every`-th step, and after the last, as soon as that step's metrics are known."""

    every: int

    def __call__(self, step: int, metrics: Mapping[str, Mean], progress: Progress) -> None:
        """Sees the metrics of `step`; `progress.window` ends with it, the rest of `progress` may be ahead."""


class BoundaryHook(Protocol):
    """Called between two steps, when it is due and everything before is known."""

    every: int
    phase: str

    def due(self, loop: Loop) -> bool:
        """Whether it wants to be called now; must be cheap."""

    def __call__(self, loop: Loop) -> None:
        """Acts on `loop.state` and `loop.progress`."""


class Saver(Protocol):
    """What the loop calls when it must stop: saves unless this very step has been saved."""

    def save(self, loop: Loop) -> None:
        """Saves the state and the progress of `loop`, and returns when that is safe."""


def _between_steps() -> contextlib.AbstractContextManager[None]:
    """What happens between steps may place what it needs, such as its own batches, but must say so.

    Several processes agree on a save by messages, which JAX puts on devices without saying so.
    """
    return jax.transfer_guard_host_to_device("disallow" if jax.process_count() == 1 else "allow")


def agreed(mine: int, step: int) -> int:
    """The largest `mine` of all processes, which must ask together; 0 but every tenth step, for it costs a message."""
    if jax.process_count() == 1:
        return mine
    if step % 10:
        return 0
    from jax.experimental import multihost_utils

    with jax.transfer_guard_host_to_device("allow"):  # the message, one number
        return int(multihost_utils.process_allgather(mine).max())


class Loop:
    """Steps until `num_steps`, an early stop, or an interruption.

    Args:
      stages: the jitted step of each part of training, in their order; the state that a step is given is donated.
      state: to start from, at `progress.step`.
      progress: to start from; changed in place.
      feed: batches from `progress.iterator` on.
      num_steps: the last step.
      step_hooks: see `StepHook`.
      boundary_hooks: see `BoundaryHook`, in the order in which they are asked.
      interruption: asked between two steps.
      saver: called before `Interrupted` is raised.
      phases: divides the wall time.
      throughput: counts tokens.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        state: TrainState,
        progress: Progress,
        feed: DeviceFeed,
        *,
        num_steps: int,
        step_hooks: Sequence[StepHook] = (),
        boundary_hooks: Sequence[BoundaryHook] = (),
        interruption: Interruption | None = None,
        saver: Saver | None = None,
        phases: PhaseClock | None = None,
        throughput: Throughput | None = None,
    ) -> None:
        self.state, self.progress, self.num_steps = state, progress, num_steps
        self._stages, self._feed = stages, feed
        self._step_hooks, self._boundary_hooks = step_hooks, boundary_hooks
        self._interruption, self._saver = interruption, saver
        self._pending: collections.deque[_Pending] = collections.deque()
        self._phases = phases or PhaseClock()
        self._throughput = throughput or Throughput(self._phases)
        self._seen: tuple[int, Any] | None = None  # the newest step whose metrics are known
        self._compiled: set[Any] = set()
        self._seconds_before = progress.seconds

    @property
    def done(self) -> bool:
        """Whether there is no further step."""
        return self.progress.step >= self.num_steps or bool(self.progress.stopped)

    def run(self) -> None:
        """Runs to the end.

        Raises:
          Interrupted: if a signal asked for it; the state has been saved.
        """
        with jax.transfer_guard_host_to_device("disallow_explicit"):
            self._run()

    def _run(self) -> None:
        while True:
            self._boundary()
            if self.done:
                return
            with self._phases.phase("data_wait"):
                fed = next(self._feed)
            stage = max((stage for stage in self._stages if stage.start <= self.progress.step), key=lambda x: x.start)
            phase = self._phase(stage, fed.batch)
            compiles = phase == "compile"
            if compiles:  # its time and its tokens belong to no rate; those of the steps before it do
                with self._phases.phase("step"):
                    self.settle()
            with self._phases.phase(phase):
                with jax.transfer_guard("disallow"):
                    self.state, metrics = stage.step(self.state, fed.batch)
                self.progress.step += 1
                self.progress.iterator = fed.iterator
                jax.tree.map(lambda x: x.copy_to_host_async(), metrics)
                counts = fed.counts | {"flops": fed.counts.get("flops", 0) * stage.passes}
                self._pending.append(_Pending(self.progress.step, metrics, counts, not compiles))
                self.settle(0 if compiles else LAG)

    def _phase(self, stage: Stage, batch: Any) -> str:
        kind = (stage.start, *(leaf.shape for leaf in jax.tree.leaves(batch)))
        known = kind in self._compiled
        self._compiled.add(kind)
        return "step" if known else "compile"

    def settle(self, lag: int = 0) -> None:
        """Fetches the metrics of all but the last `lag` steps and shows them to the step hooks."""
        while len(self._pending) > lag:
            step, metrics, counts, timed = self._pending.popleft()
            fetched = jax.device_get(metrics)
            self.progress.add(fetched)
            self.progress.tokens += int(counts["target_tokens"] or counts["source_tokens"])
            if timed:
                self._throughput.update(**counts)
            for hook in self._step_hooks:
                if step % hook.every == 0 or step == self.num_steps:
                    hook(step, fetched, self.progress)
            self._seen = (step, fetched)

    def _boundary(self) -> None:
        self._stop_if_asked()
        for hook in self._boundary_hooks:
            if hook.due(self):
                self._pause()
                with self._phases.phase(hook.phase), _between_steps():
                    hook(self)
                if self.progress.stopped:
                    self._finish_window()
                self._stop_if_asked()  # an evaluation takes long enough to be asked during it

    def _stop_if_asked(self) -> None:
        """Saves and raises `Interrupted` if a signal came and there are steps left."""
        if self._interruption is not None and self._asked_to_stop(self._interruption) and not self.done:
            self._pause()
            if self._saver is not None:
                with _between_steps():
                    self._saver.save(self)
            raise Interrupted(self._interruption.requested, self.progress.step)

    def _finish_window(self) -> None:
        """Shows the last step to those hooks that have not seen it, because nobody knew that it would be the last."""
        if self._seen is not None:
            step, metrics = self._seen
            self._seen = None
            for hook in self._step_hooks:
                if step % hook.every and step != self.num_steps:
                    hook(step, metrics, self.progress)

    def _pause(self) -> None:
        with self._phases.phase("step"):
            self.settle()
        seconds = self._phases.seconds()
        self.progress.seconds = self._seconds_before + sum(seconds.get(phase, 0.0) for phase in TRAINING_PHASES)

    def _asked_to_stop(self, interruption: Interruption) -> bool:
        # Every process must stop at the same step, whichever got the signal.
        requested = agreed(interruption.requested, self.progress.step)
        if requested and not interruption.requested:
            interruption.requested = requested  # of another process
        return requested != 0
