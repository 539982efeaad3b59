"""From raw sentence pairs to what training reads: clean, learn the vocabulary, tokenise, cache.

`prepare` reads the training split in chunks spread over processes and writes the tokens straight to disk, so neither
time per pair nor memory grows with the corpus. Everything is cached by a hash of its inputs and settings: the second
call only opens files. Not for batches: `batching.py` and `pipeline.py` start from here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sentencepiece
from absl import logging

from jaxformer.config import DataConfig
from jaxformer.cores import available_cores
from jaxformer.data import cache
from jaxformer.data.cleaning import Cleaner, CleaningReport, has_text
from jaxformer.data.given_vocabulary import given_tokenizer, warn_of_unknown
from jaxformer.data.repetitions import first_occurrences, occurring, pair_hash
from jaxformer.data.sampling import SubwordSampler
from jaxformer.data.sources import Source, open_splits
from jaxformer.data.store import ArrayFile, DatasetWriter, TokenizedDataset, select, token_dtype
from jaxformer.data.tokenizer import Tokenizer, train_tokenizer
from jaxformer.data.workers import ordered_map
from jaxformer.types import EOS_ID, Pair

_FORMAT = 6  # of cache entries: raise it when their content changes for the same key
_CHUNK = 4096  # pairs that a worker takes at once
_PARALLEL_FROM = 100_000  # pairs: for fewer, starting processes costs more than they save
_VOCABULARY_PAIRS = 250_000  # pairs that the vocabulary is learnt from: a sample, spread over the corpus
_LOOKED_AT = 1_000_000  # tokens, in which unknown ones are counted
_MAX_VARIANTS = 16  # random segmentations of each pair that are stored when subword sampling is on,
_VARIANT_PAIRS = 4_000_000  # and fewer, but at least 4, where they would be more than this in all


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """A data set ready for training.

    Attributes:
      tokenizer: text to tokens and back.
      train: tokenised training pairs: the plain segmentation.
      variants: with subword sampling, random segmentations of the same records, one for each epoch in turn; else
        `train` alone.
      validation, test: normalised raw pairs, every line of the split; None where there is no such split.
      report: the cleaning table of the training split.
      cache_path: where the tokens lie.
    """

    tokenizer: Tokenizer
    train: TokenizedDataset
    variants: tuple[TokenizedDataset, ...]
    validation: list[Pair] | None
    test: list[Pair] | None
    report: str
    cache_path: Path


def prepare(config: DataConfig) -> PreparedData:
    """Opens the splits of `config`, and cleans, learns, tokenises and caches what is not in the cache yet.

    Raises:
      ValueError: text that cannot be used (with file and line, or the cleaning table), or a vocabulary that is too
        large for it.
      OSError: a file that cannot be read, or a cache folder that cannot be written.
    """
    splits = open_splits(config)
    train = splits["train"]
    evaluation = {name: _evaluation_pairs(name, splits.get(name), config) for name in ("validation", "test")}
    tokenizer = _cached_tokenizer(train, config)
    folder = _cached_train(train, config, tokenizer)
    for name, pairs in evaluation.items():
        _warn_of_repetitions(name, pairs or [], folder, config)
    report = (folder / "cleaning.txt").read_text()
    variants = tuple(TokenizedDataset.open(path) for path in sorted(folder.glob("sampled-*")))
    plain = TokenizedDataset.open(folder / "plain")
    warn_of_unknown(config, plain.tokens[:_LOOKED_AT])
    return PreparedData(
        tokenizer=tokenizer,
        train=plain,
        variants=variants or (plain,),
        validation=evaluation["validation"],
        test=evaluation["test"],
        report=report,
        cache_path=folder,
    )


def tokenize(pairs: list[Pair], tokenizer: Tokenizer, *, max_length: int) -> TokenizedDataset:
    """An evaluation split as tokens, in memory, for its loss; every pair is kept.

    A side longer than `max_length` tokens is cut there, and their number is logged: scores of translations do not
    depend on this, only the loss does.
    """
    source = tokenizer.encode_source([pair.source for pair in pairs])
    target = tokenizer.encode_target([pair.target for pair in pairs])
    cut = sum(max(len(s), len(t)) > max_length for s, t in zip(source, target, strict=True))
    if cut:
        logging.warning("%d of %d evaluation pairs are cut to %d tokens for their loss", cut, len(pairs), max_length)
    sides = [[ids if len(ids) <= max_length else [*ids[: max_length - 1], EOS_ID] for ids in side]
             for side in (source, target)]  # fmt: skip
    return TokenizedDataset.from_lists(*sides)


def _evaluation_pairs(name: str, source: Source | None, config: DataConfig) -> list[Pair] | None:
    if source is None:
        return None

    def build(folder: Path) -> None:
        cleaner = Cleaner(config)
        chunks = (source.read(span.start, span.stop) for span in _spans(source))
        pairs = [cleaner.evaluation_pair(pair) for chunk in chunks for pair in chunk]
        if not any(has_text(pair.source) and has_text(pair.target) for pair in pairs):
            raise ValueError(
                f"the {name} split has no usable pair: of its {len(pairs):,} pairs none has text on both sides; "
                f"mend it, or name another with --config.data.{name}"
            )
        (folder / "pairs.json").write_text(json.dumps(pairs, ensure_ascii=False), encoding="utf-8")

    entry = cache.cached(config.cache_dir, f"{name}-{_key(source, config, 'normalization')}", build)
    return [Pair(*pair) for pair in json.loads((entry / "pairs.json").read_text(encoding="utf-8"))]


def _spans(source: Source) -> list[range]:
    """The record numbers of `source` in chunks."""
    return [range(start, min(start + _CHUNK, len(source))) for start in range(0, len(source), _CHUNK)]


def _processes(source: Source) -> int:
    return available_cores() if len(source) >= _PARALLEL_FROM else 1


# The vocabulary: learnt from a sample that is spread evenly over the corpus.


def _cached_tokenizer(train: Source, config: DataConfig) -> Tokenizer:
    if config.vocabulary:
        return given_tokenizer(config, sides=2)
    settings = ("tokenizer", "vocabulary_size", "joint_vocabulary", "byte_fallback")
    key = _key(train, config, *settings, "normalization", "max_length_ratio")

    def build(folder: Path) -> None:
        start = time.monotonic()
        pairs = list(_sample(train, config))
        if not pairs:
            raise _no_usable_pair(train, config)
        train_tokenizer(pairs, config).save(folder / "tokenizer.model")
        logging.info("learnt the vocabulary from %d pairs in %.1f s", len(pairs), time.monotonic() - start)

    return Tokenizer.load(cache.cached(config.cache_dir, f"tokenizer-{key}", build))


def _key(source: Source, config: DataConfig, *settings: str) -> str:
    return cache.digest(
        {
            "format": _FORMAT,
            "sentencepiece": sentencepiece.__version__,
            "records": source.fingerprint(),
            **{setting: getattr(config, setting) for setting in settings},
        }
    )


def _sample(train: Source, config: DataConfig) -> Iterator[Pair]:
    spans = _spans(train)
    wanted = max(1, -(-_VOCABULARY_PAIRS // _CHUNK))
    if len(spans) > wanted:
        spans = [spans[i * len(spans) // wanted] for i in range(wanted)]
    work = functools.partial(_clean_chunk, train, config)
    for pairs, _ in ordered_map(work, spans, processes=_processes(train)):
        yield from pairs


def _clean_chunk(train: Source, config: DataConfig, span: range) -> tuple[list[Pair], CleaningReport]:
    cleaner = Cleaner(config)
    return cleaner.clean(train.read(span.start, span.stop)), cleaner.report


def _no_usable_pair(train: Source, config: DataConfig) -> ValueError:
    total = CleaningReport()
    for span in _spans(train):
        total.add(_clean_chunk(train, config, span)[1])
    return ValueError(f"the training split has no usable pair:\n{total.table()}")


# The tokens.


@dataclasses.dataclass(frozen=True)
class _Chunk:
    """What a worker makes of some raw pairs: for each segmentation, tokens and both sides' lengths; hashes; counts."""

    segmentations: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    hashes: np.ndarray
    report: CleaningReport


