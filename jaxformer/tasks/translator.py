"""Translating text with a trained encoder-decoder: tokenise, search in batches, decode; and scoring given pairs.

Batches have a small fixed set of shapes, each compiled once, and parameters are arguments of the compiled functions:
evaluating newer parameters compiles nothing. Not for search (`decoding`) or scores (`evaluation`), nor for training.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx

from jaxformer.config import DecodingConfig
from jaxformer.decoding import Hypotheses
from jaxformer.models import EncoderDecoder, TranslationEnsemble
from jaxformer.parallel.threads import run_with, thread_settings
from jaxformer.tasks.batch_search import BatchSearch, SearchWeights
from jaxformer.tasks.rows import as_sequences, group_rows, padded
from jaxformer.tasks.source_lines import (
    Job,
    SourceLines,
    TextTokenizer,
    check_stream,
    checked_lines,
    checked_pairs,
)
from jaxformer.types import Batch


class Candidate(NamedTuple):
    """One hypothesis: its text, its score (normalised by length), its log-probability, and its tokens with the end."""

    text: str
    score: float
    log_prob: float
    tokens: list[int]


class Translation(NamedTuple):
    """The translation of one line.

    Attributes:
      text: the best hypothesis; empty for an empty line.
      score: its length-normalised log-probability; for a line translated in parts, the sum over the parts.
      log_prob: its log-probability, the end of the sentence included; likewise summed.
      n_best: `config.n_best` candidates, best first (fewer if the search found fewer); none for an empty line.
      full: whether it, or a part of it, is as long as it may be, so that something may be missing.
    """

    text: str
    score: float
    log_prob: float
    n_best: list[Candidate]
    full: bool = False


class PairScore(NamedTuple):
    """log P(target | source), the end of the sentence included, and the number of target tokens it sums over."""

    log_prob: float
    num_tokens: int


_AT_ONCE = 2
"""Batches that are searched at the same time."""


class Translator:
    """Translates lines of text with a model and its tokenizer.

    Args:
      model: the network, or several that translate together; its parameters are read when this is made (see `update`).
      tokenizer: of the model's vocabulary.
      config: how to search.
      max_length: longest row, in tokens, on either side; of learned positions, at most as many as there are.
      normalization: Unicode form brought upon the input, as in training: `nfc`, `nfkc` or `none`.

    Raises:
      ValueError: for rows longer than learned positions are.
    """

    def __init__(
        self,
        model: EncoderDecoder | TranslationEnsemble,
        tokenizer: TextTokenizer,
        config: DecodingConfig,
        max_length: int,
        *,
        normalization: str = "nfc",
    ) -> None:
        model.check_length(max_length)
        self.config = config
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._normalization = normalization
        self._lines = SourceLines(
            tokenizer, longest=config.max_length, max_length=max_length, normalization=normalization
        )
        split: Any = nnx.split(model, nnx.Param, ...)
        self._graph, self._params, self._rest = split
        self._search = BatchSearch(self._graph, self._rest, config, grouped=model.grouped)
        self._ready: tuple[nnx.State, SearchWeights] | None = None  # parameters, and what the search makes of them
        self._score: Any = jax.jit(self._score_rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of it can be sent to another process, where it compiles for itself; see `TranslatorPool`."""
        parts = (self._graph, jax.device_get(self._params), jax.device_get(self._rest))
        return _rebuilt, (*parts, self._tokenizer, self.config, self.max_length, self._normalization)

    def update(self, params: nnx.State) -> None:
        """Translates with `params` (as from `nnx.split(model, nnx.Param, ...)`) from now on; compiles nothing."""
        self._params, self._ready = params, None

    @property
    def num_compilations(self) -> int:
        """How many shapes have been compiled so far."""
        return self._search.num_compilations + self._score._cache_size()

    def translate(
        self, texts: Iterable[str], prefixes: Iterable[str] | None = None, *, first_line: int = 1
    ) -> list[Translation]:
        """The translation of every line, in the same order.

        A line longer than the model accepts is translated in parts, with a warning that names it; an empty line gives
        an empty one. What a line becomes does not depend on the others (with `sample`, on its number).

        Args:
          texts: one string a line.
          prefixes: what each translation must begin with; empty where it is free.
          first_line: number of the first line, for messages and for sampling.

        Raises:
          ValueError: for one text that is not in a list, a line that is no text, if there are not as many prefixes as
            texts, or if a prefix does not fit.
        """
        texts, prefixes = checked_lines(texts, prefixes, first_line=first_line)
        jobs = self._lines.jobs(texts, prefixes, first_line)
        found: list[list[Candidate]] = [[] for _ in jobs]
        for places, hypotheses in self._run(jobs, with_prefix=prefixes is not None):
            for row, place in enumerate(places):
                found[place] = self._candidates(hypotheses, row)
        parts: list[list[list[Candidate]]] = [[] for _ in texts]
        full = [False for _ in texts]
        for job, candidates in zip(jobs, found, strict=True):
            parts[job.line - first_line].append(candidates)
            full[job.line - first_line] |= len(candidates[0].tokens) >= job.limit
        return [_joined(candidates, full=ends) for candidates, ends in zip(parts, full, strict=True)]

    def translate_stream(self, lines: Iterable[str], *, chunk: int = 2000) -> Iterator[Translation]:
        """One translation for each line, in order; `chunk` lines are read ahead, so that memory stays bounded.

        Translations as long as they may be are named in a warning, since more might have followed.

        Raises:
          ValueError: at the first line, for one text that is not in a list, or a chunk of none; later, for a line that
            is no text.
        """
        check_stream(lines, chunk)
        rest = iter(lines)
        first_line = 1
        while texts := list(itertools.islice(rest, chunk)):
            found = self.translate(texts, first_line=first_line)
            warn_of_full(found, first_line)
            yield from found
            first_line += len(texts)

    def score(self, pairs: Iterable[tuple[str, str]]) -> list[PairScore]:
        """The log-probability of each target given its source, by one full forward pass.

        Raises:
          ValueError: for what is no pair of texts, or a side that is longer than the model accepts.
        """
        pairs = checked_pairs(pairs)
        sources = self._tokenizer.encode_source([self._lines.normalize(source) for source, _ in pairs])
        targets = self._tokenizer.encode_target([self._lines.normalize(target) for _, target in pairs])
        lengths = [max(len(source), len(target)) for source, target in zip(sources, targets, strict=True)]
        for number, length in enumerate(lengths, 1):
            if length > self.max_length:
                limit = f"more than the {self.max_length} of training"
                raise ValueError(f"pair {number} has a side of {length} tokens, {limit}")
        scores = np.zeros(len(pairs), np.float32)
        for places, rows, bucket in group_rows(lengths, self.max_length, self.config.batch_tokens):
            sides = [padded([side[place] for place in places], rows, bucket) for side in (sources, targets)]
            found = self._score(self._params, self._rest, *jax.device_put(sides))
            scores[places] = jax.device_get(found)[: len(places)]
        return [PairScore(float(score), len(target)) for score, target in zip(scores, targets, strict=True)]

    def _run(self, jobs: Sequence[Job], *, with_prefix: bool) -> Iterator[tuple[list[int], Hypotheses]]:
        """Places in `jobs` and the hypotheses found for them, batch after batch.

        Two batches are under way at a time: a step of the search is too small to keep several cores busy, and on a GPU
        the host prepares one batch while the device searches for the other.
        """
        ready, params = self._ready, self._params
        if ready is None or ready[0] is not params:
            ready = self._ready = (params, self._search.weights(params))
        lengths = [len(job.source) for job in jobs]
        waiting: collections.deque[tuple[list[int], concurrent.futures.Future[Hypotheses]]] = collections.deque()
        settings = thread_settings()
        threads = concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "translator")
        try:
            for places, rows, bucket in group_rows(lengths, self.max_length, self.config.batch_tokens):
                batch = [jobs[place] for place in places]
                search = functools.partial(self._search_jobs, ready[1], batch, rows, bucket, with_prefix=with_prefix)
                waiting.append((places, threads.submit(run_with, settings, search)))
                if len(waiting) > _AT_ONCE:
                    places, found = waiting.popleft()
                    yield places, found.result()
            for places, found in waiting:
                yield places, found.result()
        finally:
            threads.shutdown(cancel_futures=True)  # what nobody waits for any more is not begun

    def _search_jobs(
        self, weights: SearchWeights, batch: Sequence[Job], rows: int, bucket: int, *, with_prefix: bool
    ) -> Hypotheses:
        """The hypotheses for `batch`, padded to [rows, bucket]."""
        longest = self._lines.output_limit(bucket, self.max_length if with_prefix else 0)
        limits = np.ones(rows, np.int32)
        limits[: len(batch)] = [job.limit for job in batch]
        draws = np.zeros(rows, np.int32)
        draws[: len(batch)] = [job.draw for job in batch]
        prefix = padded([job.prefix for job in batch], rows, longest) if with_prefix else None
        tokens = padded([job.source for job in batch], rows, bucket)
        return self._search(weights, tokens, limits, draws, prefix, longest=longest)

    def _score_rows(self, params: nnx.State, rest: Any, source: jax.Array, target: jax.Array) -> jax.Array:
        """Compiled: log-probabilities [B] of the target rows [B, T]."""
        model = nnx.merge(self._graph, params, rest)
        batch = Batch(as_sequences(source), as_sequences(target))

        def row(hidden: Any, labels: jax.Array, weights: jax.Array) -> jax.Array:
            log_probs = jax.nn.log_softmax(model.logits(hidden), axis=-1)
            return (jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0] * weights).sum()

        # A few rows at a time: the logits of all of them, [B, T, V], would take gigabytes.
        inputs = (model.hidden(batch), batch.target.tokens, jnp.asarray(batch.target.weights))
        return jax.lax.map(lambda one: row(*one), inputs, batch_size=8)

    def _candidates(self, hypotheses: Hypotheses, row: int) -> list[Candidate]:
        found = []
        for tokens, length, score, log_prob in zip(*(np.asarray(field[row]) for field in hypotheses), strict=True):
            if length:
                ids = tokens[:length].tolist()
                # A byte piece may spell a line end, which would break one line out for each line in.
                text = " ".join(self._tokenizer.decode_target(ids).splitlines()).strip()
                found.append(Candidate(text, float(score), float(log_prob), ids))
        return found


