"""Which implementation of attention to try first: a table of measurements, and a rule where nothing was measured.

The table is JSON. `measured.json` beside this file comes with the package; `load_measurements` reads another one, whose
entries replace those of the same case:

    {"format": 1,
     "measurements": [
       {"device": "NVIDIA H200",          as jax.devices()[0].device_kind says it
        "length": 512,                    the longer of T and S, rounded up to a power of 2, at least 16
        "head_size": 64,                  rounded up to a power of 2
        "mask": "causal+lengths",         what is set of causal, window, lengths, segments, in this order; or "none"
        "dtype": "bfloat16",
        "dropout": true,
        "milliseconds": {"xla": 0.41, "cudnn": 0.12},   forward and backward, of one layer
        "source": "2026-11-30, jax 0.12.0, B 32, N 16: command"}]}

The fastest implementation that takes the call is used. Lengths are never interpolated: what wins at 512 can be out of
memory at 16,384.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.ops.attention.mask import Mask
from jaxformer.ops.attention.mosaic_blocks import HEAD_SIZES

FORMAT = 1
MASK_PARTS = ("causal", "window", "lengths", "segments")
DTYPES = ("bfloat16", "float16", "float32", "float64")

LARGEST_WEIGHTS = 2**30
"""Bytes of [B, N, T, S] weights up to which `xla` is used unmeasured; training holds them about three times."""


def current_device() -> Any:
    """The device that a computation started now runs on, unless its operands are elsewhere."""
    default = jax.config.jax_default_device  # type: ignore[attr-defined]  # made at run time
    if default is None:
        return jax.devices()[0]
    return jax.devices(default)[0] if isinstance(default, str) else default


@dataclasses.dataclass(frozen=True)
class Case:
    """What a measurement holds for; the fields are those of the JSON format."""

    device: str
    length: int
    head_size: int
    mask: str
    dtype: str
    dropout: bool

    @classmethod
    def of(cls, q: Any, k: Any, mask: Mask | None, dropout: bool, device: str) -> Case:
        """The case of a call with `q` [B, T, N, H] and `k` [B, S, K, H], arrays or their shapes and dtypes."""
        return cls(
            device=device,
            length=_power_of_2(max(q.shape[1], k.shape[1], 16)),
            head_size=_power_of_2(q.shape[3]),
            mask=mask_kind(mask),
            dtype=jnp.dtype(q.dtype).name,
            dropout=dropout,
        )

    def __str__(self) -> str:
        with_dropout = "with" if self.dropout else "without"
        return (
            f"{self.device}, up to {self.length} positions, head size {self.head_size}, {self.dtype}, "
            f"mask {self.mask}, {with_dropout} dropout"
        )


def _power_of_2(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


def mask_kind(mask: Mask | None) -> str:
    """The parts of a mask in the order of `MASK_PARTS`, joined by "+"; "none" without any."""
    if mask is None:
        return "none"
    present = {
        "causal": mask.causal,
        "window": mask.window is not None,
        "lengths": mask.query_lengths is not None or mask.key_lengths is not None,
        "segments": mask.query_segment_ids is not None and mask.key_segment_ids is not None,
    }
    return "+".join(part for part in MASK_PARTS if present[part]) or "none"


@dataclasses.dataclass(frozen=True)
class Preference:
    """Implementations in the order in which to try them, and why in a few words; whether the first were measured."""

    order: tuple[str, ...]
    reason: str
    measured: bool = False


_LOADED: dict[Case, dict[str, float]] = {}


def load_measurements(path: str | Path, known: Iterable[str]) -> int:
    """Takes the measurements of a file into account from now on, before those that came with the package.

    Args:
      path: of a JSON file as described above.
      known: the names of the implementations that there are.

    Returns:
      How many measurements were read.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is not in the format; says where and what was expected. Then nothing of it is used.
    """
    found = parse_measurements(Path(path).read_text(encoding="utf-8"), str(path), known)
    _LOADED.update(found)
    return len(found)


@functools.cache
def _shipped() -> dict[Case, dict[str, float]]:
    text = importlib.resources.files(__package__).joinpath("measured.json").read_text(encoding="utf-8")
    return parse_measurements(text, "measured.json", None)


def forget_measurements() -> None:
    """Leaves only the measurements that came with the package."""
    _LOADED.clear()


def loaded_measurements() -> dict[Case, dict[str, float]]:
    """What `load_measurements` has read, for another process to `use_measurements`."""
    return dict(_LOADED)


def use_measurements(found: dict[Case, dict[str, float]]) -> None:
    """Takes what another process has loaded into account from now on."""
    _LOADED.update(found)


def prefer(q: Any, k: Any, mask: Mask | None, dropout: bool, device: str = "") -> Preference:
    """The order for a call.

    Args:
      q: [B, T, N, H], an array or its shape and dtype.
      k: [B, S, K, H], likewise.
      mask: of the call.
      dropout: whether weights are dropped.
      device: the kind of the device, by JAX's name or a part of it; empty for the current one.

    Returns:
      The measured ones from the fastest on, then those of the rule for cases that were not measured.
    """
    case = Case.of(q, k, mask, dropout, device or current_device().device_kind)
    rule = _unmeasured(q, k, device)
    measured = _LOADED.get(case) or _shipped().get(case)
    if measured is None:
        return Preference(rule.order, f"nothing was measured for {case}, and {rule.reason}")
    order = sorted(measured, key=lambda name: measured[name])
    times = ", ".join(f"{name} {measured[name]:.4g}" for name in order)
    return Preference(tuple(dict.fromkeys([*order, *rule.order])), f"measured in ms for {case}: {times}", True)


def _is_hopper(device: str) -> bool:
    if device:
        return bool({"H100", "H200", "GH200"} & set(device.split()))
    return str(getattr(current_device(), "compute_capability", "")).split(".")[0] == "9"


def _unmeasured(q: Any, k: Any, device: str) -> Preference:
    rule = _by_size(q, k)
    short = max(q.shape[1], k.shape[1]) <= 16
    if _is_hopper(device) and jnp.dtype(q.dtype).itemsize == 2 and q.shape[3] in HEAD_SIZES and not short:
        reason = "on a Hopper GPU mosaic was the fastest with segments of more than 16 positions"
        return Preference(("mosaic", *rule.order), reason)
    return rule


def _by_size(q: Any, k: Any) -> Preference:
    itemsize = max(jnp.dtype(q.dtype).itemsize, 4)  # the softmax is in float32 at least
    size = q.shape[0] * q.shape[2] * q.shape[1] * k.shape[1] * itemsize
    limit = f"{LARGEST_WEIGHTS / 2**20:.0f} MiB"
    if size <= LARGEST_WEIGHTS:
        return Preference(("xla", "xla_chunked"), f"weights of {size / 2**20:.3g} MiB are within {limit}")
    return Preference(("xla_chunked", "xla"), f"weights of {size / 2**20:.4g} MiB would exceed {limit}")


def parse_measurements(text: str, name: str, known: Iterable[str] | None) -> dict[Case, dict[str, float]]:
    """The measurements in a JSON text.

    Args:
      text: JSON in the format above.
      name: of the file, for messages.
      known: implementations that may be named; None for any.

    Returns:
      Milliseconds by implementation, for each case.

    Raises:
      ValueError: if the text is not in the format.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        given = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f'{name} must be an object with "format": {FORMAT}, got {given!r}')
    entries = content.get("measurements")
    if not isinstance(entries, list):
        raise ValueError(f'{name} must have a list "measurements", got {type(entries).__name__}')
    names = None if known is None else tuple(known)
    return dict(_entry(entry, f"{name}, measurement {number}", names) for number, entry in enumerate(entries))


