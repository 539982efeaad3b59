"""Every field of the configuration by its dotted name: type, default and description, read from `jaxformer.config`.

For help on the command line and for `docs/configuration.md`, which `python -m jaxformer.config_reference` writes. Not
for values of a run, and not for checking them.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxformer.config import Config, nearest
from jaxformer.config.checks import as_text


@dataclasses.dataclass(frozen=True)
class Field:
    """One leaf of the configuration.

    Attributes:
      name: dotted, `training.num_steps`.
      type: `int`, `float`, `bool` or `str`.
      default: its plain value.
      description: from the docstring of its section.
    """

    name: str
    type: str
    default: Any
    description: str


def fields(config: Any = None, prefix: str = "") -> dict[str, Field]:
    """Dotted name -> `Field`, in the order of `jaxformer.config`; the fields of `Config` itself come first."""
    config = Config() if config is None else config
    descriptions = attributes(type(config))
    leaves: dict[str, Field] = {}
    nested: dict[str, Field] = {}
    for field in dataclasses.fields(config):
        name, value = f"{prefix}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            nested.update(fields(value, f"{name}."))
        else:
            leaves[name] = Field(name, type(value).__name__, value, descriptions.get(field.name, ""))
    return leaves | nested


def attributes(cls: type) -> dict[str, str]:
    """Field -> description, from the `Attributes:` part of a docstring; `a, b: text` describes both."""
    _, _, text = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")
    descriptions: dict[str, str] = {}
    for entry in re.split(r"\n(?=  \w)", text):
        names, colon, description = entry.strip().partition(": ")
        if colon:
            for name in names.split(", "):
                descriptions[name] = " ".join(description.split())
    return descriptions


def check_name(name: str) -> None:
    """Refuses a dotted `name` that is no field of the configuration.

    Raises:
      ValueError: listing the fields of its section, with the nearest name of all.
    """
    known = [field for field in fields() if field != "experiment"]
    if name in known:
        return
    section, _, last = name.partition(".")
    inside = [field.partition(".")[2] for field in known if field.startswith(f"{section}.")]
    if inside and not last:
        auto = f", or left to the planner, --config.{section}=auto" if section in _AUTOMATIC else ""
        raise ValueError(f"config section {section!r} is set field by field, --config.{section}.FIELD=VALUE{auto}: "
                         f"its fields are {', '.join(inside)}.")
    # A field named without its section, or in the wrong one, is nearer than one with a like name.
    same = [field for field in known if field.rpartition(".")[2] == name.rpartition(".")[2]]
    close = same or difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    if inside:
        raise ValueError(f"unknown config field {name!r}: section {section!r} has {', '.join(sorted(inside))}.{hint}")
    sections = sorted({field.partition(".")[0] for field in known})
    raise ValueError(f"unknown config field {name!r}: the sections are {', '.join(sections)}.{hint}")


_AUTOMATIC = {"mesh": "mesh.auto=true", "data.batch_tokens": "data.batch_tokens=0"}
"""What `--config.NAME=auto` stands for."""


def checked_flags(arguments: Sequence[str]) -> list[str]:
    """Command line arguments, refused if they set what is no field, and `auto` in them put as the field's own value.

    Raises:
      ValueError: see `check_name`; also for a file, or another value, in place of a field.
    """
    joined: list[str] = []
    for argument in arguments:
        before = re.fullmatch(r"--?config\.([^=]*)", joined[-1]) if joined else None
        if argument == "auto" and before and before[1] in _AUTOMATIC:  # `--config.mesh auto`, as absl would take it
            joined[-1] += "=auto"
        else:
            joined.append(argument)
    return list(map(_checked_flag, joined))


def _checked_flag(argument: str) -> str:
    match = re.match(r"--?(?:no)?config(?:\.([^=]*))?(?:=(.*)|$)", argument, re.DOTALL)
    if match and match[2] == "auto" and match[1] in _AUTOMATIC:
        return f"--config.{_AUTOMATIC[match[1]]}"
    if match and not match[1]:
        raise ValueError(
            f"{argument} sets nothing: no file is read, every field is set by its name, --config.SECTION.FIELD=VALUE; "
            "--help lists them"
        )
    if match:
        check_name(match[1])
    return argument


def as_given(name: str, value: Any) -> str:
    """The flag that sets the field `name` to `value`, with `auto` where that stands for it."""
    given = f"{name}={as_text(value)}"
    automatic = {meaning: f"{short}=auto" for short, meaning in _AUTOMATIC.items()}
    return f"--config.{automatic.get(given, given)}"


def refused(error: Exception, known_flags: Iterable[str]) -> ValueError:
    """What to tell a person of absl's `flags.Error`: the nearest flag, or what a field takes."""
    if unknown := getattr(error, "flagname", ""):
        return ValueError(f"unknown flag --{unknown}: {nearest(unknown.partition('.')[0], ('config', *known_flags))}")
    if match := re.match(r"Missing value for flag --(\S+)", str(error)):
        return ValueError(f"--{match[1]} needs a value: write --{match[1]}=VALUE; --help says what it takes")
    match = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error), re.DOTALL)
    return ValueError(f"--config.{match[1]} takes {takes(match[1])}, got {match[2]!r}" if match else str(error))


def takes(name: str) -> str:
    """What the field `name` takes, in words: `a whole number`, `true or false`, ..."""
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    return words[fields()[name].type] + (" or auto" if name in _AUTOMATIC else "")


def overview(flags: Mapping[str, str]) -> str:
    """For `--help`: `flags` with what each is for, and the fields by section in a few lines."""
    lines = [f"  --{name:<14} {text}" for name, text in flags.items()]
    lines += ["", "Configuration, --config.SECTION.FIELD=VALUE (docs/configuration.md says what each means):"]
    for section, members in _by_section().items():
        names = ", ".join(field.name.rpartition(".")[2] for field in members if field.name != "experiment")
        label = f"{section or '(none)'}: "
        lines.append(textwrap.fill(names, 118, initial_indent=f"  {label}", subsequent_indent="      "))
    return "\n".join(lines)


def _by_section() -> dict[str, list[Field]]:
    sections: dict[str, list[Field]] = {}
    for field in fields().values():
        sections.setdefault(field.name.rpartition(".")[0], []).append(field)
    return sections


def markdown() -> str:
    """The text of `docs/configuration.md`."""
    lines = [
        "# The configuration, field by field",
        "",
        "Written by `python -m jaxformer.config_reference` from the docstrings of `jaxformer/config/`: edit those.",
        "Set any field on the command line, `--config.SECTION.FIELD=VALUE`; the defaults below are the library's, and",
        "an experiment sets its own (`experiments/`). `config.json` in a workdir holds the values of a run.",
    ]
    for section, members in _by_section().items():
        cls = type(getattr(Config(), section)) if section else Config
        lines += ["", f"## `{section}`" if section else "## At the top", "", _summary(cls), ""]
        lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
        for field in members:
            default = json.dumps(field.default)
            lines.append(f"| `{field.name}` | {field.type} | `{default}` | {_cell(field.description)} |")
    return "\n".join(lines) + "\n"


def _summary(cls: type) -> str:
    return " ".join((cls.__doc__ or "").partition("Attributes:")[0].split())


def _cell(text: str) -> str:
    return text[:1].upper() + text[1:].replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(markdown())
