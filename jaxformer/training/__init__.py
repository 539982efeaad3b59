"""Counts steps: optimizer, state, step, loop, hooks, checkpoints, and the entry points a program calls.

Not for models or text. The names below are imported when they are first used, because checkpoints and data pipelines
are slow to import.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "train": "entry",
    "evaluate": "entry",
    "predict": "entry",
    "plan": "entry",
    "prepare": "entry",
    "tune": "entry",
    "load_translator": "trained",
    "load_predictor": "trained",
    "TrainState": "state",
    "create_state": "state",
    "make_optimizer": "optimizer",
    "make_schedule": "optimizer",
    "make_train_step": "step",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
