"""A study of nothing real, for tests of the trainer: whether the digit before each digit is odd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.config import Config, replace
from jaxformer.data.labelled import LabelledDataset, Labels, class_counts
from jaxformer.tasks.objectives import Classes
from jaxformer.tasks.tagging import TaggingTask
from jaxformer.training.studies.labelled import LabelledStudy
from jaxformer.training.studies.records import LabelledData, LabelledFacts, Split

LETTERS = "0123456789"
FIRST = 4  # below it are special tokens


def records(number: int, seed: int) -> tuple[LabelledDataset, list[str]]:
    """Rows of 3 to 12 digits; the first of each has no label."""
    random = np.random.default_rng(seed)
    rows = [random.integers(0, 10, random.integers(3, 13)) for _ in range(number)]
    return labelled(rows), ["".join(map(str, row)) for row in rows]


def labelled(rows: list[np.ndarray]) -> LabelledDataset:
    before = [np.concatenate([[0], row[:-1]]) % 2 for row in rows]
    weights = [np.arange(len(row)) > 0 for row in rows]
    labels = Labels.positions(np.concatenate(before), np.concatenate(weights))
    return LabelledDataset.from_lists([row + FIRST for row in rows], {"odd": labels})


class ParityStudy(LabelledStudy):
    noun = "numbers"
    metrics = ("loss", "nll", "accuracy", "exact")

    def prepare(self, *, download: bool = False) -> LabelledData:
        train, texts = records(self.config.data.num_examples or 600, self.config.data.seed)
        counts = class_counts([train.labels["odd"]], 2).tolist()
        facts = LabelledFacts({"names": ["even", "odd"], "counts": counts})
        return LabelledData(facts, train, self.evaluation_splits(facts), f"numbers read  {len(texts)}", extra=texts)

    def evaluation_splits(self, facts: LabelledFacts) -> dict[str, Split]:
        return {name: Split(*records(48, seed)) for name, seed in (("validation", 1 << 20), ("test", 1 << 21))}

    def assumed_facts(self) -> LabelledFacts:
        return LabelledFacts({"names": ["even", "odd"], "counts": [1, 1]})

    def make_task(self, facts: LabelledFacts, layout: Any = None) -> TaggingTask:
        objective = Classes(2, self.class_weights(facts.values["counts"]))
        return TaggingTask(self.config, {"odd": objective}, vocabulary_size=FIRST + len(LETTERS), layout=layout)

    def measure(self, split: Split, predicted: Any) -> dict[str, float]:
        labels = split.records.labels["odd"]
        right = (predicted["odd"].argmax(axis=-1) == labels.values) | (labels.weights == 0)
        rows = np.split(right, np.cumsum(split.records.lengths)[:-1])
        return {
            "accuracy": float(right[labels.weights > 0].mean()),
            "exact": float(np.mean([row.all() for row in rows])),
        }

    def baselines(self, prepared: LabelledData, splits: Any) -> dict[str, dict[str, float]]:
        shares = {name: split.records.labels["odd"] for name, split in splits.items()}
        return {"always even": {
            f"{name}/accuracy": float((one.values == 0)[one.weights > 0].mean()) for name, one in shares.items()
        }}  # fmt: skip

    def write_predictions(self, name: str, split: Split, predicted: Any, folder: Path) -> Path:
        found = np.split(predicted["odd"].argmax(axis=-1), np.cumsum(split.records.lengths)[:-1])
        (folder / f"{name}.txt").write_text("".join("".join(map(str, row)) + "\n" for row in found))
        return folder / f"{name}.txt"

    def samples(self, split: Split, predicted: Any, count: int) -> str:
        return "\n".join(split.raw[:count])

    def predict(self, predictor: Any, lines: Any, *, interactive: bool = False) -> Any:
        for line in lines:
            row = np.array([int(letter) for letter in line])
            odd = predictor(labelled([row]))["odd"].argmax(axis=-1)
            yield "".join("eo"[int(one)] for one in odd) + "\n"

    def next_commands(self, command: str, flags: str) -> list[str]:
        return [f"{command} --mode=predict {flags} < numbers.txt"]


def config(folder: Path, **changes: Any) -> Config:
    """A model of 8,000 parameters, under the kind `parity`; `__` is a dot in `changes`."""
    base: dict[str, Any] = {
        "experiment": "parity",
        "task": {"kind": "parity"},
        "model": {
            "d_model": 32, "d_ff": 64, "num_heads": 4, "num_encoder_layers": 1, "max_length": 16, "dropout": 0.1,
            "position": "rotary",
        },
        "data": {
            "source": "bundled", "max_length": 12, "batch_tokens": 512, "num_shapes": 2,
            "cache_dir": str(folder / "cache"),
        },
        "optimizer": {"learning_rate": 5e-3, "warmup_steps": 20, "schedule": "cosine"},
        "training": {
            "num_steps": 24, "log_every": 5, "eval_every": 0, "checkpoint_every": 8, "checkpoint_minutes": 0.0,
            "ema_decay": 0.9, "best_metric": "validation/accuracy", "label_smoothing": 0.0,
        },
        "monitoring": {"progress": False, "tensorboard": False, "samples": 3},
    }  # fmt: skip
    return replace(Config(), base | {name.replace("__", "."): value for name, value in changes.items()})
