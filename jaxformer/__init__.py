"""jaxformer: the JAX home for encoder-decoder and encoder Transformers.

    import jaxformer as jf

Everything public is listed here, by the module that holds it. Names are imported when they are first used, so that the
attention op does not wait for checkpoints to import, nor needs what they need.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "config": (
        "Config", "ModelConfig", "DataConfig", "OptimizerConfig", "TrainingConfig", "MemoryConfig", "MeshConfig",
        "DecodingConfig", "MonitoringConfig", "PlanConfig", "ProfileConfig", "SeriesConfig", "TaskConfig", "replace",
    ),
    "types": (
        "Batch", "LabelledBatch", "Mean", "Pair", "PositionLabels", "RowLabels", "Sequences", "Series", "PAD_ID",
        "UNK_ID", "BOS_ID", "EOS_ID",
    ),
    "ops": (
        "Mask", "attention", "cross_entropy", "linear_cross_entropy", "r_drop_cross_entropy", "dropout",
        "shift_right", "sinusoidal_positions", "apply_rotary", "weigh_classes", "binary_cross_entropy",
        "multi_label_cross_entropy", "squared_error", "absolute_error", "huber_loss", "quantile_loss", "weighted_total",
        "uncertainty_total",
    ),
    "ops.cross_entropy": ("CrossEntropy",),
    "ops.linear_cross_entropy": ("RDrop",),
    "ops.losses": ("BinaryCrossEntropy",),
    "nn": (
        "SelfAttention", "CrossAttention", "FeedForward", "Embedding", "ValueEmbedding", "Neighbourhood", "Residual",
        "EncoderBlock", "DecoderBlock", "Stack", "TokenHead", "PooledHead", "ChannelHead", "LearnedWeights",
    ),
    "models": ("Encoder", "EncoderDecoder", "EncoderWithHeads", "Ensemble", "TranslationEnsemble"),
    "data.sources": ("Source", "open_splits"),
    "data.prepare": ("PreparedData", "prepare"),
    "data.tokenizer": ("Tokenizer", "train_tokenizer"),
    "data.labelled": ("LabelledDataset", "Labels"),
    "data.pipeline": ("BatchPipeline", "evaluation_batches"),
    "data.bundled": ("BundledCorpus",),
    "data.proteins": ("Chain", "SyntheticChains"),
    "data.proteins.folded": ("Folded",),
    "decoding": ("greedy_search", "beam_search", "sample", "Hypotheses"),
    "evaluation": ("Score", "corpus_bleu", "corpus_chrf", "tokenized_bleu", "exact_match"),
    "evaluation.classification": ("classification_scores", "confusion_matrix"),
    "evaluation.forecasting": ("mean_squared_error", "mean_absolute_error", "pinball_loss", "coverage"),
    "data.series.windows": ("PriceWindows", "SeriesWindows", "Patching"),
    "tasks.task": ("Task", "ModelTask"),
    "tasks.objectives": ("Classes", "YesNo", "Numbers", "Quantiles"),
    "tasks.tagging": ("TaggingTask",),
    "tasks.classification": ("ClassificationTask",),
    "tasks.forecasting": ("ForecastingTask",),
    "tasks.translation": ("TranslationTask",),
    "tasks.translator": ("Translator", "Translation", "Candidate", "PairScore"),
    "tasks.translator_pool": ("TranslatorPool",),
    "parallel.mesh": ("make_mesh",),
    "monitoring.trackers": ("Tracker",),
    "training.study": ("Study",),
    "training.scored": ("Curves", "Scored"),
    "training.studies.chain_predictor": ("ChainPredictor",),
    "training.studies.labelled": ("LabelledStudy",),
    "training.studies.records": ("LabelledData", "LabelledFacts", "LabelPredictor", "Split"),
    "training.studies.text_classifier": ("Classified", "TextClassifier"),
    "training.studies.translation": ("TranslationStudy",),
    "training": (
        "TrainState", "create_state", "make_optimizer", "make_schedule", "make_train_step", "train", "load_translator",
        "load_predictor",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jaxformer' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxformer.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
