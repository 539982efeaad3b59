"""The loop that all searches share. It can pause between two positions, for rows to leave and for the cache to grow.

Not for what a search does at a position (`beam`, `rollout`), nor for when to pause (`tasks.batch_search`).
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import jax

from jaxformer.decoding.hypotheses import BoundedCache, Hypotheses, StepFunction

State = Any
"""Of a search: a NamedTuple with the fields `position`, an int32 scalar, and `cache`, that of the step function.

Every leaf but `position` leads with the rows, B.
"""

_Tree = TypeVar("_Tree")


class Search(Protocol):
    """How B rows are searched at once, one position after another; how that starts depends on the search."""

    @property
    def max_length(self) -> int:
        """Longest output."""

    def advance(self, step: StepFunction, state: State) -> State:
        """The state one position further. What was found for a finished row does not change."""

    def unfinished(self, state: State) -> jax.Array:
        """bool [B]: rows whose result is not certain yet."""

    def hypotheses(self, state: State) -> Hypotheses:
        """What was found so far; final for rows that are finished."""


def advance(
    search: Search,
    step: StepFunction,
    state: State,
    *,
    until: jax.typing.ArrayLike,
    fewest: jax.typing.ArrayLike = 0,
) -> State:
    """The state at position `until`, or as soon as no more than `fewest` rows are unfinished. Both may be traced."""

    def goes_on(state: State) -> jax.Array:
        return (state.position < until) & (search.unfinished(state).sum() > fewest)

    return jax.lax.while_loop(goes_on, lambda state: search.advance(step, state), state)


def search_to_end(search: Search, step: StepFunction, state: State) -> Hypotheses:
    """What is found from `state` on, without a pause.

    Raises:
      ValueError: if the cache has fewer places than the longest output.
    """
    cache = state.cache
    if isinstance(cache, BoundedCache) and cache.places < search.max_length:
        raise ValueError(
            f"the cache has places for {cache.places} positions, fewer than max_length={search.max_length} of the "
            "search: start decoding with as many, or search for shorter outputs"
        )
    return search.hypotheses(advance(search, step, state, until=search.max_length))


def take_rows(tree: _Tree, rows: jax.Array) -> _Tree:
    """The rows int32 [R] of a state or of anything whose leaves lead with the rows; scalars stay."""
    return jax.tree.map(lambda leaf: leaf[rows] if leaf.ndim else leaf, tree)
