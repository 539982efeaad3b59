"""Small models for the tests of the planner, and their shares on meshes that are not there."""

from __future__ import annotations

from typing import Any

from jaxformer.config import Config, replace
from jaxformer.parallel.layout import Layout
from jaxformer.tasks.translation import TranslationTask
from jaxformer.training.planner.share import Candidate, Model, Share, share_on

D, ROWS, SLOTS = 32, 32, 12


class Sizes:
    """Vocabularies, of which 16 pieces are the source's alone."""

    source_vocabulary_size, target_vocabulary_size = 64, 48


CONFIG = replace(Config(), {
    "model": {"d_model": D, "d_ff": 64, "num_heads": 4, "num_encoder_layers": 1, "num_decoder_layers": 1,
              "max_length": SLOTS},
    "data": {"max_length": SLOTS, "batch_tokens": ROWS * SLOTS},
    "plan": {"devices": "8xH200"},
})  # fmt: skip


def make_task(config: Config, layout: Layout | None = None) -> TranslationTask:
    """Of the small vocabularies."""
    return TranslationTask(config, Sizes(), layout)  # type: ignore[arg-type]


def model_of(changes: dict[str, Any] | None = None) -> Model:
    """The small model."""
    config = replace(CONFIG, changes or {})
    return Model(config, make_task(config))


def share(candidate: Candidate, changes: dict[str, Any] | None = None, rows: int = ROWS, slots: int = SLOTS) -> Share:
    """What a device does under `candidate`."""
    model, place = model_of({**(changes or {}), **candidate.changes()}), candidate.layout()
    return share_on(model, candidate, place, model.held(place), model.parameters(place), (rows, slots, slots))
