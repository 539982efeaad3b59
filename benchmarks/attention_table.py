"""The table by which attention chooses its implementation on this device, for the shapes of translation.

    python -m benchmarks.attention_table --output=FILE [--lengths=16,32,64,...] [--head_size=64] [--tokens=25600]

For masks as training has them (sentences that end in padding, with and without the causal mask; up to 128 positions
with and without dropout), and from 256 positions on for no padding as well, each implementation's output and gradients
are compared with those of plain array operations; those that agree are timed, forward and backward, repeated within one
compiled call. FILE is what `model.attention_table` takes; the package's own is
`jaxformer/ops/attention/measured.json`. For the shapes of one run, `python run.py --mode=tune` does the same.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import report

MASKS = ("segments", "causal+segments", "none", "causal")
REPEATS = 20
ROUNDS = 4
LONGEST_PLAIN = 4096  # plain array operations would take too much memory for more
TOLERANCE = 3e-2  # of the largest element: bfloat16 has 8 bits


def calls(lengths: list[int], head_size: int, tokens: int) -> Iterator[Any]:
    """What to time."""
    import jax
    import jax.numpy as jnp

    from jaxformer.ops.attention import Call, Mask

    for length in lengths:
        rows, heads = max(1, tokens // length), max(1, 1024 // head_size)
        q = jax.ShapeDtypeStruct((rows, length, heads, head_size), jnp.bfloat16)
        ids = jax.ShapeDtypeStruct((rows, length), jnp.int32)
        for name in MASKS if length >= 256 else MASKS[:2]:
            mask = Mask(causal="causal" in name) & (Mask.segments(ids) if "segments" in name else Mask())
            for dropout in (0.0, 0.1) if "segments" in name and length <= 128 else (0.0,):
                yield Call(q, q, None if name == "none" else mask, dropout)


def operands(call: Any) -> tuple[Any, ...]:
    """q, k, v, the output's gradient, and segment ids of sentences that fill 0.8 to 1 of their rows."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    arrays = [jax.random.normal(key, call.q.shape, call.q.dtype) for key in jax.random.split(jax.random.key(1), 4)]
    rows, length = call.q.shape[:2]
    real = np.random.default_rng(0).integers(length * 4 // 5, length + 1, rows)[:, None]
    return (*arrays, jnp.asarray(np.arange(length) < real, jnp.int32))


def timed_function(name: str, call: Any) -> Callable[..., Any]:
    """Output and gradients of one call, and a number that many further ones went into."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from jaxformer.ops.attention import Mask, attention

    def both(q: Any, k: Any, v: Any, d_out: Any, ids: Any) -> tuple[Any, ...]:
        mask = call.mask
        if mask is not None and mask.query_segment_ids is not None:
            mask = Mask(causal=mask.causal) & Mask.segments(ids)
        seed = jnp.uint32(5) if call.dropout else None
        out, pull = jax.vjp(
            lambda q, k, v: attention(
                q, k, v, mask=mask, dropout=call.dropout, dropout_seed=seed, implementation=name
            ), q, k, v,
        )  # fmt: skip
        return out, *pull(d_out)

    def run(*arrays: Any) -> Any:
        def again(_: Any, carry: Any) -> Any:
            results = lax.optimization_barrier(both(carry[0], *arrays[1:]))
            first = sum(x[0, 0, 0, 0].astype("float32") for x in results)
            return lax.optimization_barrier((carry[0], carry[1] + first))

        return both(*arrays), lax.fori_loop(0, REPEATS, again, (arrays[0], jnp.float32(0.0)))[1]

    return run


def milliseconds(run: Callable[..., Any], arrays: tuple[Any, ...]) -> float:
    import jax

    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready(run(*arrays))
        times.append((time.perf_counter() - start) / (REPEATS + 1))
    return 1e3 * statistics.median(times)


def compiled(names: Sequence[str], found: Sequence[Any]) -> list[dict[str, Any]]:
    """For each call, by implementation: what compiling it will give, or why it refuses; all are compiled at once."""
    import jax

    every: list[dict[str, Any]] = []
    pool = concurrent.futures.ThreadPoolExecutor(8)
    for call in found:  # tracing is Python, one after the other; compiling is not
        arrays = jax.eval_shape(functools.partial(operands, call))
        jobs: dict[str, Any] = {}
        for name in names:
            if name == "xla" and call.q.shape[1] > LONGEST_PLAIN:
                continue
            try:
                jobs[name] = pool.submit(jax.jit(timed_function(name, call)).lower(*arrays).compile)
            except NotImplementedError as refusal:
                jobs[name] = refusal
        every.append(jobs)
    pool.shutdown(wait=False)
    return every


def measured(call: Any, jobs: Mapping[str, Any], kind: str) -> Any:
    """A row of the table: the milliseconds of each implementation that agrees with the first, `xla`."""
    import numpy as np

    from jaxformer.ops.attention.choice import Case
    from jaxformer.training.tuning import Measured

    one = Measured(Case.of(call.q, call.k, call.mask, call.dropout > 0, kind), call, {}, {})
    arrays, expected = operands(call), None
    for name, job in jobs.items():
        try:
            if isinstance(job, NotImplementedError):
                raise job
            run = job.result()
            results = [np.asarray(x, np.float32) for x in run(*arrays)[0]]
            if expected is None and name != "xla":
                raise ValueError("there is nothing to compare it with")
            expected = results if expected is None else expected
            errors = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(results, expected, strict=True)]
            if not all(error <= TOLERANCE for error in errors):  # nan is wrong, too; `max` may leave it out
                raise ValueError(f"WRONG here: differs by {np.max(errors):.2g} of the largest element")
            one.milliseconds[name] = round(milliseconds(run, arrays), 4)
        except Exception as error:  # whatever one does, the others are measured
            one.refused[name] = (str(error) or type(error).__name__).splitlines()[0][:200]
    return one


def main() -> None:
    """Measures, prints, and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=report.new_file, required=True, help="where to write the table")
    parser.add_argument(
        "--lengths", type=report.positives, default="16,32,64,128,256,512,1024", help="positions, separated by commas"
    )
    parser.add_argument("--head_size", type=report.positive, default=64, help="of each head")
    parser.add_argument("--tokens", type=report.positive, default=25600, help="slots of a batch")
    parser.add_argument("--only", default="xla,mosaic,cudnn", help="implementations, separated by commas; xla first")
    options = parser.parse_args()
    import jax

    from jaxformer.ops.attention import IMPLEMENTATIONS
    from jaxformer.ops.attention.choice import current_device
    from jaxformer.training.tuning import describe_measured, table_json

    names = options.only.split(",")
    if names[0] != "xla" or set(names) - set(IMPLEMENTATIONS):
        parser.error(f"--only takes xla, which the others are compared with, and more of {', '.join(IMPLEMENTATIONS)}")
    found = list(calls(options.lengths, options.head_size, options.tokens))
    kind = current_device().device_kind
    print(f"{len(found)} cases on {kind}, forward and backward", flush=True)
    rows = []
    for call, jobs in zip(found, compiled(names, found), strict=True):
        rows.append(measured(call, jobs, kind))
        print(describe_measured(rows[-1]), flush=True)
    source = f"{datetime.date.today().isoformat()}, jax {jax.__version__}, python -m benchmarks.attention_table"
    options.output.write_text(table_json(rows, source), encoding="utf-8")


if __name__ == "__main__":
    main()
