"""Checkpoints by Orbax: a state, and what only the host knows, written asynchronously, completely or not at all.

One checkpoint has four items: `params`, `ema` (where one is kept), `optimizer` (its state, the step, the dropout key)
and `run` (JSON: whatever the loop needs to continue, the configuration, and the shape of every leaf). Arrays are stored
under flat names (`encoder.layers.0.kernel`), so that what is on disk depends on no class of ours.

Not for deciding when to save (`hooks`) or what the numbers mean (`loop`).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxformer.training import leaves as leaves_lib, quiet
from jaxformer.training.retention import Retention
from jaxformer.training.same_model import FORMAT, OtherModelError, check_model, shapes
from jaxformer.training.state import TrainState

_LOGGER = logging.getLogger(__name__)

_REPLACED = "replaced-"
"""Before the step of a checkpoint that another one of the same step is about to replace."""


class CheckpointError(OSError):
    """A checkpoint that cannot be written or read, with what to do about it."""


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
        self._retention = Retention(keep=keep, average=average, period=period, best_metric=best_metric)
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
        for step in self.steps():
            with contextlib.suppress(Exception):  # a damaged one is dealt with when it is restored
                self._retention.note(step, self.run(step)["metrics"])

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Orbax asks which checkpoints stay; see `Retention`."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        stay = self._retention.staying(steps)
        return [step in stay for step in steps]

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step of the checkpoint with the best `best_metric`; None when none was scored."""
        return next(iter(self._retention.best(self.steps())), None)

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
        arguments: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        scores = dict(metrics or {})
        own = {"format": FORMAT, "leaves": shapes(items), "digests": digests, "metrics": scores}
        arguments["run"] = ocp.args.JsonSave({**run, **own})
        self._retention.note(step, scores)
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
          OtherModelError: for a checkpoint of another model; see `check_model`.
          CheckpointError: if there are checkpoints, but every one is damaged.
        """
        damaged: dict[int, str] = {}
        if self.steps():
            quiet.ignore_reads_that_outlive_a_failure()
        for step in reversed(self.steps()):
            try:
                found = self._restore(step, template)
            except OtherModelError:
                raise
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
        items = leaves_lib.state_items(template)
        check_model(run, items, self._named(step))
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
          OtherModelError: for a checkpoint of another model; see `check_model`.
          CheckpointError: if it is damaged.
        """
        try:
            run = self.run(step)
            item = "ema" if "ema" in run["leaves"] else "params"
            named = leaves_lib.leaf_names(template)
            check_model(run, {item: named}, self._named(step))
            return leaves_lib.like(template, self._read(step, {item: named}, run["digests"])[item])
        except OtherModelError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"{self._named(step)} cannot be read ({error}): "
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

    def _named(self, step: int) -> str:
        return f"the checkpoint of step {step} in {self.directory}"

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
