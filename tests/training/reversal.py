"""What the training tests learn: to reverse a few digits, with a model small enough to train in seconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from jaxformer.config import Config, replace


def write_corpus(folder: Path, train: int = 4000, held_back: int = 64) -> Path:
    """Writes `train`, `val` and `test` of disjoint digit strings and their reversals; returns `folder`.

    With `held_back=0` there is neither `val` nor `test`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers, seen = random.Random(0), set()
    for split, count in (("train", train), ("val", held_back), ("test", held_back)):
        sides: tuple[list[str], list[str]] = ([], [])
        while len(sides[0]) < count:
            digits = [str(numbers.randrange(10)) for _ in range(numbers.randrange(2, 6))]
            if (text := " ".join(digits)) not in seen:
                seen.add(text)
                sides[0].append(text)
                sides[1].append(" ".join(reversed(digits)))
        for suffix, lines in zip(("en", "de"), sides, strict=True) if count else ():
            (folder / f"{split}.{suffix}").write_text("".join(f"{line}\n" for line in lines))
    return folder


def config(data: Path, **changes: Any) -> Config:
    """A model of 22,000 parameters with dropout, on the corpus in `data`; `__` is a dot in `changes`."""
    base: dict[str, Any] = {
        "experiment": "reversal",
        "model": {
            "d_model": 32,
            "d_ff": 64,
            "num_heads": 2,
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
            "max_length": 16,
            "dropout": 0.1,
        },
        "data": {
            "path": str(data),
            "vocabulary_size": 20,
            "max_length": 16,
            "batch_tokens": 512,
            "num_shapes": 1,
            "byte_fallback": False,
            "cache_dir": str(data / "cache"),
        },
        "optimizer": {"learning_rate": 5e-3, "warmup_steps": 50},
        "training": {
            "num_steps": 24,
            "log_every": 5,
            "eval_every": 0,
            "checkpoint_every": 8,
            "checkpoint_minutes": 0.0,
            "ema_decay": 0.9,
        },
        "decoding": {"beam_size": 2},
        "monitoring": {"progress": False, "tensorboard": False, "samples": 3},
    }
    return replace(replace(Config(), base), {name.replace("__", "."): value for name, value in changes.items()})
