"""How long one training step takes: forward, backward and Adam, of the network of an experiment, on random tokens.

    python -m benchmarks.step [--experiment=multi30k:tiny] [--rows=256] [--source=16] [--target=16] [--steps=20]

No padding: every slot holds a token. The time of a step is the median; tokens are source and target together. To
compare settings that are read when a process starts (`GLIBC_TUNABLES`, `XLA_FLAGS`), alternate them:

    for i in 1 2 3; do for flags in '' 'SETTING'; do XLA_FLAGS=$flags python -m benchmarks.step; done; done
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from benchmarks import report
from jaxformer.monitoring.heap import restart_with_heap_settings


def run(config: Any, vocabulary: int, shape: tuple[int, int, int], steps: int) -> tuple[list[float], float]:
    """`steps` training steps of one batch of `shape`: rows, source and target tokens.

    Returns:
      The wall time of each step, and the loss a token of the last.
    """
    import jax
    import numpy as np

    from benchmarks.peers.our_training import Vocabulary
    from jaxformer.tasks.translation import TranslationTask
    from jaxformer.training import make_optimizer, make_train_step
    from jaxformer.training.state import create_state
    from jaxformer.types import Batch, Sequences

    def side(length: int) -> Sequences:
        slots = (shape[0], length)
        positions = np.broadcast_to(np.arange(length, dtype=np.int32), slots)
        tokens = np.random.default_rng(0).integers(4, vocabulary, slots, np.int32)
        return Sequences(tokens, positions, np.ones(slots, np.int32), np.ones(slots, np.float32))

    task = TranslationTask(config, Vocabulary(vocabulary))
    optimizer, decay = make_optimizer(config.optimizer, config.training.num_steps), config.training.ema_decay
    step = make_train_step(task.loss_function, optimizer, accumulate=config.memory.accumulate, ema_decay=decay)
    state = create_state(task.init_params(0), optimizer, seed=0, ema=bool(decay))
    batch = jax.device_put(Batch(side(shape[1]), side(shape[2])))
    times = []
    for _ in range(3 + steps):  # the first compiles, the next settle
        start = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        times.append(time.perf_counter() - start)
    return times[3:], float(metrics["loss"].value())


def main() -> None:
    """Measures and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="multi30k:tiny")
    parser.add_argument("--vocabulary", type=report.positive, default=8000, help="pieces")
    parser.add_argument("--rows", type=report.positive, default=256, help="sentences in the batch")
    parser.add_argument("--source", type=report.positive, default=16, help="tokens in each source sentence")
    parser.add_argument("--target", type=report.positive, default=16, help="tokens in each target sentence")
    parser.add_argument("--steps", type=report.positive, default=20, help="how many to time")
    options = parser.parse_args()
    import experiments

    name, _, variant = options.experiment.partition(":")
    config = experiments.find(name).config(variant)
    shape = (options.rows, options.source, options.target)
    times, _ = run(config, options.vocabulary, shape, options.steps)
    median = statistics.median(times)
    rate = options.rows * (options.source + options.target) / median
    spread = f"{min(times) * 1e3:.1f} to {max(times) * 1e3:.1f}"
    print(f"{options.experiment} {shape}: {median * 1e3:.1f} ms a step ({spread}), {rate:,.0f} tokens/s")


if __name__ == "__main__":
    restart_with_heap_settings()
    main()
