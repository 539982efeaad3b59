"""What a study tells about a trained model: its scores, and what the picture of its run shows.

Not for how translations are scored (`scoring`), nor for who writes and prints it (`closing`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Scored:
    """How a trained model did on its splits.

    Attributes:
      metrics: under names such as `test/accuracy`; they go to `result.json` and `metrics.jsonl`.
      table: the same for a person, with what belongs beside them: signatures, baselines.
      samples: some predictions beside what was wanted, for a person; may be empty.
      files: what was written, by a name for a person, such as `translations of test`.
      signatures: of metrics that have one, by their names.
      details: anything else for `result.json`, such as the scores of baselines; a JSON value.
    """

    metrics: Mapping[str, float]
    table: str
    samples: str = ""
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    signatures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Curves:
    """What the picture of a run shows.

    Attributes:
      loss: of what the loss is a mean, `nats per target token`.
      scores: metrics of the right panel, `validation/bleu`, with a label for each, most telling first.
      scale: what they are multiplied by, 100 for shares that are shown in per cent.
    """

    loss: str
    scores: Mapping[str, str]
    scale: float = 1.0
