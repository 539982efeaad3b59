"""Whether the arrays of a checkpoint are those of the model here, and mean the same.

Not for reading them (`checkpoint`), nor for their values, which have checksums (`leaves`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxformer.training.leaves import Items

FORMAT = 2
"""Of what parameters mean: raise it when equal shapes come to mean something else, as when columns change places."""

_REMEDY = (
    "give the model settings it was trained with, use the version of jaxformer that wrote it, or choose another "
    "--workdir"
)


class OtherModelError(ValueError):
    """A checkpoint of another model, or of a version that laid out the parameters otherwise."""


def shapes(items: Items) -> dict[str, dict[str, list[int]]]:
    """What a checkpoint says of its arrays, to be compared later; a JSON value."""
    return {item: {name: [*leaf.shape] for name, leaf in tree.items()} for item, tree in items.items()}


def check_model(run: Mapping[str, Any], items: Items, where: str) -> None:
    """Refuses a checkpoint whose arrays do not fit `items`.

    Args:
      run: its JSON part: its `format`, and `leaves`, from `shapes`.
      items: arrays of the model here, or what stands for them.
      where: words for the checkpoint.

    Raises:
      OtherModelError: for another format, or naming the first array that differs.
    """
    if run.get("format", 1) != FORMAT:
        raise OtherModelError(
            f"{where} was written by another version of jaxformer, whose parameters are laid out otherwise: use that "
            "version, or train again in another --workdir"
        )
    for item, tree in items.items():
        _check_item(item, tree, run["leaves"].get(item, {}), f"{where} is of another model")


def _check_item(item: str, tree: Mapping[str, Any], saved: Mapping[str, Any], refused: str) -> None:
    for name, leaf in tree.items():
        here, there = tuple(leaf.shape), tuple(saved[name]) if name in saved else None
        if here != there:
            has = "is not in it" if there is None else f"has shape {there} there"
            raise OtherModelError(f"{refused}: {item}.{name} {has} and shape {here} here; {_REMEDY}")
    extra = next((name for name in saved if name not in tree), None)
    if extra is not None:
        shape = tuple(saved[extra])
        raise OtherModelError(f"{refused}: {item}.{extra} of shape {shape} is there and not here; {_REMEDY}")
