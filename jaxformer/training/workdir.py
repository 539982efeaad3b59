"""The folder of one run: who may write to it, what it holds, and whether its run is finished.

A `Workdir` is claimed by one process at a time, belongs to one configuration for life, and is finished once
`result.json` is there.
Not for how a folder is held (`folder_lock`), nor for the content of checkpoints (`training.checkpoint`) or metrics
records (`monitoring.trackers`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxformer.config import Config, DataConfig, from_dict, replace, to_dict
from jaxformer.config.data import OF_FOUND_DATA
from jaxformer.config_reference import as_given
from jaxformer.monitoring.durable import atomic_write, explain_disk_errors, plain
from jaxformer.monitoring.machine import environment
from jaxformer.paths import expanded
from jaxformer.training.folder_lock import WorkdirError, held

MAY_DIFFER = (
    "monitoring.", "profile.", "data.num_threads", "data.prefetch", "data.cache_dir", "training.keep_checkpoints",
    "training.checkpoint_minutes", "mesh.", "memory.", "plan.", "decoding.processes",
)
"""Fields that change neither the model nor, but for rounding, any number of a run: it may be continued with others."""

EVALUATION_MAY_SET = (
    "decoding.", "monitoring.", "mesh.", "data.source", "data.path", "data.name", "data.validation", "data.test",
    "data.references", "data.cache_dir", "data.num_threads", "data.prefetch",
)
"""What `evaluate` and `predict` may set: how to decode, where things are, nothing that was trained."""


class Workdir:
    """Paths of a run's folder, and the operations that keep it consistent.

    Constructing one touches nothing on disk.

    Attributes:
      path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = expanded(path)

    @property
    def config(self) -> Path:
        """The resolved configuration, enough to repeat the run."""
        return self.path / "config.json"

    @property
    def plan(self) -> Path:
        """What the planner has settled, if the configuration left it something: see `planner.record`."""
        return self.path / "plan.json"

    @property
    def attention_table(self) -> Path:
        """The measurements that choose the implementation of attention, if `model.attention_table` gave some."""
        return self.path / "attention.json"

    @property
    def profile(self) -> Path:
        """A trace for xprof, if `profile.num_steps` asked for one."""
        return self.path / "profile"

    @property
    def metrics(self) -> Path:
        """One JSON object a record."""
        return self.path / "metrics.jsonl"

    @property
    def result_file(self) -> Path:
        """Final metrics, throughput and environment."""
        return self.path / "result.json"

    @property
    def tokenizer(self) -> Path:
        """The sentencepiece model (the source's, when there are two)."""
        return self.path / "tokenizer.model"

    @property
    def facts(self) -> Path:
        """What a run that does not translate knows besides its parameters: names of labels, statistics; JSON."""
        return self.path / "facts.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def predictions(self) -> Path:
        """The folder of translations, or of other predictions."""
        return self.path / "predictions"

    @property
    def report(self) -> Path:
        """The folder of pictures and tables for a person."""
        return self.path / "report"

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    @property
    def began(self) -> bool:
        """Whether a run made its first step here. Until then, the folder belongs to no configuration."""
        recorded = self.metrics.exists() and self.metrics.stat().st_size > 0
        return recorded or any(self.checkpoints.glob("*"))

    @contextlib.contextmanager
    def claim(self, config: Config) -> Iterator[Workdir]:
        """Holds the folder for this process and this configuration; creates it and writes `config.json` if it is new.

        The lock belongs to the process: it vanishes with it, even on `kill -9`. What binds the folder to the
        configuration goes again if the block fails before training began, and so does what a killed run left of that.

        Raises:
          WorkdirError: if another process holds it.
          DiskError: if it cannot be written, or the disk is full.
          ValueError: if it holds a run of another configuration, naming the fields that differ.
        """
        with explain_disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with held(self.path):
            if self.config.exists():
                self.load_config()  # whatever else may be in the folder of another program, this is refused
                if self.began:
                    self.check_config(config)
                else:
                    self._unbind(self._binding)
            new = [file for file in (*self._binding, self.plan) if not file.exists()]
            if not (self.began and config.left_open):  # until the planner has completed it, what is there stays
                self.keep_config(config)
            try:
                yield self
            except BaseException:  # Ctrl-C while data is prepared, too
                if not self.began:
                    self._unbind(new)
                raise

    def check_trained(self, *files: Path) -> None:
        """Refuses a folder without `files`, which a trained run has.

        Raises:
          FileNotFoundError: naming what is missing.
        """
        for needed in files:
            if not needed.exists():
                remedy = f"{self.path} holds no trained run; train it first"
                if self.result_file.exists():
                    remedy = f"the run in {self.path} had it when it ended; bring it back or train in another folder"
                raise FileNotFoundError(f"{needed} is not there: {remedy}")

    def keep_config(self, config: Config) -> None:
        """Writes `config.json`, by the process that holds the folder."""
        atomic_write(self.config, json.dumps(to_dict(config), indent=2) + "\n")

    @property
    def _binding(self) -> list[Path]:
        """Files that bind the folder to one run."""
        return [self.config, self.tokenizer, self.facts, self.attention_table]

    def _unbind(self, files: list[Path]) -> None:
        with explain_disk_errors(self.path):
            for file in files:
                file.unlink(missing_ok=True)

    def check_config(self, config: Config) -> None:
        """Refuses to continue the run that began here with another configuration: `ValueError`, naming what differs."""
        changed = differences(self.load_config(), config)
        changed = {field: pair for field, pair in changed.items() if not field.startswith(MAY_DIFFER)}
        if changed:
            listed = "\n".join(f"  {field}: {old!r} -> {new!r}" for field, (old, new) in changed.items())
            raise ValueError(
                f"{self.path} holds a run of another configuration (there -> now):\n{listed}\n"
                "choose another --workdir, or give the values that are there to continue that run"
            )

    def load_config(self) -> Config:
        """The configuration in `config.json`.

        Raises:
          WorkdirError: if there is none, or it is damaged or of another version.
        """
        try:
            return from_dict(json.loads(self.config.read_text(encoding="utf-8")))
        except FileNotFoundError:
            what = "is not there" if not self.path.exists() else "holds no config.json"
            raise WorkdirError(f"workdir {self.path} {what}: {self._where_to_look()}") from None
        except NotADirectoryError:
            raise WorkdirError(f"workdir {self.path} is a file, not a folder: give the folder of a run") from None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise WorkdirError(f"{self.config} cannot be used: {error}; choose another --workdir") from None

    def _where_to_look(self) -> str:
        siblings = sorted(str(found.parent) for found in self.path.parent.glob("*/config.json"))
        trained = f"there are {', '.join(siblings)}; or " if siblings else ""
        return (
            f"{trained}train one with `python run.py --experiment=NAME --workdir={shlex.quote(str(self.path))}` "
            "(`python run.py --list` shows the experiments)"
        )

    def result(self) -> dict[str, Any] | None:
        """What `write_result` wrote if the run is finished, else None."""
        try:
            found = json.loads(self.result_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):  # torn, or no text
            return None
        return found if isinstance(found, dict) else None

    def write_result(self, metrics: Mapping[str, Any], **details: Any) -> dict[str, Any]:
        """Marks the run as finished, atomically: `metrics`, `details` (throughput, ...) and the environment."""
        record = {
            "metrics": dict(metrics),
            **details,
            "environment": environment(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        atomic_write(self.result_file, json.dumps(plain(record), indent=2) + "\n")
        return record


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted field -> (old value, new value), for every field in which two configurations differ."""
    before, after = flat(to_dict(old)), flat(to_dict(new))
    return {field: (before[field], after[field]) for field in after if before[field] != after[field]}


def evaluation_may_set(field: str) -> bool:
    """Whether the dotted `field`, or its whole section, is in `EVALUATION_MAY_SET`."""
    return field in EVALUATION_MAY_SET or f"{field.partition('.')[0]}." in EVALUATION_MAY_SET


def evaluation_config(workdir: Workdir, overrides: Mapping[str, Any]) -> Config:
    """The configuration a run was trained with, and those `overrides` that `EVALUATION_MAY_SET`.

    Raises:
      ValueError: for an override that would change what was trained, or that its data has no use for.
    """
    stored = workdir.load_config()
    for field, value in overrides.items():
        if not evaluation_may_set(field):
            raise ValueError(
                f"{as_given(field, value)} cannot be set when evaluating or predicting: the run in {workdir.path} was "
                f"trained with its own; what can be set: {', '.join(name.rstrip('.') for name in EVALUATION_MAY_SET)}"
            )
    return replace(stored, _of_other_data(stored.data, overrides))


def _of_other_data(stored: DataConfig, overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """`overrides`, and where they name another source, nothing left of where the data of training lay.

    Raises:
      ValueError: for bundled data in the place of a person's, or the name of a TFDS set that would not be read.
    """
    source = overrides.get("data.source", stored.source)
    if overrides.get("data.name") and source != "tfds":
        raise ValueError(f"data.name names a TFDS set, and data.source={source}: set --config.data.source=tfds too")
    if source == stored.source:
        return overrides
    if source == "bundled":
        raise ValueError(
            f"--config.data.source=bundled: a run trained with {stored.source} is not scored on generated data: "
            "leave it out"
        )
    return {f"data.{field}": "" for field in OF_FOUND_DATA} | {"data.num_examples": 0} | dict(overrides)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value, of nested mappings such as `to_dict(config)`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return found
