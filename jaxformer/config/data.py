"""Where records, prices and series come from, and how they become batches.

Not for the network's own limits (`network`).
"""

from __future__ import annotations

import dataclasses
import math

from jaxformer.config.checks import (
    check_choice,
    check_finite,
    check_fraction,
    check_not_negative,
    check_positive,
    check_seed,
    check_types,
)

OF_FOUND_DATA = ("path", "name", "train", "validation", "test")
"""Fields of `DataConfig` that say where data lies; `bundled` data is generated, and lies nowhere."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where records come from and how they become batches.

    Attributes:
      source: `bundled` (generated: it reads none of `path`, `name`, `train`, `validation` and `test`), `files` (in
        `path`: parallel text, or labelled text) or `tfds` (a prepared TFDS set).
      path: for `files`, the folder; for `tfds`, the TFDS data folder (empty: its usual one).
      name: for `tfds`, the data set, such as `wmt14_translate/de-en`.
      source_language: language code, also the suffix of the source files (`train.en`).
      target_language: language code, also the suffix of the target files (`train.de`).
      reverse: translate from `target_language` to `source_language` instead.
      train, validation, test: names of the splits (file stems, or TFDS splits); empty: found under the usual names.
      references: a tokenised reference file for the test split; if given, tokenised BLEU is reported too.
      num_examples: for `bundled`, training pairs to generate; otherwise at most this many training pairs, 0 for all.
      seed: for `bundled`, of the generator.
      vocabulary: folder of a run, or sentencepiece model, whose vocabulary is used; empty: one is learnt from the
        training text. `vocabulary_size`, `tokenizer`, `joint_vocabulary` and `byte_fallback` must be as they are there;
        refused otherwise, with the flags.
      vocabulary_size: pieces in the vocabulary (in each one, when it is not joint).
      tokenizer: `bpe` or `unigram` (sentencepiece), or `word`: whole words, as spaces separate them, and the unknown
        token for others, for text that is tokenised already.
      joint_vocabulary: one vocabulary for both languages; the output layer covers the pieces that the target uses.
      spelling: of `text_classification` with `tokenizer=word`: buckets for n-grams of characters, whose vectors are
        added to a word's own, so that unknown words are known by their spelling; of a word with more than twelve,
        the twelve of the lowest numbers; 0 for none.
      byte_fallback: spell unknown characters as bytes, so that no text is unrepresentable.
      subword_sampling: probability-like strength of subword regularisation in training (BPE dropout rate, or the
        unigram smoothing alpha); 0 switches it off.
      max_length: longest side in tokens, the end-of-sentence token included; longer training pairs are dropped.
      max_length_ratio: largest ratio of the sides' lengths in words among training pairs; 0 for no limit.
      deduplicate: drop exact repetitions of a training pair.
      normalization: Unicode form applied to the text: `nfc`, `nfkc` or `none`.
      batching: `bucket` (rows of like length) or `pack` (several pairs in a row, separated by segment ids).
      batch_tokens: slots on each side of one global batch; 0, or `auto` on the command line, for the most that fits in
        memory by the plan.
      batch_rows: most rows of a bucketed batch; 0 for as many as its slots hold. With few enough a step has as many
        long records as it would have short ones, so that labels of records count alike.
      row_multiple: rows of every bucketed batch are a multiple of it. Devices and micro-batches whose product divides
        it train on the batches that one device trains on; others take away rows that they cannot share.
      num_shapes: how many different batch shapes bucketing may use (each is compiled once).
      pack_length: row length when packing, 0 for `max_length`.
      cache_dir: where prepared data is cached; empty for the user's cache folder.
      num_threads: threads that read batches.
      prefetch: batches kept ready ahead of the training step.
    """

    source: str = "files"
    path: str = ""
    name: str = ""
    source_language: str = "en"
    target_language: str = "de"
    reverse: bool = False
    train: str = ""
    validation: str = ""
    test: str = ""
    references: str = ""
    num_examples: int = 0
    seed: int = 0
    vocabulary: str = ""
    vocabulary_size: int = 8000
    tokenizer: str = "bpe"
    joint_vocabulary: bool = True
    spelling: int = 0
    byte_fallback: bool = True
    subword_sampling: float = 0.0
    max_length: int = 128
    max_length_ratio: float = 0.0
    deduplicate: bool = True
    normalization: str = "nfc"
    batching: str = "bucket"
    batch_tokens: int = 4096
    batch_rows: int = 0
    row_multiple: int = 1
    num_shapes: int = 8
    pack_length: int = 0
    cache_dir: str = ""
    num_threads: int = 2
    prefetch: int = 4

    @property
    def longest_row(self) -> int:
        """Slots of the longest row, before lengths are rounded up to divide over devices."""
        return (self.pack_length or self.max_length) if self.batching == "pack" else self.max_length

    def row_divisor(self, parts: int) -> int:
        """What the rows of a batch are a multiple of; `parts`: devices that share them, times micro-batches."""
        return parts if self.batching == "pack" else math.lcm(parts, self.row_multiple)

    def __post_init__(self) -> None:
        check_types("data", self)
        check_choice("data.source", self.source, "bundled", "files", "tfds")
        check_choice("data.tokenizer", self.tokenizer, "bpe", "unigram", "word")
        check_choice("data.normalization", self.normalization, "nfc", "nfkc", "none")
        check_choice("data.batching", self.batching, "bucket", "pack")
        check_positive("data", self, "vocabulary_size", "max_length", "num_shapes", "row_multiple")
        check_positive("data", self, "num_threads", "prefetch")
        check_seed("data", self)
        sizes = ("num_examples", "spelling", "max_length_ratio", "batch_tokens", "batch_rows", "pack_length")
        check_not_negative("data", self, *sizes)
        check_fraction("data", self, "subword_sampling")
        self._check_found_data()
        if self.tokenizer == "word" and self.subword_sampling:
            raise ValueError(
                f"data.subword_sampling={self.subword_sampling} samples segmentations, of which words have one: set it "
                "to 0, or --config.data.tokenizer to bpe or unigram"
            )
        longest = self.longest_row
        if 0 < self.batch_tokens < longest:
            raise ValueError(
                f"data.batch_tokens={self.batch_tokens} does not fit the longest row ({longest} tokens): "
                f"raise --config.data.batch_tokens to {longest} or more, or lower --config.data.max_length"
            )
        if self.batch_rows and (self.batching == "pack" or not self.batch_tokens):
            raise ValueError(
                f"data.batch_rows={self.batch_rows} is for data.batching=bucket with a given data.batch_tokens; else "
                "rows are as many as there is room for: set --config.data.batch_rows=0"
            )
        if self.batching == "pack" and longest < self.max_length:
            raise ValueError(
                f"data.pack_length={self.pack_length} is shorter than data.max_length={self.max_length}: "
                "raise --config.data.pack_length or lower --config.data.max_length"
            )

    def _check_found_data(self) -> None:
        """Nobody's own data is left unread without a word."""
        for field in OF_FOUND_DATA if self.source == "bundled" else ():
            if value := getattr(self, field):
                reader = "tfds" if field == "name" else "files (or tfds)"
                raise ValueError(
                    f"data.{field}={value} is not read with data.source=bundled, which generates its data: set "
                    f"--config.data.source={reader} too, or leave --config.data.{field} empty"
                )


