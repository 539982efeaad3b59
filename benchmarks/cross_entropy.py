"""The output projection with label-smoothed cross-entropy, fused and plain: time and memory of loss and gradients.

    python -m benchmarks.cross_entropy [--tokens=4096] [--width=512] [--vocabularies=8192,32768,262144] [--json=FILE]

`fused` is `jaxformer.ops.linear_cross_entropy`; `plain` makes all the logits and differentiates
`jaxformer.ops.cross_entropy`; `optax` does so with `optax.softmax_cross_entropy`, as Flax's wmt example does. All must
agree before they are timed, in turn; medians of rounds. Memory is what the compiled program needs besides its operands
and results, by its own analysis; a form that needs more than the machine has is not run, and its memory is told all the
same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import report
from jaxformer.monitoring.heap import restart_with_heap_settings

PACKAGES = ("jax", "optax")
SMOOTHING = 0.1
RELATIVE = 1e-4  # of the loss and of the largest element of each gradient


def forms() -> dict[str, Callable[..., Any]]:
    """Each form as (hidden [M, D], kernel [V, D], labels [M]) -> loss."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxformer.ops import cross_entropy, linear_cross_entropy

    def weights(labels: Any) -> Any:
        return jnp.ones(labels.shape, jnp.float32)

    def fused(hidden: Any, kernel: Any, labels: Any) -> Any:
        return linear_cross_entropy(hidden, kernel, labels, weights(labels), label_smoothing=SMOOTHING).loss

    def plain(hidden: Any, kernel: Any, labels: Any) -> Any:
        return cross_entropy(hidden @ kernel.T, labels, weights(labels), label_smoothing=SMOOTHING).loss

    def with_optax(hidden: Any, kernel: Any, labels: Any) -> Any:
        targets = optax.smooth_labels(jax.nn.one_hot(labels, kernel.shape[0]), SMOOTHING)
        return optax.softmax_cross_entropy((hidden @ kernel.T).astype(jnp.float32), targets).sum()

    return {"fused": fused, "plain": plain, "optax": with_optax}


def differ(found: Any, expected: Any) -> float:
    """The largest difference of any output, relative to the largest element of that output; nan if one holds nan."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    def one(a: Any, b: Any) -> float:
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        return float(jnp.abs(a - b).max() / jnp.abs(b).max())

    return float(np.max(jax.tree.leaves(jax.tree.map(one, found, expected))))  # `max` may leave nan out


def measure(vocabulary: int, tokens: int, width: int, dtype: str, rounds: int) -> list[dict[str, Any]]:
    """Time in ms and memory in MiB of each form, for one size of the vocabulary."""
    import jax

    from jaxformer.monitoring.machine import memory

    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (tokens, width)).astype(dtype)
    kernel = (jax.random.normal(keys[1], (vocabulary, width)) * width**-0.5).astype(dtype)
    labels = jax.random.randint(keys[2], (tokens,), 0, vocabulary)
    limit = int((jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0)) or memory()[1]
    compiled, found = {}, []
    expected = None
    for name, form in forms().items():
        program = jax.jit(jax.value_and_grad(form, (0, 1))).lower(hidden, kernel, labels).compile()
        needed = program.memory_analysis().temp_size_in_bytes
        found.append({"name": name, "vocabulary": vocabulary, "memory": needed / 2**20, "times": []})
        if needed > 0.6 * limit:
            continue
        result = jax.block_until_ready(program(hidden, kernel, labels))
        expected = result if expected is None else expected
        by = differ(result, expected)
        if not by <= (RELATIVE if dtype == "float32" else 300 * RELATIVE):  # nan is wrong, too
            raise SystemExit(f"{name} differs from {next(iter(compiled))} by {by:g}: they do not compute the same")
        compiled[name] = program
    for _ in range(rounds):
        for entry in found:
            if entry["name"] in compiled:
                start = time.perf_counter()
                jax.block_until_ready(compiled[entry["name"]](hidden, kernel, labels))
                entry["times"].append(1e3 * (time.perf_counter() - start))
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=report.positive, default=4096, help="M, target tokens")
    parser.add_argument("--width", type=report.positive, default=512, help="D")
    parser.add_argument(
        "--vocabularies", type=report.positives, default="8192,32768,262144", help="V, several separated by commas"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the operands")
    parser.add_argument("--rounds", type=report.positive, default=5, help="how often each form is timed")
    report.add_json_flag(parser)
    options = parser.parse_args()
    sizes = f"{options.tokens} tokens, width {options.width}, {options.dtype}"
    print(report.heading(*PACKAGES), sizes, sep="\n", end="\n\n", flush=True)
    rows, figures = [], []
    for vocabulary in options.vocabularies:
        found = measure(vocabulary, options.tokens, options.width, options.dtype, options.rounds)
        ours = statistics.median(found[0]["times"]) if found[0]["times"] else None
        for entry in found:
            name = f"V {vocabulary:,}: {entry['name']}"
            row = [name, "not run", "", "", f"{entry['memory']:,.0f}"]
            if entry["times"]:
                middle = statistics.median(entry["times"])
                spread = f"{min(entry['times']):,.1f} to {max(entry['times']):,.1f}"
                row[1:4] = [f"{middle:,.1f}", spread, f"{middle / ours:.2f}" if ours else ""]
                figures.append({"name": name, "value": middle, "unit": "ms", "memory_mib": entry["memory"]})
            rows.append(row)
    print(report.table(["", "ms", "lowest to highest", "fused is faster by", "MiB"], rows))
    report.write_json(options.json, figures, *PACKAGES)


if __name__ == "__main__":
    restart_with_heap_settings()
    main()
