"""What values are refused with: an error says what was wrong, what was given, and what to do.

For questions that several sections ask, and for the names that a person may have meant. Not for what is asked of
several fields together: that stands where the fields do.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from collections.abc import Iterable
from typing import Any


def nearest(name: str, choices: Iterable[str]) -> str:
    """A sentence listing `choices`, with the nearest one to `name` suggested if any is near."""
    listed = sorted(choices)
    close = difflib.get_close_matches(name, listed, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"choose one of {', '.join(listed)}.{hint}"


def as_text(value: Any) -> str:
    """A value as it is written on a command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_plain(value: Any) -> Any:
    """A scalar of NumPy as Python's own, which JSON can hold; anything else as it is."""
    numpy = sys.modules.get("numpy")  # not imported for this: before somebody does, there are none of its scalars
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def check_types(section: str, config: Any) -> None:
    """Refuses values that are not of the type of their field's default; a float may be given as an int.

    Whoever writes `reverse="false"` means it otherwise than Python, to which every text but the empty one is true.
    Scalars of NumPy become plain values: a configuration is written as JSON. `section` is empty where the fields are at
    the top.
    """
    for field in dataclasses.fields(config):
        value, wanted = as_plain(getattr(config, field.name)), type(field.default)
        object.__setattr__(config, field.name, value)  # while it is made; then it is frozen
        fits = isinstance(value, (float, int) if wanted is float else wanted)
        if not fits or (isinstance(value, bool) and wanted is not bool):
            name = f"{section}.{field.name}" if section else field.name
            raise ValueError(f"{name} is of type {wanted.__name__}, got {value!r}")


def check_choice(field: str, value: str, *choices: str) -> None:
    """Refuses a value that is none of `choices`; `field` is its dotted name."""
    if value not in choices:
        raise ValueError(f"{field}={value!r} is not known: {nearest(value, choices)}")


def check_finite(section: str, config: Any, *fields: str) -> None:
    """Refuses what is infinite, or no number, in `fields` of `config`, which is the section of this name."""
    for field in fields:
        value = getattr(config, field)
        if not abs(value) < math.inf:
            raise ValueError(f"{section}.{field} must be a finite number, got {value}")


def check_positive(section: str, config: Any, *fields: str) -> None:
    """Refuses what is 0 or less, infinite, or no number."""
    for field in fields:
        value = getattr(config, field)
        if not value > 0:
            raise ValueError(f"{section}.{field} must be greater than 0, got {value}")
    check_finite(section, config, *fields)


def check_not_negative(section: str, config: Any, *fields: str) -> None:
    """Refuses what is less than 0, infinite, or no number."""
    for field in fields:
        value = getattr(config, field)
        if not value >= 0:
            raise ValueError(f"{section}.{field} must be 0 or greater, got {value}")
    check_finite(section, config, *fields)


def check_seed(section: str, config: Any) -> None:
    """Refuses a seed that a random key does not take."""
    if not 0 <= config.seed < 2**31:
        raise ValueError(f"{section}.seed must be at least 0 and less than 2147483648, got {config.seed}")


def check_fraction(section: str, config: Any, *fields: str) -> None:
    """Refuses what is less than 0, or 1 and more."""
    for field in fields:
        value = getattr(config, field)
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{section}.{field} must be at least 0 and less than 1, got {value}")
