"""Leaves the exhaustive matrix out, unless it is asked for."""

from __future__ import annotations


def pytest_collection_modifyitems(config, items):
    """`-m exhaustive` runs the matrix; no other expression does, so that `-m "not slow"` stays short."""
    if "exhaustive" in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("exhaustive")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]
