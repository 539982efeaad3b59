"""How good the planner's choice is: predicted and measured times of training steps, layout by layout.

    python -m benchmarks.plan [--network=translation|tagging] [--devices=8] [--layouts=14] [--rounds=7] [--json=FILE]

On a CPU the devices are simulated, and share its cores; elsewhere those that are there are used. The layouts that are
measured are the best ones of the plan and others spread over the rest of it. All are compiled first; then each takes
a step in every round, in random order, so that a slow moment meets all of them; the shortest time counts.
The last line says how much longer the chosen layout takes than the fastest of those measured.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

from benchmarks import report

PACKAGES = ("jax", "flax", "optax")
SIZES = {"d_model": 128, "d_ff": 512, "num_heads": 8, "scan_layers": True}
SETTINGS: dict[str, dict[str, Any]] = {
    "translation": {
        "model": {**SIZES, "num_encoder_layers": 2, "num_decoder_layers": 2},
        "data": {"vocabulary_size": 2048, "max_length": 32, "batch_tokens": 64 * 32},
    },
    "tagging": {
        "model": {**SIZES, "num_encoder_layers": 4},
        "data": {"vocabulary_size": 20, "max_length": 64, "batch_tokens": 64 * 64},
        "task.kind": "protein", "training.best_metric": "validation/q3",
    },
}  # fmt: skip
"""A network of four layers, and 64 of the longest rows, by name."""


def chosen_for_measurement(options: list[Any], count: int) -> list[Any]:
    """The best ones of the plan, at least half, and the rest spread over what is left of it."""
    best, rest = options[: count - count // 2], options[count - count // 2 :]
    spread = min(count // 2, len(rest))
    return best + [rest[(2 * number + 1) * len(rest) // (2 * spread)] for number in range(spread)]


def make_task(config: Any, layout: Any = None) -> Any:
    """That of the study, without its data."""
    from jaxformer.training.study import open_study

    study = open_study(config)
    return study.make_task(study.assumed_facts(), layout)


def random_batch(config: Any, shape: tuple[int, int, int]) -> Any:
    """A batch for `make_task`, of full rows."""
    import numpy as np

    from jaxformer.types import Batch, LabelledBatch, PositionLabels, Sequences

    def side(seed: int, *slots: int) -> Sequences:
        tokens = np.random.default_rng(seed).integers(4, config.data.vocabulary_size, slots, np.int32)
        positions = np.broadcast_to(np.arange(slots[1], dtype=np.int32), slots)
        return Sequences(tokens, positions, np.ones(slots, np.int32), np.ones(slots, np.float32))

    rows, length, target = shape
    source = side(0, rows, length)
    if target:
        return Batch(source, side(1, rows, target))
    return LabelledBatch(source, {"ss3": PositionLabels(source.tokens % 3, source.weights)})


def prepared(config: Any, option: Any) -> Callable[[], float]:
    """A function that takes one compiled step of a layout, and returns the seconds it took."""
    import jax

    from jaxformer.config import replace
    from jaxformer.parallel.mesh import make_layout, place_batch
    from jaxformer.training import create_state, make_optimizer, make_train_step

    config = replace(config, option.candidate.changes())
    layout = make_layout(config.mesh)
    task, optimizer = make_task(config, layout), make_optimizer(config.optimizer, 100)
    state = create_state(lambda: task.new_params(0), optimizer, seed=1, ema=False, layout=layout)
    step = make_train_step(task.loss_function, optimizer, accumulate=config.memory.accumulate, layout=layout)
    batch = place_batch(random_batch(config, option.share.batch), layout)
    held = [state]

    def run() -> float:
        start = time.perf_counter()
        held[0], metrics = step(held[0], batch)
        jax.block_until_ready((held[0], metrics))
        return time.perf_counter() - start

    run()  # compiles
    return run


def compare(network: str, devices: int, layouts: int, rounds: int) -> list[tuple[Any, float]]:
    """(option, measured seconds) of every measured layout, the chosen one first."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    from jaxformer.config import Config, replace
    from jaxformer.training.planner.choice import make_plan
    from jaxformer.training.planner.resolve import hardware_of
    from jaxformer.training.planner.share import Model

    config: Any = replace(Config(), SETTINGS[network])
    hardware = hardware_of(config)
    plan = make_plan(Model(config, make_task(config)), hardware)
    print(f"{hardware.describe()}: {hardware.rates.source}\n", flush=True)
    options = chosen_for_measurement(plan.options, layouts)
    steps = [prepared(config, option) for option in options]
    shortest, order = [float("inf")] * len(steps), random.Random(0)
    for _ in range(rounds):
        for number in order.sample(range(len(steps)), len(steps)):  # none always follows the same one
            shortest[number] = min(shortest[number], steps[number]())
    return list(zip(options, shortest, strict=True))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=SETTINGS, default="translation", help="what is trained")
    parser.add_argument("--devices", type=report.positive, default=8, help="simulated on a CPU")
    parser.add_argument("--layouts", type=report.positive, default=14, help="that are measured")
    parser.add_argument("--rounds", type=report.positive, default=7, help="steps of each")
    report.add_json_flag(parser)
    options = parser.parse_args()
    found = compare(options.network, options.devices, options.layouts, options.rounds)
    from jaxformer.training.planner.choice import describe_option

    best = min(seconds for _, seconds in found)
    rows = [
        [describe_option(option), f"{1e3 * option.time.total:.1f}", f"{1e3 * seconds:.1f}", f"{seconds / best - 1:.0%}"]
        for option, seconds in found
    ]
    print(report.heading(*PACKAGES))
    print(report.table(["layout, the chosen one first", "predicted ms", "measured ms", "over the best"], rows))
    print(f"\nthe chosen layout takes {found[0][1] / best - 1:.1%} more than the fastest of {len(found)}")
    figures = [{"name": row[0], "value": 1e3 * seconds, "unit": "ms a step", "predicted": 1e3 * option.time.total}
               for row, (option, seconds) in zip(rows, found, strict=True)]  # fmt: skip
    report.write_json(options.json, figures, *PACKAGES)


if __name__ == "__main__":
    main()