def _cached_train(train: Source, config: DataConfig, tokenizer: Tokenizer) -> Path:
    settings = ("normalization", "max_length_ratio", "max_length", "deduplicate", "subword_sampling")
    key = _key(train, config, *settings)
    name = f"pairs-{cache.digest({'key': key, 'tokenizer': tokenizer.digest})}"
    return cache.cached(config.cache_dir, name, functools.partial(_build_train, train, config, tokenizer))


def _build_train(train: Source, config: DataConfig, tokenizer: Tokenizer, folder: Path) -> None:
    start = time.monotonic()
    variants = min(_MAX_VARIANTS, max(4, _VARIANT_PAIRS // max(1, len(train)))) if config.subword_sampling else 0
    names = ["plain"] + [f"sampled-{variant:02d}" for variant in range(variants)]
    dtype = token_dtype(max(tokenizer.source_vocabulary_size, tokenizer.target_vocabulary_size))
    report = CleaningReport()
    work = _TokenizeChunk(train, config, tokenizer, variants)
    with contextlib.ExitStack() as files:
        writers = [files.enter_context(contextlib.closing(DatasetWriter(folder / name, dtype))) for name in names]
        hashes = files.enter_context(contextlib.closing(ArrayFile(folder / "hashes.npy", np.dtype(np.uint64))))
        for chunk in ordered_map(work, _spans(train), processes=_processes(train)):
            for writer, segmentation in zip(writers, chunk.segmentations, strict=True):
                writer.append(*segmentation)
            hashes.append(chunk.hashes)
            report.add(chunk.report)
    if config.deduplicate:
        keep = first_occurrences(folder / "hashes.npy")
        report.duplicates += int((~keep).sum())
        for name in names:
            select(folder / name, keep)
    if not report.kept:
        raise ValueError(f"the training split has no usable pair:\n{report.table()}")
    (folder / "cleaning.txt").write_text(report.table())
    seconds = time.monotonic() - start
    logging.info("tokenised %d pairs in %.1f s (%.0f pairs/s)", report.read, seconds, report.read / seconds)


def _warn_of_repetitions(name: str, pairs: list[Pair], folder: Path, config: DataConfig) -> None:
    """Says how many pairs of an evaluation split are among those that training reads."""
    cleaner = Cleaner(config)
    wanted = np.array([pair_hash(Pair(*(cleaner.normalize(side)[0] for side in pair))) for pair in pairs], np.uint64)
    seen = occurring(folder / "hashes.npy", wanted)
    if seen.any():
        logging.warning(
            "%d of the %d pairs of the %s split are in the training split too: its scores flatter the model",
            seen.sum(), len(pairs), name,
        )  # fmt: skip


class _TokenizeChunk:
    """What a worker does to a chunk; made once for each worker, so that samplers keep what they have drawn."""

    def __init__(self, train: Source, config: DataConfig, tokenizer: Tokenizer, variants: int) -> None:
        self._train, self._config, self._tokenizer, self._variants = train, config, tokenizer, variants
        self._dtype = token_dtype(max(tokenizer.source_vocabulary_size, tokenizer.target_vocabulary_size))
        self._samplers: tuple[SubwordSampler, SubwordSampler] | None = None

    def __call__(self, span: range) -> _Chunk:
        cleaner = Cleaner(self._config)
        limit = self._config.max_length
        pairs = cleaner.clean(self._train.read(span.start, span.stop))
        source = self._tokenizer.encode_source([pair.source for pair in pairs])
        target = self._tokenizer.encode_target([pair.target for pair in pairs])
        fits = [max(len(s), len(t)) <= limit for s, t in zip(source, target, strict=True)]
        cleaner.report.too_long += len(fits) - sum(fits)
        pairs, source, target = (_only(values, fits) for values in (pairs, source, target))
        segmentations = [_flat(source, target, self._dtype)]
        for variant in range(self._variants):
            sampled = self._sample(pairs, variant, span.start)
            # A sampled segmentation that would not fit gives way to the plain one, which does.
            both = [
                (s, t) if max(len(s), len(t)) <= limit else plain
                for s, t, plain in zip(*sampled, zip(source, target, strict=True), strict=True)
            ]
            segmentations.append(_flat([s for s, _ in both], [t for _, t in both], self._dtype))
        return _Chunk(segmentations, np.array([pair_hash(pair) for pair in pairs], np.uint64), cleaner.report)

    def _sample(self, pairs: list[Pair], *seed: int) -> tuple[list[list[int]], list[list[int]]]:
        if self._samplers is None:
            self._samplers = self._tokenizer.samplers(self._config.tokenizer, self._config.subword_sampling)
        source, target = self._samplers
        return source.encode([p.source for p in pairs], 0, *seed), target.encode([p.target for p in pairs], 1, *seed)


def _only(values: list, keep: list[bool]) -> list:
    return [value for value, kept in zip(values, keep, strict=True) if kept]


def _flat(
    source: list[list[int]], target: list[list[int]], dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens of all records one after another, source before target, and the lengths of the sides."""
    tokens = np.fromiter((i for pair in zip(source, target, strict=True) for side in pair for i in side), dtype)
    return tokens, np.array([len(s) for s in source], np.int32), np.array([len(t) for t in target], np.int32)