def _rebuilt(
    graph: Any, params: Any, rest: Any, tokenizer: TextTokenizer, config: DecodingConfig, max_length: int,
    normalization: str,
) -> Translator:  # fmt: skip
    return Translator(nnx.merge(graph, params, rest), tokenizer, config, max_length, normalization=normalization)


def warn_of_full(translations: Sequence[Translation], first_line: int) -> None:
    """Names the lines whose translations are as long as they may be: more might have followed."""
    if full := [str(number) for number, one in enumerate(translations, first_line) if one.full]:
        shown = ", ".join(full[:20]) + (f" and {len(full) - 20} more" if len(full) > 20 else "")
        logging.warning("as long as a translation may be, and perhaps incomplete: that of line %s", shown)


def _joined(parts: list[list[Candidate]], *, full: bool) -> Translation:
    """The translation of one line from the candidates for its parts: the k-th best of each, joined by a space."""
    if not parts:
        return Translation("", 0.0, 0.0, [])
    n_best = []
    for rank in zip(*parts, strict=False):
        texts, scores, log_probs, tokens = zip(*rank, strict=True)
        text = " ".join(filter(None, texts))
        n_best.append(Candidate(text, sum(scores), sum(log_probs), list(itertools.chain(*tokens))))
    return Translation(n_best[0].text, n_best[0].score, n_best[0].log_prob, n_best, full)
