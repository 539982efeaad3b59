"""Searching for the translations of one batch of rows, in compiled stages that follow what is left of the work.

Rows end at different positions. Those that have ended leave when few are left, and the cache is only as long as what
was written so far asks for: otherwise every row would pay for the longest, and every position for the last.

Not for text (`translator`) or the search itself (`decoding`).
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxformer.config import DecodingConfig
from jaxformer.decoding import BeamSearch, GreedySearch, Hypotheses, Sampling, advance, take_rows
from jaxformer.parallel.cpu_options import FEWEST_ROWS, options_for_few_rows
from jaxformer.tasks.rows import as_sequences
from jaxformer.types import BOS_ID, EOS_ID, PAD_ID

_SHRINK = 4
"""Rows go on alone when one in this many is left. Every number of rows is compiled, so there are few."""

_FEWEST = 16
"""Batches do not become smaller than this."""


def _first_places(source_length: int) -> int:
    """Positions that the cache holds at first: most translations of a source of this length end before."""
    return source_length + max(8, source_length // 4)


class SearchWeights(NamedTuple):
    """Parameters as the search reads them; see `BatchSearch.weights`.

    Attributes:
      leaves: of the parameters: `jax.jit` takes an `nnx.State` apart in Python at every call, and a tuple in C++.
      output: the model's `transposed_output`: every step multiplies by it.
    """

    leaves: tuple[jax.Array, ...]
    output: Any


class _Rows(NamedTuple):
    """Rows in the middle of a search."""

    state: Any
    context: Any


class BatchSearch:
    """Compiled search with one model, or an ensemble; the parameters are an argument, so that others compile nothing.

    Args:
      graph, rest: of the model, from `nnx.split(model, nnx.Param, ...)`.
      config: how to search.
      grouped: of the model.
    """

    def __init__(
        self, graph: nnx.GraphDef[Any], rest: Any, config: DecodingConfig, *, grouped: bool = False
    ) -> None:
        self._graph, self._rest, self._config = graph, rest, config
        self._structure: Any = None  # of the parameters, whose leaves `SearchWeights` has
        self._transpose: Any = jax.jit(self._transposed)
        self._start: Any = jax.jit(self._started, static_argnames=("longest", "places"))
        # Attention multiplies vectors for a lone output, and matrices for a beam or where heads share keys, which
        # `nn.attention` tells apart likewise.
        options = options_for_few_rows() if self._width == 1 and not grouped else {}
        self._advance: Any = self._jitted_advance(options)
        self._advance_fewest: Any = self._jitted_advance({}) if options else self._advance
        self._move: Any = jax.jit(_moved, static_argnames="places")
        self._compiled: set[Hashable] = set()
        self._compiling = threading.Lock()

    def _jitted_advance(self, options: dict[str, str]) -> Any:
        return jax.jit(self._advanced, static_argnames="longest", donate_argnames="rows", compiler_options=options)

    @property
    def _width(self) -> int:
        """Outputs that are searched for at a time, of each row."""
        config = self._config
        return {"beam": config.beam_size, "greedy": 1, "sample": config.n_best}[config.method]

    @property
    def num_compilations(self) -> int:
        """How many shapes the search itself was compiled for so far."""
        return sum(advance._cache_size() for advance in {self._advance, self._advance_fewest})

    def weights(self, params: nnx.State) -> SearchWeights:
        """`params`, from `nnx.split(model, nnx.Param, ...)`, made ready once for all calls of this search with them."""
        output = self._transpose(params, self._rest)
        leaves, self._structure = jax.tree.flatten(params)
        return SearchWeights(tuple(leaves), output)

    def __call__(
        self,
        weights: SearchWeights,
        tokens: np.ndarray,
        limits: np.ndarray,
        lines: np.ndarray,
        prefix: np.ndarray | None = None,
        *,
        longest: int,
    ) -> Hypotheses:
        """The hypotheses of B rows, numpy arrays [B, n_best, ...]. Several threads may search at a time.

        Args:
          weights: from `weights`.
          tokens: int32 [B, S], padded source rows.
          limits: int32 [B], longest output of each row.
          lines: int32 [B], numbers of the rows, from which they draw their samples.
          prefix: int32 [B, P], tokens that outputs must begin with, 0 where the search is free.
          longest: of any output.
        """
        num_rows, length = tokens.shape
        places = min(_first_places(length), longest)
        kind = (length, longest, prefix is None)
        given = jax.device_put((tokens, limits, lines, prefix))
        key: Hashable = ("start", num_rows, places, kind)
        rows = self._once(key, self._start, weights.leaves, self._rest, *given, longest=longest, places=places)
        members = np.arange(num_rows)  # which row of the batch each row of the search is
        found: Any = None
        while True:
            fewest = num_rows // _SHRINK if num_rows // _SHRINK >= _FEWEST else 0
            stop = jax.device_put((np.int32(places), np.int32(fewest)))
            key = ("advance", num_rows, places, kind)
            advance = self._advance if num_rows >= FEWEST_ROWS else self._advance_fewest
            rows, seen = self._once(key, advance, weights, self._rest, rows, *stop, longest=longest)
            hypotheses, unfinished, position = jax.device_get(seen)
            if found is None:
                found = jax.tree.map(np.array, hypotheses)  # copies, which can be written to
            for whole, part in zip(found, hypotheses, strict=True):
                whole[members] = part[: len(members)]
            left = np.flatnonzero(unfinished[: len(members)])
            if not len(left):
                return found
            ended = np.setdiff1d(np.arange(num_rows), left)  # they fill what is left over; nobody reads them again
            if len(left) <= fewest:
                num_rows //= _SHRINK
            if position >= places:
                places = longest
            order = np.concatenate([left, ended])[:num_rows].astype(np.int32)
            members = members[left]
            key = ("move", num_rows, places, len(unfinished), kind)
            rows = self._once(key, self._move, rows, jax.device_put(order), places=places)

    def _once(self, key: Hashable, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls `function`; the first time with this key alone, so that two threads do not compile the same."""
        if key in self._compiled:
            return function(*args, **kwargs)
        with self._compiling:
            result = function(*args, **kwargs)
            self._compiled.add(key)
        return result

    def _search(self, longest: int) -> BeamSearch | GreedySearch:
        config = self._config
        common: dict[str, Any] = {
            "max_length": longest,
            "bos_id": BOS_ID,
            "eos_id": EOS_ID,
            "length_penalty": config.length_penalty,
            "suppress": (PAD_ID, BOS_ID),
        }
        if config.method == "sample":
            return Sampling(**common, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)
        if config.method == "greedy" or config.beam_size == 1:
            return GreedySearch(**common)
        return BeamSearch(**common, beam_size=config.beam_size, num_hypotheses=config.n_best)

    def _transposed(self, params: nnx.State, rest: Any) -> Any:
        """Compiled: the output kernel, [D, V]; of an ensemble, those of its members."""
        return nnx.merge(self._graph, params, rest).transposed_output

    def _model(self, leaves: tuple[jax.Array, ...], rest: Any) -> Any:
        """While compiling: the `EncoderDecoder` or `TranslationEnsemble` with these parameters."""
        return nnx.merge(self._graph, jax.tree.unflatten(self._structure, leaves), rest)

    def _started(
        self,
        leaves: tuple[jax.Array, ...],
        rest: Any,
        tokens: jax.Array,
        limits: jax.Array,
        lines: jax.Array,
        prefix: jax.Array | None,
        *,
        longest: int,
        places: int,
    ) -> _Rows:
        """Compiled: encoded rows before their first position."""
        config, search = self._config, self._search(longest)
        model = self._model(leaves, rest)
        source = as_sequences(tokens)
        cache, context = model.start_decoding(model.encode(source), source, beam_size=self._width, max_length=places)
        given: dict[str, Any] = {"prefix": prefix, "max_lengths": limits}
        if isinstance(search, Sampling):
            given |= {
                "width": self._width,
                "keys": jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(config.seed), lines),
            }
        return _Rows(search.start(cache, len(tokens), **given), context)

    def _advanced(
        self, weights: SearchWeights, rest: Any, rows: _Rows, until: jax.Array, fewest: jax.Array, *, longest: int
    ) -> tuple[_Rows, tuple[Hypotheses, jax.Array, jax.Array]]:
        """Compiled: the rows at position `until`, or when `fewest` are left; what was found, who goes on, and where."""
        search = self._search(longest)
        model = self._model(weights.leaves, rest)

        def step(tokens: jax.Array, index: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
            return model.decode_step(tokens, index, cache, rows.context, weights.output)

        state = advance(search, step, rows.state, until=until, fewest=fewest)
        return _Rows(state, rows.context), (search.hypotheses(state), search.unfinished(state), state.position)


def _moved(rows: _Rows, order: jax.Array, *, places: int) -> _Rows:
    """Compiled: the rows at `order` alone, with a cache of `places` positions."""
    state, context = take_rows(rows, order)
    return _Rows(state._replace(cache=state.cache.grown(places)), context)
