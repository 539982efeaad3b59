"""The folder of a sweep: which trials there are, under which names, and how each of them stands.

`sweep.json` says what all trials have in common and what each has of its own. A trial is known by its configuration: a
changed grid adds trials and finds those that are there already, whatever its fields are now called. What came of a
process is kept in the trial's own folder, `trial.json`, so that several machines may work on one sweep.
Not for running trials (`children`), nor for their scores (`outcomes`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxformer.config import Config, to_dict
from jaxformer.config.checks import as_text
from jaxformer.monitoring.durable import atomic_write, explain_disk_errors, plain
from jaxformer.training.folder_lock import WorkdirError
from jaxformer.training.sweep.grid import Fields
from jaxformer.training.workdir import MAY_DIFFER, Workdir, flat

_LONGEST_NAME = 120

FINAL = ("finished", "diverged")
"""States in which a trial is left alone: running it again would give the same."""


@dataclass(frozen=True)
class Trial:
    """One run of the sweep.

    Attributes:
      name: of its folder, `learning_rate=0.001,seed=0`.
      fields: what it has of its own, by dotted field.
      path: its workdir.
    """

    name: str
    fields: Mapping[str, Any]
    path: Path

    @property
    def log(self) -> Path:
        """Everything that its processes wrote to standard output and standard error."""
        return self.path / "log.txt"

    def state(self, *, ours: bool = False) -> tuple[str, str]:
        """(`waiting`, `running`, `stopped`, `failed`, `diverged` or `finished`, the reason if there is one).

        Args:
          ours: this process runs it just now, so that nobody need ask the file system.
        """
        workdir = Workdir(self.path)
        if workdir.result() is not None:
            return "finished", ""
        if ours or _held(self.path / ".lock"):
            return "running", ""
        ended = _read(self.path / "trial.json") or {}
        if "state" in ended:
            return str(ended["state"]), str(ended.get("reason", ""))
        return ("stopped", "its process was killed") if workdir.began else ("waiting", "")

    def ended(self, state: str, reason: str) -> None:
        """Writes down how its process ended."""
        with explain_disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        record = {"fields": self.fields, "state": state, "reason": reason}
        atomic_write(self.path / "trial.json", json.dumps(plain(record), indent=2) + "\n")

    def begins(self) -> None:
        """Forgets how its last process ended, as another one starts."""
        with explain_disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "trial.json").unlink(missing_ok=True)


@dataclass
class SweepFolder:
    """What `sweep.json` holds, and what is added to it.

    Attributes:
      path: the sweep's workdir.
      base: dotted field -> value, of a trial but for its own fields.
      trials: all there are, by name.
    """

    path: Path
    base: dict[str, Any] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, base: Mapping[str, Any]) -> SweepFolder:
        """The sweep in `path`, which may be new; writes nothing.

        Raises:
          WorkdirError: if the folder holds a single run, or its record is damaged.
          ValueError: if the sweep there has another base.
        """
        if Workdir(path).config.exists():
            raise WorkdirError(f"{path} holds a single run: choose another --workdir for the sweep")
        file = path / "sweep.json"
        if not file.exists():
            return cls(path, dict(base))
        record = _read(file)
        if record is None or not all(isinstance(record.get(part), dict) for part in ("base", "trials")):
            raise WorkdirError(f"{file} cannot be used: it is damaged; move it away to begin the table anew")
        stored = flat(to_dict(Config())) | record["base"]
        changed = {
            name: (stored.get(name), value)
            for name, value in base.items()
            if stored.get(name) != value and not name.startswith(MAY_DIFFER)
        }
        if changed:
            listed = "\n".join(f"  {name}: {old!r} -> {new!r}" for name, (old, new) in changed.items())
            raise ValueError(
                f"{path} holds a sweep with other settings (there -> now):\n{listed}\n"
                "choose another --workdir, or give the values that are there to continue that sweep"
            )
        trials = {name: Trial(name, fields, path / name) for name, fields in record["trials"].items()}
        return cls(path, dict(base), trials)

    def add(self, grid: Sequence[Fields]) -> list[Trial]:
        """The trials of `grid` in order, each found by its configuration or new; nothing is written."""
        found = {self._key(trial.fields): trial for trial in self.trials.values()}
        wanted = []
        for fields in grid:
            key = self._key(fields)
            if key not in found:
                name = self._new_name(fields)
                found[key] = self.trials[name] = Trial(name, dict(fields), self.path / name)
            wanted.append(found[key])
        return wanted

    def _key(self, fields: Mapping[str, Any]) -> str:
        return json.dumps(self.base | dict(fields), sort_keys=True)

    def _new_name(self, fields: Mapping[str, Any]) -> str:
        for names in (short_names(list(fields)), {name: name for name in fields}):
            name = _folder_name(",".join(f"{names[one]}={as_text(value)}" for one, value in fields.items()))
            if name not in self.trials:
                return name
        raise AssertionError(f"two trials named {name}")

    def keep(self) -> None:
        """Writes `sweep.json`: the trials here and those that others have added since."""
        with explain_disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self.locked():
            others = (_read(self.path / "sweep.json") or {}).get("trials", {})
            known = others | {name: trial.fields for name, trial in self.trials.items()}
            record = {"base": self.base, "trials": known}
            atomic_write(self.path / "sweep.json", json.dumps(plain(record), indent=2) + "\n")
        for name, fields in known.items():
            self.trials.setdefault(name, Trial(name, fields, self.path / name))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the files of the sweep, where the file system can: the others that work on it wait."""
        with explain_disk_errors(self.path):
            file = open(self.path / ".sweep-lock", "a")  # noqa: SIM115 (closed below)
        with file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def held_experiment(path: Path) -> str:
    """The experiment and variant that the sweep in `path` is of; empty if there is none, or its record says nothing."""
    base = (_read(path / "sweep.json") or {}).get("base")
    return str(base.get("experiment", "")) if isinstance(base, dict) else ""


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """Dotted field -> its last part (`optimizer` for `optimizer.name`), or the whole where two fields share that."""
    last = {name: name.removesuffix(".name").rpartition(".")[2] for name in fields}
    often = Counter(last.values())
    return {name: short if often[short] == 1 else name for name, short in last.items()}


def _folder_name(name: str) -> str:
    """`name` without what file systems or shells stumble over; a digest tells apart what looks alike then."""
    safe = re.sub(r"[^\w.+=,-]", "_", name, flags=re.ASCII)
    if safe == name and len(name) <= _LONGEST_NAME:
        return name
    return f"{safe[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _held(lock: Path) -> bool:
    """Whether a process holds the lock of a workdir; see `Workdir.claim`."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # others may look at the same time
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None
