"""What compiled and traced steps exchange, counted; scripts of `tests.devices.run_on_eight_devices` import it."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_PRIMITIVES = {
    "psum": "all-reduce", "psum_invariant": "all-reduce", "pmax": "largest", "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter", "all_to_all": "all-to-all", "ppermute": "collective-permute",
}  # fmt: skip


def compiled(step: Any, state: Any, batch: Any) -> dict[str, list[int]]:
    """For every kind of collective, the numbers of elements of all that are in the compiled step."""
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for line in step.lower(state, batch).compile().as_text().splitlines():
        match = re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(", line)
        if match:
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            found[match[2]] += [int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes]
    return found


def traced(step: Any, state: Any, batch: Any) -> dict[tuple[str, tuple[str, ...]], list[int]]:
    """By kind of collective and axes, the numbers of elements of all that a step asks for, before XLA merges any.

    What a loop repeats counts as often as it does.
    """
    found: dict[tuple[str, tuple[str, ...]], list[int]] = collections.defaultdict(list)

    def look(jaxpr: Any, times: int) -> None:
        for equation in jaxpr.eqns:
            name, params = equation.primitive.name, equation.params
            if name in _PRIMITIVES:
                axes = params.get("axes", params.get("axis_name"))
                axes = axes if isinstance(axes, tuple) else (axes,)
                # What is gathered counts whole, what is reduced or exchanged as it is given.
                sides = equation.outvars if name == "all_gather" else equation.invars
                found[_PRIMITIVES[name], axes] += [int(np.prod(side.aval.shape)) for side in sides] * times
            for inner in _inside(params):
                look(inner, times * (params["length"] if name == "scan" else 1))

    look(jax.make_jaxpr(lambda *given: step(*given))(state, batch).jaxpr, 1)
    return found


def _inside(params: dict[str, Any]) -> Iterator[Any]:
    """Programs among the parameters of an equation."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "eqns"):
                yield one
            elif hasattr(one, "jaxpr") and hasattr(one.jaxpr, "eqns"):
                yield one.jaxpr
