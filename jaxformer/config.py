"""Frozen, typed, validated settings: one dataclass for each concern, gathered in `Config`.

Every component receives only its own section. Values are checked here, once, so that nothing after this module has to
check them again; an error says what was wrong, what was given, and what to do. Not for flags (`run.py`) and not for
tuned numbers (`experiments/`): the defaults below are the plain ones of the literature.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar


def nearest(name: str, choices: Iterable[str]) -> str:
    """A sentence listing `choices`, with the nearest one to `name` suggested if any is near."""
    listed = sorted(choices)
    close = difflib.get_close_matches(name, listed, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"choose one of {', '.join(listed)}.{hint}"


def _said(value: Any) -> str:
    """As it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_choice(field: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"{field}={value!r} is not known: {nearest(value, choices)}")


def _check_positive(section: str, config: Any, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        if not value > 0:
            raise ValueError(f"{section}.{field} must be greater than 0, got {value}")


def _check_not_negative(section: str, config: Any, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        if not value >= 0:
            raise ValueError(f"{section}.{field} must be 0 or greater, got {value}")


def _check_seed(section: str, config: Any) -> None:
    if not 0 <= config.seed < 2**31:
        raise ValueError(f"{section}.seed must be at least 0 and less than 2147483648, got {config.seed}")


def _check_fraction(section: str, config: Any, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{section}.{field} must be at least 0 and less than 1, got {value}")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network (Vaswani et al. 2017, table 3, names the sizes).

    Attributes:
      d_model: width of the residual stream, D.
      d_ff: width of the feed-forward layer, F.
      num_heads: attention heads, N; must divide `d_model`.
      num_kv_heads: key/value heads, K, for grouped-query attention; 0 means as many as `num_heads`.
      num_encoder_layers: depth of the encoder.
      num_decoder_layers: depth of the decoder.
      activation: of the feed-forward layer: `relu`, `gelu` or `swiglu`.
      norm: `layernorm` or `rmsnorm`.
      norm_position: `pre` (normalise before each sub-layer, and once at the end) or `post` (as in the paper).
      position: `sinusoidal`, `learned` or `rotary`.
      max_length: longest sequence, in tokens, that the model accepts; sizes the table of learned positions.
      share_embeddings: one embedding for source and target; needs `data.joint_vocabulary`.
      tie_output: the output projection is the transposed target embedding.
      dropout: rate on embeddings and on the output of every sub-layer.
      attention_dropout: rate on attention weights.
      activation_dropout: rate inside the feed-forward layer.
      neighbourhood: of encoders with heads: an input token also takes an embedding of each of its neighbours up to this
        far away, by distance; for vocabularies as small as amino acids. 0 for none.
      local_layers: of encoders with heads: in the first so many layers a position sees only those near to it.
      local_window: how far away they may be, on either side.
      scale_embedding: of encoders with heads: multiply embeddings by sqrt(D), as the paper does. Without it they begin
        small, and what is rare in few data stays so.
      final_norm: of encoders with heads and `pre`: normalise once at the end. Without it, how long the vector of a
        position is says how much it counts where positions are pooled.
      scan_layers: compile one layer and scan over the depth, instead of compiling every layer.
      attention_table: file that `--mode=tune` wrote: attention uses what was fastest there; empty: the package's own.
    """

    d_model: int = 512
    d_ff: int = 2048
    num_heads: int = 8
    num_kv_heads: int = 0
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    activation: str = "relu"
    norm: str = "layernorm"
    norm_position: str = "pre"
    position: str = "sinusoidal"
    max_length: int = 256
    share_embeddings: bool = True
    tie_output: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    neighbourhood: int = 0
    local_layers: int = 0
    local_window: int = 16
    scale_embedding: bool = True
    final_norm: bool = True
    scan_layers: bool = False
    attention_table: str = ""

    def __post_init__(self) -> None:
        _check_positive("model", self, "d_model", "d_ff", "num_heads", "num_encoder_layers", "num_decoder_layers")
        _check_positive("model", self, "max_length")
        _check_positive("model", self, "local_window")
        _check_not_negative("model", self, "num_kv_heads", "neighbourhood", "local_layers")
        _check_choice("model.activation", self.activation, "relu", "gelu", "swiglu")
        _check_choice("model.norm", self.norm, "layernorm", "rmsnorm")
        _check_choice("model.norm_position", self.norm_position, "pre", "post")
        _check_choice("model.position", self.position, "sinusoidal", "learned", "rotary")
        _check_fraction("model", self, "dropout", "attention_dropout", "activation_dropout")
        if self.d_model % self.num_heads:
            raise ValueError(
                f"model.num_heads={self.num_heads} does not divide model.d_model={self.d_model}: "
                "choose a number of heads that does"
            )
        if self.num_kv_heads and self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"model.num_kv_heads={self.num_kv_heads} does not divide model.num_heads={self.num_heads}: "
                "choose a divisor, or 0 for one key/value head per query head"
            )
        if self.local_layers >= self.num_encoder_layers:
            raise ValueError(
                f"model.local_layers={self.local_layers} leaves none of model.num_encoder_layers="
                f"{self.num_encoder_layers} that sees whole sequences: lower it, or raise the other"
            )
        if self.position == "rotary" and (self.d_model // self.num_heads) % 2:
            raise ValueError(
                "model.position=rotary needs an even head size, "
                f"got d_model / num_heads = {self.d_model // self.num_heads}"
            )


KINDS = ("translation", "text_classification", "protein", "price_movement", "forecasting")
"""The kinds of problem that can be trained; `jaxformer.training.study` says which class serves each."""

POOLED = ("text_classification", "price_movement")
"""Kinds of task that make one vector of a sequence."""


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """What is learnt from the data; all but `kind` is for encoders with heads, which translation is not.

    Attributes:
      kind: `translation`, `text_classification` (a label for every text, such as its sentiment), `protein` (the
        secondary structure of every residue), `price_movement` (rise or fall of a price on the next day, and its
        return) or `forecasting` (the next steps of every channel of a series).
      pooling: how a text or a window of prices becomes one vector: `cls` (of a text a token of its own at its start, of
        prices the last day), `mean`, `attention` (a learned weighted mean), or `convolution` (the largest values of
        features of 3 to 5 neighbours; not with `mesh.context`); other kinds pool nothing.
      part_weights: of the losses where several things are predicted: `equal`, or `learned` (by their uncertainty).
      class_weights: of the classes in a loss: `none`, or `balanced` (rare ones count more: inversely to how often they
        occur in the training data).
      token_dropout: share of input tokens that training hides, each time others: they become the unknown token.
      vary_token_dropout: of several `members` hide ever less, `token_dropout` from the first, nothing from the last,
        and from those between shares at equal distances; of `linear_members` likewise. Who has read whole texts and who
        has to do without half of them are wrong about different ones. It changes nothing for one of a kind.
      members: networks that are trained side by side, on the same batches, and whose predictions are averaged; each
        costs the memory and time of one. Losses, and what is measured in training, are means over them; other metrics
        of validation are of what they believe together.
      linear_members: of text_classification: further members without layers, which add up what every word and every
        pair of neighbours says by itself (Wang and Manning 2012); of few classes they cost next to nothing. They differ
        by the tokens that are hidden from them.
    """

    kind: str = "translation"
    pooling: str = "attention"
    part_weights: str = "equal"
    class_weights: str = "none"
    token_dropout: float = 0.0
    vary_token_dropout: bool = False
    members: int = 1
    linear_members: int = 0

    def __post_init__(self) -> None:
        _check_choice("task.kind", self.kind, *KINDS)
        _check_choice("task.pooling", self.pooling, "cls", "mean", "attention", "convolution")
        _check_choice("task.part_weights", self.part_weights, "equal", "learned")
        _check_choice("task.class_weights", self.class_weights, "none", "balanced")
        _check_fraction("task", self, "token_dropout")
        _check_positive("task", self, "members")
        _check_not_negative("task", self, "linear_members")
        if self.linear_members > 1 and not self.token_dropout:
            raise ValueError(
                f"task.linear_members={self.linear_members} would all be the same, as nothing but hidden tokens makes "
                "them differ: set --config.task.token_dropout, or --config.task.linear_members=1"
            )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where records come from and how they become batches.

    Attributes:
      source: `bundled` (generated), `files` (in `path`: parallel text, or labelled text) or `tfds` (a prepared TFDS
        set).
      path: for `files`, the folder; for `tfds`, the TFDS data folder (empty: its usual one).
      name: for `tfds`, the data set, such as `wmt14_translate/de-en`.
      source_language: language code, also the suffix of the source files (`train.en`).
      target_language: language code, also the suffix of the target files (`train.de`).
      reverse: translate from `target_language` to `source_language` instead.
      train, validation, test: names of the splits (file stems, or TFDS splits); empty: found under the usual names.
      references: a tokenised reference file for the test split; if given, tokenised BLEU is reported too.
      num_examples: for `bundled`, training pairs to generate; otherwise at most this many training pairs, 0 for all.
      seed: for `bundled`, of the generator.
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
    num_shapes: int = 8
    pack_length: int = 0
    cache_dir: str = ""
    num_threads: int = 2
    prefetch: int = 4

    def __post_init__(self) -> None:
        _check_choice("data.source", self.source, "bundled", "files", "tfds")
        _check_choice("data.tokenizer", self.tokenizer, "bpe", "unigram", "word")
        _check_choice("data.normalization", self.normalization, "nfc", "nfkc", "none")
        _check_choice("data.batching", self.batching, "bucket", "pack")
        _check_positive("data", self, "vocabulary_size", "max_length", "num_shapes", "num_threads", "prefetch")
        _check_seed("data", self)
        sizes = ("num_examples", "spelling", "max_length_ratio", "batch_tokens", "batch_rows", "pack_length")
        _check_not_negative("data", self, *sizes)
        _check_fraction("data", self, "subword_sampling")
        if self.tokenizer == "word" and self.subword_sampling:
            raise ValueError(
                f"data.subword_sampling={self.subword_sampling} samples segmentations, of which words have one: set it "
                "to 0, or --config.data.tokenizer to bpe or unigram"
            )
        longest = (self.pack_length or self.max_length) if self.batching == "pack" else self.max_length
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
        _check_positive("series", self, "window", "horizon", "patch_length", "patch_stride", "season")
        _check_not_negative("series", self, "market_days")
        _check_choice("series.loss", self.loss, "squared", "absolute", "huber")
        if not 0.0 <= self.outliers < 0.5:
            raise ValueError(f"series.outliers must be at least 0 and less than 0.5, got {self.outliers}")
        if not self.rise > self.fall:
            raise ValueError(
                f"series.rise={self.rise} must be greater than series.fall={self.fall}: between them nothing is scored"
            )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning-rate schedule (optax).

    Attributes:
      name: `adam`, `adamw`, `sgd`, `rmsprop`, `adafactor` or `lion`.
      learning_rate: the peak, reached at the end of the warm-up.
      schedule: after the warm-up: `inverse_sqrt` (Vaswani et al. 2017, eq. 3), `cosine`, `linear` or `constant`.
      warmup_steps: steps of linear warm-up from 0.
      end_factor: `cosine` and `linear` end at this fraction of the peak.
      b1, b2, eps: of Adam, AdamW and Lion (which has no `eps`); `b2` is also RMSprop's decay.
      momentum: of SGD and RMSprop.
      weight_decay: decoupled; applied to matrices only, never to biases, norms or embeddings of positions.
      clip_norm: largest global norm of the gradient; 0 for no clipping.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "inverse_sqrt"
    warmup_steps: int = 4000
    end_factor: float = 0.0
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-9
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        _check_choice("optimizer.name", self.name, "adam", "adamw", "sgd", "rmsprop", "adafactor", "lion")
        _check_choice("optimizer.schedule", self.schedule, "inverse_sqrt", "cosine", "linear", "constant")
        _check_positive("optimizer", self, "learning_rate", "eps")
        _check_not_negative("optimizer", self, "warmup_steps", "end_factor", "weight_decay", "clip_norm")
        _check_fraction("optimizer", self, "b1", "b2", "momentum")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long to train and what to do on the way.

    Attributes:
      num_steps: optimizer steps.
      seed: of initialisation, dropout and data order.
      label_smoothing: mass moved from the label to the whole vocabulary (Szegedy et al. 2016).
      r_drop: alpha of R-Drop (Liang et al. 2021): every row passes twice, with different dropout, and costs more the
        more the two predictions differ; twice the work a step, less overfitting; 0 for one pass.
      r_drop_start: steps that are taken before R-Drop begins: it slows the first part of training down.
      log_every, eval_every, checkpoint_every: in steps; 0 switches evaluation on the way, or regular checkpoints, off.
      checkpoint_minutes: also save a checkpoint after this many minutes without one; 0 for never.
      keep_checkpoints: how many of the newest checkpoints stay.
      average_checkpoints: evaluate the mean of the last N checkpoints' parameters; 0 or 1 for none.
      ema_decay: decay of the exponential moving average of the parameters, which is then evaluated; 0 for none.
      best_metric: the validation metric whose best checkpoint is kept, and which early stopping watches; which there
        are depends on `task.kind`.
      early_stopping: stop after this many evaluations without improvement; 0 for never.
      eval_examples: validation sentences translated on the way; 0 for all.
    """

    num_steps: int = 10000
    seed: int = 0
    label_smoothing: float = 0.1
    r_drop: float = 0.0
    r_drop_start: int = 0
    log_every: int = 50
    eval_every: int = 1000
    checkpoint_every: int = 1000
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 3
    average_checkpoints: int = 0
    ema_decay: float = 0.0
    best_metric: str = "validation/bleu"
    early_stopping: int = 0
    eval_examples: int = 0

    @property
    def passes(self) -> int:
        """How often a row passes through the network in a step, at most."""
        return 2 if self.r_drop else 1

    @property
    def mean_passes(self) -> float:
        """The same, on average over the run."""
        return 1.0 + (self.num_steps - self.r_drop_start) / self.num_steps if self.r_drop else 1.0

    def __post_init__(self) -> None:
        _check_positive("training", self, "num_steps", "log_every", "keep_checkpoints")
        _check_seed("training", self)
        _check_not_negative("training", self, "eval_every", "checkpoint_every", "checkpoint_minutes")
        _check_not_negative("training", self, "average_checkpoints", "early_stopping", "eval_examples", "r_drop")
        _check_not_negative("training", self, "r_drop_start")
        _check_fraction("training", self, "label_smoothing", "ema_decay")
        if self.r_drop_start and not (self.r_drop and self.r_drop_start < self.num_steps):
            raise ValueError(
                f"training.r_drop_start={self.r_drop_start} has no R-Drop after it: training.r_drop={self.r_drop} and "
                f"training.num_steps={self.num_steps}; raise these, or set --config.training.r_drop_start=0"
            )
        if self.average_checkpoints > 1 and not self.checkpoint_every:
            raise ValueError(
                f"training.average_checkpoints={self.average_checkpoints} needs checkpoints to average: set "
                "--config.training.checkpoint_every to a number of steps"
            )
        if self.average_checkpoints > 1 and self.ema_decay:
            raise ValueError(
                "training.average_checkpoints and training.ema_decay are two ways to average parameters: choose one"
            )


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
    """What is traded for memory.

    Attributes:
      accumulate: micro-batches per optimizer step; each holds `data.batch_tokens / accumulate` slots a side.
      remat: what a layer's backward pass computes again instead of keeping: `none`; `dots` (all but the results of
        products with parameters); `full` (everything inside a layer); `offload` (as `dots`, and what is kept waits in
        host memory). The result is the same. On a CPU it saves memory with `model.scan_layers` alone.
    """

    accumulate: int = 1
    remat: str = "none"

    def __post_init__(self) -> None:
        _check_positive("memory", self, "accumulate")
        _check_choice("memory.remat", self.remat, "none", "dots", "full", "offload")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How devices are laid out: the product of the four is the number of devices used; one may be -1, for the rest.

    Attributes:
      auto: the planner chooses the four sizes, `memory.accumulate` and `memory.remat`, whatever they are here; the
        choice is written to `config.json`. `--config.mesh=auto` says the same.
      data: devices that split the rows of a batch.
      fsdp: devices that split the rows, and keep a part of every matrix and of what the optimizer knows about it.
      tensor: devices that split heads, feed-forward layers and the vocabulary; for networks that are large.
      context: devices that split sequences; for those that are long. Where `tensor` x `context` does not divide the
        (key/value) heads, every device gathers keys and values, which sends more.
    """

    auto: bool = False
    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    context: int = 1

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("data", "fsdp", "tensor", "context")}
        for name, size in sizes.items():
            if size != -1:
                _check_positive("mesh", self, name)
        rest = [f"mesh.{name}" for name, size in sizes.items() if size == -1]
        if len(rest) > 1:
            raise ValueError(f"{' and '.join(rest)} are -1, which stands for the rest of the devices: only one may be")


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """What the planner assumes of the hardware: `--mode=plan`, `mesh.auto` and `data.batch_tokens=0` ask it.

    Attributes:
      devices: hardware to plan for that need not be here, such as `8xH200`; empty for the devices that are here.
      per_host: devices of a host, which its fast links join; 0 for 8, or as many as a host here has.
      network: of the adapter of each device to other hosts, in Gb/s.
      memory: of each device that a step may use, in GiB; 0 for what the backend or the data sheet says.
      reserve: part of that memory which is left free, for what a compiled program does not count.
      measure: time products, memory and exchanges of the devices that are here, a few seconds; false uses their data
        sheet, and for a CPU rates of the past.
    """

    devices: str = ""
    per_host: int = 0
    network: float = 400.0
    memory: float = 0.0
    reserve: float = 0.1
    measure: bool = True

    def __post_init__(self) -> None:
        _check_not_negative("plan", self, "per_host", "memory")
        _check_positive("plan", self, "network")
        _check_fraction("plan", self, "reserve")


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
    """How translations are found.

    Attributes:
      method: `beam`, `greedy` or `sample`.
      beam_size: beam width, W.
      length_penalty: alpha of Wu et al. 2016, equation 14; 0 ranks by plain log-probability.
      n_best: hypotheses returned for each sentence; at most `beam_size`.
      temperature, top_k, top_p: of sampling; `top_k=0` and `top_p=1` keep the whole vocabulary.
      seed: of sampling.
      max_length: longest output in tokens; 0 for twice the source plus ten. Never more than `data.max_length`, the
        longest that the model was trained on.
      batch_tokens: source slots decoded at once.
      processes: that translate at a time with `--mode=predict` on a CPU, each with cores of its own: the number of
        cores is fastest for more than some thousand lines; each takes some seconds to begin, and the memory of a run.
    """

    method: str = "beam"
    beam_size: int = 5
    length_penalty: float = 1.0
    n_best: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_length: int = 0
    batch_tokens: int = 4096
    processes: int = 1

    def __post_init__(self) -> None:
        _check_choice("decoding.method", self.method, "beam", "greedy", "sample")
        _check_positive("decoding", self, "beam_size", "n_best", "temperature", "batch_tokens", "processes")
        _check_seed("decoding", self)
        _check_not_negative("decoding", self, "length_penalty", "top_k", "max_length")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"decoding.top_p must be greater than 0 and at most 1, got {self.top_p}")
        if self.method == "beam" and self.n_best > self.beam_size:
            raise ValueError(
                f"decoding.n_best={self.n_best} is more than decoding.beam_size={self.beam_size}: "
                "a beam holds no more hypotheses than its width"
            )


@dataclasses.dataclass(frozen=True)
class MonitoringConfig:
    """What is shown and recorded.

    Attributes:
      progress: one live progress line on standard error.
      tensorboard: write event files to `tensorboard/` in the workdir.
      samples: sample translations printed at the end.
      breakdown: before training, time the forward pass, the backward pass and the update of one step apart.
    """

    progress: bool = True
    tensorboard: bool = True
    samples: int = 10
    breakdown: bool = False

    def __post_init__(self) -> None:
        _check_not_negative("monitoring", self, "samples")


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """A trace of a few steps by `jax.profiler`, in `profile/` of the workdir, for xprof.

    Attributes:
      start_step: the first step that is traced; a batch shape that comes for the first time compiles.
      num_steps: how many are traced; 0 for none.
    """

    start_step: int = 20
    num_steps: int = 0

    def __post_init__(self) -> None:
        _check_positive("profile", self, "start_step")
        _check_not_negative("profile", self, "num_steps")


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that defines a run; written to `config.json` in its workdir.

    Attributes:
      experiment: name of the experiment and its variant, `wmt:base`.
      precision: `fp32`, `bf16` or `fp16`: parameters and reductions stay in float32, activations are computed in this;
        `fp16` with a loss scale that finds its size by itself.
    """

    experiment: str = ""
    precision: str = "fp32"
    task: TaskConfig = TaskConfig()
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    series: SeriesConfig = SeriesConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    memory: MemoryConfig = MemoryConfig()
    mesh: MeshConfig = MeshConfig()
    plan: PlanConfig = PlanConfig()
    decoding: DecodingConfig = DecodingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    profile: ProfileConfig = ProfileConfig()

    @property
    def left_open(self) -> bool:
        """Whether the planner has to choose something before training."""
        return self.mesh.auto or not self.data.batch_tokens

    def __post_init__(self) -> None:
        _check_choice("precision", self.precision, "fp32", "bf16", "fp16")
        self._check_best_metric()
        if self.training.r_drop and not max(
            self.model.dropout, self.model.attention_dropout, self.model.activation_dropout
        ):
            raise ValueError(
                f"training.r_drop={self.training.r_drop} compares two passes with different dropout, "
                "of which there is none: set --config.model.dropout, or --config.training.r_drop=0"
            )
        of_encoders: list[tuple[str, Any, tuple[str, ...]]] = [
            ("model", self.model, ("neighbourhood", "local_layers", "scale_embedding", "final_norm")),
            ("task", self.task, ("part_weights", "class_weights", "token_dropout", "vary_token_dropout", "members")),
        ]
        for section, fields, names in of_encoders:
            for name in names if self.task.kind == "translation" else ():
                value, default = getattr(fields, name), getattr(type(fields), name)
                if value != default:
                    raise ValueError(
                        f"{section}.{name}={_said(value)} is for encoders with heads, and task.kind=translation: set "
                        f"--config.{section}.{name}={_said(default)}"
                    )
        if self.task.kind not in POOLED and self.task.pooling != TaskConfig.pooling:
            raise ValueError(
                f"task.pooling={self.task.pooling} is for {' and '.join(POOLED)}, and task.kind={self.task.kind} pools "
                f"nothing: set --config.task.pooling={TaskConfig.pooling}"
            )
        if self.task.linear_members and self.task.kind != "text_classification":
            raise ValueError(
                f"task.linear_members={self.task.linear_members} is for task.kind=text_classification, got "
                f"{self.task.kind}: set --config.task.linear_members=0"
            )
        if self.data.spelling and (self.task.kind != "text_classification" or self.data.tokenizer != "word"):
            raise ValueError(
                f"data.spelling={self.data.spelling} is for task.kind=text_classification with data.tokenizer=word, "
                f"got {self.task.kind} with {self.data.tokenizer}: set --config.data.spelling=0"
            )
        if self.data.spelling and self.model.neighbourhood:
            raise ValueError(
                f"data.spelling={self.data.spelling} and model.neighbourhood={self.model.neighbourhood} do not go "
                "together: set one of them to 0"
            )
        if self.profile.num_steps and self.profile.start_step > self.training.num_steps:
            raise ValueError(
                f"profile.start_step={self.profile.start_step} is after the last step, training.num_steps="
                f"{self.training.num_steps}: nothing would be traced; lower --config.profile.start_step"
            )
        if self.model.share_embeddings and not self.data.joint_vocabulary:
            raise ValueError(
                "model.share_embeddings=true needs one vocabulary for both languages: "
                "set --config.data.joint_vocabulary=true or --config.model.share_embeddings=false"
            )
        if self.data.max_length > self.model.max_length:
            raise ValueError(
                f"data.max_length={self.data.max_length} is more than model.max_length={self.model.max_length}: "
                "raise --config.model.max_length or lower --config.data.max_length"
            )

    def _check_best_metric(self) -> None:
        """Metrics of translation are known here; those of other tasks are checked where they are measured."""
        metric = self.training.best_metric
        if self.task.kind == "translation":
            names = ("bleu", "chrf", "exact_match", "loss", "nll", "accuracy")
            _check_choice("training.best_metric", metric, *(f"validation/{name}" for name in names))
        elif not metric.startswith("validation/"):
            raise ValueError(
                f"training.best_metric={metric!r} is not known: it is a metric of validation, such as validation/loss"
            )


_D = TypeVar("_D")


def replace(config: _D, changes: Mapping[str, Any]) -> _D:
    """`config` with `changes`, a nested or dotted mapping of field names to values; unknown names are refused.

    Raises:
      ValueError: for a field that does not exist (with the nearest name), or a value of the wrong type.
    """
    nested: dict[str, Any] = {}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if rest:
            nested.setdefault(head, {})[rest] = value
        elif isinstance(value, Mapping) and isinstance(nested.get(head), dict):
            nested[head].update(value)
        else:
            nested[head] = value
    fields = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in nested.items():
        if name not in fields:
            raise ValueError(f"unknown config field {name!r}: {nearest(name, fields)}")
        current = getattr(config, name)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ValueError(f"config section {name!r} takes fields, got {value!r}")
            values[name] = replace(current, value)
        else:
            values[name] = _typed(name, value, current)
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def _typed(name: str, value: Any, current: Any) -> Any:
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(current):
        raise ValueError(f"config field {name!r} is of type {type(current).__name__}, got {value!r}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """The nested plain dictionary of `config`, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any]) -> Config:
    """The `Config` that `to_dict` wrote; fields it does not mention keep their defaults."""
    return replace(Config(), values)
