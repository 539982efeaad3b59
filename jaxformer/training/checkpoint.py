"""Checkpoints by Orbax: a state, and what only the host knows, written asynchronously, completely or not at all.

One checkpoint has four items: `params`, `ema` (where one is kept), `optimizer` (its state, the step, the dropout key)
and `run` (JSON: whatever the loop needs to continue, the configuration, and the shape of every leaf). Arrays are stored
under flat names (`encoder.layers.0.kernel`), so that what is on disk depends on no class of ours.

Not for deciding when to save (`hooks`) or what the numbers mean (`loop`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxformer.training import leaves as leaves_lib
from jaxformer.training import quiet
from jaxformer.training.state import TrainState

_LOGGER = logging.getLogger(__name__)


_FORMAT = 2
"""Of what parameters mean: raise it when equal shapes come to mean something else, as when columns change places."""

_REMEDY = (
    "give the model settings it was trained with, use the version of jaxformer that wrote it, or choose another "
    "--workdir"
)
"""For a checkpoint whose arrays are others."""

_REPLACED = "replaced-"
"""Before the step of a checkpoint that another one of the same step is about to replace."""


class CheckpointError(OSError):
    """A checkpoint that cannot be written or read, with what to do about it."""


def regular_steps(steps: Sequence[int], period: int) -> list[int]:
    """Those of `steps` that do not depend on the clock or on signals: multiples of `period`, and the last one."""
    return [step for step in steps if (period and step % period == 0) or step == steps[-1]]


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of `metric` is the better one: true for losses and errors."""
    return metric.endswith(("loss", "nll", "perplexity", "mse", "mae", "error", "brier"))


