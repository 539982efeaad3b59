"""How fast training batches are made, beside torch's DataLoader on the same tokenised pairs.

    python -m benchmarks.input_pipeline [--data=DIR] [--batches=2000] [--rounds=5] [--json=FILE]

Every contestant reads the same pairs, shuffled and batched by length to the same number of slots, and gives padded
arrays of both sides; real tokens a second, medians over rounds, in turn. `jaxformer` is the trainer's own pipeline
(tokens, positions, segment ids and weights of each side), with several depths of prefetch; `torch` a DataLoader with a
batch sampler that sorts shuffled windows by length, and a collate function that pads (tokens alone), with worker
processes and without.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import report

PACKAGES = ("numpy", "grain", "torch")
WINDOW = 8192  # pairs that torch's sampler sorts at a time
DEPTHS = (1, 4, 16)


def our_batches(dataset: Any, config: Any, count: int) -> Iterator[int]:
    """Real tokens of each of `count` batches of the trainer's pipeline."""
    from jaxformer.data.pipeline import BatchPipeline

    with BatchPipeline(dataset, config, seed=0) as pipeline:
        for batch in itertools.islice(pipeline, count):
            yield int(batch.source.weights.sum()) + int(batch.target.weights.sum())


class Pairs:
    """The pairs as torch wants them; at the top of the module, so that worker processes find it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> Any:
        start, split = int(self.dataset.starts[number]), int(self.dataset.source_lengths[number])
        end = start + split + int(self.dataset.target_lengths[number])
        return self.dataset.tokens[start : start + split], self.dataset.tokens[start + split : end]


class ByLength:
    """Batches of at most `slots` a side: shuffled pairs, sorted by length within a window, batches shuffled again."""

    def __init__(self, dataset: Any, slots: int) -> None:
        import numpy as np

        self.lengths = np.maximum(dataset.source_lengths, dataset.target_lengths)
        self.slots = slots

    def __iter__(self) -> Iterator[list[int]]:
        import numpy as np

        random = np.random.default_rng(0)
        while True:
            order = random.permutation(len(self.lengths))
            for first in range(0, len(order), WINDOW):
                window = order[first : first + WINDOW]
                batches: list[list[int]] = [[]]
                for number in window[np.argsort(self.lengths[window], kind="stable")].tolist():
                    if (len(batches[-1]) + 1) * int(self.lengths[number]) > self.slots:
                        batches.append([])
                    batches[-1].append(number)
                for place in random.permutation(len(batches)):
                    yield batches[place]


def collate(pairs: list[Any]) -> Any:
    """Padded int32 tensors of both sides, and their real tokens."""
    import numpy as np
    import torch

    def side(rows: list[Any]) -> Any:
        padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
        for row, ids in zip(padded, rows, strict=True):
            row[: len(ids)] = ids
        return torch.from_numpy(padded)

    sources, targets = zip(*pairs, strict=True)
    return side(list(sources)), side(list(targets)), sum(map(len, sources)) + sum(map(len, targets))


def torch_batches(dataset: Any, slots: int, count: int, workers: int) -> Iterator[int]:
    """Real tokens of each of `count` batches of a DataLoader."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        Pairs(dataset), batch_sampler=ByLength(dataset, slots), collate_fn=collate, num_workers=workers  # type: ignore[arg-type]
    )
    for _, _, tokens in itertools.islice(loader, count):
        yield tokens


def rate(batches: Iterator[int]) -> float:
    """Tokens a second, from the first batch on: starting workers does not count."""
    next(batches)
    start = time.perf_counter()
    tokens = sum(batches)
    return tokens / (time.perf_counter() - start)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/multi30k/raw", help="parallel text: train.en, train.de")
    parser.add_argument("--batches", type=report.positive, default=2000, help="batches in a round")
    parser.add_argument("--batch_tokens", type=report.positive, default=4096, help="slots on each side of a batch")
    parser.add_argument("--rounds", type=report.positive, default=5, help="how often each is timed")
    report.add_json_flag(parser)
    options = parser.parse_args()

    from jaxformer.config import DataConfig, replace
    from jaxformer.data.prepare import prepare

    source = {"source": "files", "path": options.data} if Path(options.data).exists() else {"source": "bundled"}
    with tempfile.TemporaryDirectory() as folder:
        config = replace(DataConfig(), {**source, "batch_tokens": options.batch_tokens, "cache_dir": folder})
        prepared = prepare(config)
        about = f"{len(prepared.train):,} pairs ({config.source}), {options.batch_tokens} slots a side"
        print(report.heading(*PACKAGES), about, sep="\n", end="\n\n", flush=True)
        contestants: dict[str, Callable[[], Iterator[int]]] = {}
        for depth in DEPTHS:
            ahead = replace(config, {"prefetch": depth})
            contestants[f"jaxformer, {depth} ahead"] = lambda c=ahead: our_batches(  # type: ignore[misc]
                prepared.train, c, options.batches
            )
        for workers in (0, 2):
            contestants[f"torch, {workers} workers"] = lambda w=workers: torch_batches(  # type: ignore[misc]
                prepared.train, options.batch_tokens, options.batches, w
            )
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(options.rounds):
            for name, batches in contestants.items():
                rates[name].append(rate(batches()))
    best = max(statistics.median(values) for name, values in rates.items() if name.startswith("jaxformer"))
    rows, figures = [], []
    for name, values in rates.items():
        middle = statistics.median(values)
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        rows.append([name, f"{middle:,.0f}", spread, f"{best / middle:.2f}"])
        figures.append({"name": name, "value": middle, "unit": "real tokens/s"})
    print(report.table(["", "real tokens/s", "lowest to highest", "jaxformer's best is faster by"], rows))
    report.write_json(options.json, figures, *PACKAGES)


if __name__ == "__main__":
    main()