@dataclasses.dataclass(frozen=True)
class SeriesConfig:
    """How prices and series become windows; read where `task.kind` is `price_movement` or `forecasting`.

    Attributes:
      split: training, validation and test, one after another in time: three numbers of rows (`8640,2880,2880`) or
        shares (`0.7,0.1,0.2`), or the two dates on which validation and test begin (`2015-01-02,2016-01-04`).
      window: steps (for prices, days) of the past that are seen.
      horizon: steps that are forecast.
      patch_length: steps in a patch of the past, of forecasts.
      patch_stride: steps between the beginnings of patches.
      season: steps of a season, which a baseline repeats: 24 for hours of a day.
      outliers: share of the training values at each end that are winsorised: they, and all beyond, count as the value
        where this share ends; steps that are to be forecast stay as they are.
      loss: of numbers: `squared`, `absolute` or `huber`, in standardised units.
      reversible: give every past to the network in units of its own (Kim et al. 2022), of forecasts.
      linear_skip: add a linear map of the past itself to what the network forecasts (Das et al. 2023); of movements, of
        the days as they are pooled.
      market_days: of movements: beside the features of a day stand the mean returns of all tickers on so many days up
        to it (Yoo et al. 2021); 0 for none.
      rise, fall: returns in per cent from which on a day is a rise, and up to which it is a fall; between them it is
        not scored.
    """

    split: str = "0.7,0.1,0.2"
    window: int = 96
    horizon: int = 96
    patch_length: int = 16
    patch_stride: int = 8
    season: int = 24
    outliers: float = 0.0
    loss: str = "huber"
    reversible: bool = True
    linear_skip: bool = False
    market_days: int = 0
    rise: float = 0.55
    fall: float = -0.5

    def __post_init__(self) -> None:
        check_types("series", self)
        check_positive("series", self, "window", "horizon", "patch_length", "patch_stride", "season")
        check_not_negative("series", self, "market_days")
        check_finite("series", self, "rise", "fall")
        check_choice("series.loss", self.loss, "squared", "absolute", "huber")
        if not 0.0 <= self.outliers < 0.5:
            raise ValueError(f"series.outliers must be at least 0 and less than 0.5, got {self.outliers}")
        if not self.rise > self.fall:
            raise ValueError(
                f"series.rise={self.rise} must be greater than series.fall={self.fall}: between them nothing is scored"
            )
