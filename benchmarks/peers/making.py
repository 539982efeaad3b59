"""Makes the work that every peer is given: batches of jaxformer's own pipeline, of real text or of random tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SYNTHETIC = "synthetic"
"""In place of a folder: random tokens in sentences as long as WMT's."""


def synthetic_pairs(config: Any, count: int = 200_000) -> Any:
    """Random tokens in sentences as long as WMT's."""
    import numpy as np

    from jaxformer.data.store import TokenizedDataset
    from jaxformer.types import EOS_ID

    random = np.random.default_rng(0)
    source = np.exp(random.normal(np.log(22.8), 0.58, count))  # the mean of these is 27
    target = source * 1.05 * np.exp(random.normal(0.0, 0.15, count))
    lengths = np.stack([source, target], axis=1).round().astype(np.int64).clip(3, config.max_length)
    ends = lengths.sum(axis=1).cumsum()
    tokens = random.integers(EOS_ID + 1, config.vocabulary_size, ends[-1], np.int32)
    return TokenizedDataset(
        ends - lengths.sum(axis=1), lengths[:, 0].astype(np.int32), lengths[:, 1].astype(np.int32), tokens
    )


def make_work(config: Any, count: int, folder: Path, divisor: int) -> tuple[str, float]:
    """Writes the work to `folder`; returns a sentence about the batches and the FLOPs of one round.

    `divisor` divides the rows of every batch.
    """
    import jax
    import numpy as np

    from benchmarks.peers.our_training import initial_params
    from benchmarks.peers.work import Sizes, Work
    from jaxformer.data.pipeline import BatchPipeline
    from jaxformer.data.prepare import prepare
    from jaxformer.monitoring.flops import training_flops
    from jaxformer.ops import shift_right, sinusoidal_positions
    from jaxformer.types import BOS_ID

    if config.data.path == SYNTHETIC:
        vocabulary, train = config.data.vocabulary_size, synthetic_pairs(config.data)
    else:
        data = prepare(config.data)
        vocabulary, train = data.tokenizer.source_vocabulary_size, data.train
    model, optimizer = config.model, config.optimizer
    sizes = Sizes(
        vocabulary, model.d_model, model.d_ff, model.num_heads, model.num_encoder_layers,
        model.num_decoder_layers, model.dropout, config.training.label_smoothing, optimizer.learning_rate,
        optimizer.b1, optimizer.b2, optimizer.eps,
    )
    chosen: dict[Any, Any] = {}
    with BatchPipeline(train, config.data, seed=0, divisor=divisor) as pipeline:
        for batch in pipeline:  # shapes come as often as they do in training: the first batches of different shapes
            chosen.setdefault(batch.target.tokens.shape, batch)
            if len(chosen) == min(count, len(pipeline.shapes)):
                break
    batches = []
    for batch in chosen.values():
        inputs = np.asarray(shift_right(batch.target.tokens, batch.target.positions, BOS_ID))
        inputs = np.where(batch.target.segment_ids != 0, inputs, 0).astype(np.int32)
        batches.append((batch.source.tokens, inputs, batch.target.tokens))
    longest = max(array.shape[1] for batch in batches for array in batch)
    positions = np.asarray(sinusoidal_positions(jax.numpy.arange(longest), model.d_model))
    work = Work(sizes, initial_params(sizes), batches, positions)
    work.save(folder)
    shapes = [(*source.shape, labels.shape[1]) for source, _, labels in batches]
    flops = sum(training_flops(model, sizes.vocabulary, *shape) for shape in shapes)
    real = work.target_tokens / sum(labels.size for _, _, labels in batches)
    text = ", ".join(f"{rows}x({source}+{target})" for rows, source, target in shapes)
    about = f"batches {text} (rows x source + target), {real:.0%} real target tokens, {work.target_tokens} of them"
    return about, flops