_FIELDS: dict[str, type] = typing.get_type_hints(Case)


def _entry(entry: Any, place: str, known: tuple[str, ...] | None) -> tuple[Case, dict[str, float]]:
    if not isinstance(entry, dict):
        raise ValueError(f"{place} must be an object, got {entry!r}")
    expected = {*_FIELDS, "milliseconds"}
    missing, unknown = expected - set(entry), set(entry) - expected - {"source"}
    if missing or unknown:
        wrong = [f"{what} {', '.join(sorted(x))}" for what, x in (("lacks", missing), ("has", unknown)) if x]
        raise ValueError(f"{place} {' and '.join(wrong)}; the fields are {', '.join(sorted(expected))} and source")
    for field, kind in _FIELDS.items():
        if type(entry[field]) is not kind:
            raise ValueError(f"{place}: {field} must be of type {kind.__name__}, got {entry[field]!r}")
    case = Case(**{field: entry[field] for field in _FIELDS})
    for field in ("length", "head_size"):
        number = entry[field]
        if number < 1 or number != _power_of_2(number):
            raise ValueError(f"{place}: {field} must be a power of 2, got {number}; round up to {_power_of_2(number)}")
    parts = [] if case.mask == "none" else case.mask.split("+")
    if parts != [part for part in MASK_PARTS if part in parts]:
        raise ValueError(f'{place}: mask must be "none" or some of {"+".join(MASK_PARTS)} in order, got {case.mask!r}')
    if case.dtype not in DTYPES:
        raise ValueError(f"{place}: dtype must be one of {', '.join(DTYPES)}, got {case.dtype!r}")
    return case, _milliseconds(entry["milliseconds"], case, place, known)


def _milliseconds(times: Any, case: Case, place: str, known: tuple[str, ...] | None) -> dict[str, float]:
    if not isinstance(times, dict) or not times:
        raise ValueError(f"{place}: milliseconds must be an object of implementation: time, got {times!r}")
    for name, time in times.items():
        if known is not None and name not in known:
            raise ValueError(f"{place}: implementation {name!r} is not one of {', '.join(known)}")
        if type(time) not in (int, float) or not 0 < time < float("inf"):
            raise ValueError(f"{place}: the milliseconds of {name} must be a number above 0, got {time!r}")
    if case.device == "cpu" and "pallas" in times:
        raise ValueError(f"{place}: pallas is interpreted on a cpu, for tests, and is not chosen there: leave it out")
    return {name: float(time) for name, time in times.items()}