def best_of(scores: Mapping[int, float], metric: str) -> int:
    """The step with the best score; of equals, the earliest; one that is no finite number is worse than any."""
    sign = 1.0 if lower_is_better(metric) else -1.0
    return min(scores, key=lambda step: (not math.isfinite(scores[step]), sign * scores[step], step))


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: where they are; created when the first one is written.
      keep: how many of the newest stay.
      average: how many regular ones stay for averaging.
      period: the regular distance in steps, which makes a checkpoint a regular one.
      best_metric: the metric whose best checkpoint stays as well.
      read_only: nothing is written or removed: for reading beside a process that trains.

    `directory` of a run that was killed may hold an unfinished checkpoint: it is not seen, and removed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 3,
        average: int = 0,
        period: int = 0,
        best_metric: str = "",
        read_only: bool = False,
    ) -> None:
        import orbax.checkpoint as ocp

        logging.getLogger("absl").addFilter(quiet.not_orbax_chatter)
        self.directory = Path(directory).absolute()
        if not read_only:
            self._finish_replacing()
        self._keep, self._average, self._period = keep, average if average > 1 else 0, period
        self._metric = best_metric
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self,
            cleanup_tmp_directories=self.directory.exists() and not read_only,
            enable_async_checkpointing=True,
            read_only=read_only,
        )
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._scores: dict[int, float] = {}
        for step in self.steps():
            with contextlib.suppress(Exception):  # a damaged one is dealt with when it is restored
                self._note_score(step, self.run(step)["metrics"])

    def _note_score(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._metric in metrics:
            self._scores[step] = metrics[self._metric]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Orbax asks which checkpoints stay: the newest, the newest regular ones when averaging, and the best."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        stay = set(steps[-self._keep :])
        stay.update(regular_steps(steps, self._period)[-self._average :] if self._average else [])
        stay.update(self._best(steps))
        return [step in stay for step in steps]

    def _best(self, steps: Sequence[int]) -> list[int]:
        scores = {step: self._scores[step] for step in steps if step in self._scores}
        return [best_of(scores, self._metric)] if scores else []

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step of the checkpoint with the best `best_metric`; None when none was scored."""
        return next(iter(self._best(self.steps())), None)

    def save(
        self,
        step: int,
        state: TrainState,
        run: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        *,
        replace: bool = False,
    ) -> None:
        """Starts to write a checkpoint and returns as soon as the arrays have been copied.

        Args:
          step: steps taken.
          state: may be donated to the next step as soon as this returns.
          run: JSON values to come back with it.
          metrics: of the validation made at this very step, if one was.
          replace: there may be one of this step, which stays until the new one is complete; this waits for that.

        Raises:
          CheckpointError: if this one cannot be written, or the one before could not be finished.
        """
        import orbax.checkpoint as ocp

        items = leaves_lib.state_items(state)
        # On the CPU a "copy to the host" is the device's own memory, which the next step would overwrite.
        items, digests = leaves_lib.digest(items, copy=jax.default_backend() == "cpu")
        leaves = {item: {name: [*leaf.shape] for name, leaf in tree.items()} for item, tree in items.items()}
        arguments: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        scores = dict(metrics or {})
        own = {"format": _FORMAT, "leaves": leaves, "digests": digests, "metrics": scores}
        arguments["run"] = ocp.args.JsonSave({**run, **own})
        self._note_score(step, scores)
        replaced = replace and step in self.steps()
        if replaced:
            self._rename(str(step), f"{_REPLACED}{step}")
        try:
            self._manager.save(step, args=ocp.args.Composite(**arguments), force=True)
        except Exception as error:
            raise self._cannot_write(error) from error
        if replaced:
            self.wait()
            self._finish_replacing()

    def _finish_replacing(self) -> None:
        """Removes what has been replaced, and brings back what was to be replaced and never was."""
        if jax.process_index() == 0:
            for old in self.directory.glob(f"{_REPLACED}*"):
                place = self.directory / old.name.removeprefix(_REPLACED)
                if place.exists():
                    shutil.rmtree(old, ignore_errors=True)
                else:
                    old.rename(place)
        _wait_for_all("replaced")

    def restore(self, template: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest checkpoint that can be read, or None if there is none.

        A damaged one is put aside, under the name `damaged-STEP`, with a warning that says why, and the one before is
        taken. Where none can be read, all stay where they are: the cause may be another one, and pass.

        Args:
          template: a state (or `ShapeDtypeStruct`s with shardings) of the shapes to restore to.

        Raises:
          ValueError: for a checkpoint of another model, naming the first leaf that differs.
          CheckpointError: if there are checkpoints, but every one is damaged.
        """
        damaged: dict[int, str] = {}
        if self.steps():
            quiet.ignore_reads_that_outlive_a_failure()
        for step in reversed(self.steps()):
            try:
                found = self._restore(step, template)
            except _OtherShape as error:
                raise ValueError(str(error)) from None
            except Exception as error:
                damaged[step] = " ".join(str(error).split(" See full")[0].split())[:300] or type(error).__name__
                continue
            for worse, reason in damaged.items():
                kept = self._put_aside(worse)
                _LOGGER.warning("the checkpoint of step %d is damaged (%s); it is now %s", worse, reason, kept)
            return found
        if damaged:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
            raise CheckpointError(
                f"no checkpoint in {self.directory} can be read ({reasons}): "
                "restore one from a backup, or choose another --workdir to train again"
            )
        return None

    def _restore(self, step: int, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        run = self.run(step)
        self._check_format(step, run)
        items = leaves_lib.state_items(template)
        for item, tree in items.items():
            self._check_shapes(step, item, tree, run["leaves"])
        return leaves_lib.state_from_items(template, self._read(step, items, run["digests"])), run

    def run(self, step: int) -> dict[str, Any]:
        """The JSON part of one checkpoint."""
        import orbax.checkpoint as ocp

        return dict(self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"])

    def newest_run(self) -> dict[str, Any] | None:
        """The JSON part of the newest checkpoint that has a readable one; None if there is none."""
        for step in reversed(self.steps()):
            with contextlib.suppress(Exception):  # a damaged one is dealt with when it is restored
                return self.run(step)
        return None

    def restore_params(self, step: int, template: Any) -> Any:
        """The parameters to evaluate from the checkpoint of `step`: the moving average where one was kept.

        Raises:
          ValueError: for a checkpoint of another model, naming the first leaf that differs.
          CheckpointError: if it is damaged.
        """
        try:
            run = self.run(step)
            self._check_format(step, run)
            item = "ema" if "ema" in run["leaves"] else "params"
            named = leaves_lib.leaf_names(template)
            self._check_shapes(step, item, named, run["leaves"])
            return leaves_lib.like(template, self._read(step, {item: named}, run["digests"])[item])
        except _OtherShape as error:
            raise ValueError(str(error)) from None
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint of step {step} in {self.directory} cannot be read ({error}): "
                "restore it from a backup, or choose another --workdir to train again"
            ) from error

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          CheckpointError: if a checkpoint could not be finished.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._cannot_write(error) from error

    def close(self) -> None:
        """Waits, then stops the background threads."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def _read(self, step: int, items: leaves_lib.Items, digests: Mapping[str, Mapping[str, int]]) -> leaves_lib.Items:
        import orbax.checkpoint as ocp

        arguments = {
            item: ocp.args.StandardRestore({name: leaves_lib.abstract(leaf) for name, leaf in tree.items()})
            for item, tree in items.items()
        }
        restored = self._manager.restore(step, args=ocp.args.Composite(**arguments))
        found = {item: restored[item] for item in items}
        for item, tree in leaves_lib.digest(found)[1].items():
            for name, value in tree.items():
                if digests[item][name] != value:
                    raise CheckpointError(f"{item}.{name} is not what was written: its checksum differs")
        return found

    def _check_format(self, step: int, run: Mapping[str, Any]) -> None:
        if run.get("format", 1) != _FORMAT:
            raise _OtherShape(
                f"the checkpoint of step {step} in {self.directory} was written by another version of jaxformer, whose "
                "parameters are laid out otherwise: use that version, or train again in another --workdir"
            )

    def _check_shapes(self, step: int, item: str, tree: Mapping[str, Any], leaves: Mapping[str, Any]) -> None:
        saved = leaves.get(item, {})
        where = f"the checkpoint of step {step} in {self.directory} is of another model"
        for name, leaf in tree.items():
            here, there = tuple(leaf.shape), tuple(saved[name]) if name in saved else None
            if here != there:
                has = "is not in it" if there is None else f"has shape {there} there"
                raise _OtherShape(f"{where}: {item}.{name} {has} and shape {here} here; {_REMEDY}")
        extra = next((name for name in saved if name not in tree), None)
        if extra is not None:
            shape = tuple(saved[extra])
            raise _OtherShape(f"{where}: {item}.{extra} of shape {shape} is there and not here; {_REMEDY}")

    def _put_aside(self, step: int) -> Path:
        kept, number = f"damaged-{step}", 1
        while (self.directory / kept).exists():
            number += 1
            kept = f"damaged-{step}-{number}"
        _wait_for_all("named")
        self._rename(str(step), kept)
        return self.directory / kept

    def _rename(self, old: str, new: str) -> None:
        if jax.process_index() == 0:
            (self.directory / old).rename(self.directory / new)
        _wait_for_all("renamed")
        self._manager.reload()

    def _cannot_write(self, error: Exception) -> CheckpointError:
        full = any(sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "No space left", "Disk quota"))
        reason, remedy = ("the disk is full", "free some space") if full else (str(error), "put that right")
        return CheckpointError(
            f"cannot write a checkpoint to {self.directory}: {reason}; the ones before it are kept: {remedy}, then run "
            "the same command to continue, or choose another --workdir"
        )


def _wait_for_all(what: str) -> None:
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"checkpoints {what}")


class _OtherShape(Exception):
    """A checkpoint of another model."""
