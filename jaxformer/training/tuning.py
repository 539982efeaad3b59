"""`--mode=tune`: which implementation of attention is fastest for the calls that a run makes, on this device.

Every implementation that takes a call is checked against the plain one and timed, forward and backward, in turn; the
times go to a table that `model.attention_table` pins a run to (format: `jaxformer.ops.attention.choice`). Not for
comparing with rivals (`benchmarks.attention`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
import logging
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxformer.ops.attention import IMPLEMENTATIONS, Call, Mask, attention, recorded_calls
from jaxformer.ops.attention.choice import FORMAT, Case, current_device
from jaxformer.parallel.mesh import make_layout
from jaxformer.tasks.task import Task
from jaxformer.training.study import Prepared, Study

_LOGGER = logging.getLogger(__name__)

ROUNDS = 5
_SECONDS = 0.05
"""The least time of one timing: a call is repeated until it takes that long."""

_EMULATED = {"cpu": ("pallas", "mosaic")}
"""Written for other devices: on these they are only interpreted, for tests."""

_TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Of values and gradients, relative to the largest element."""

_TOLERANCE_TF32 = 2e-3
"""The same for float32 on a GPU, where our kernels' products are TF32's: they have its ten bits, whatever is asked."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was found for one case.

    Attributes:
      case: the case that the times are used for.
      call: the largest call of the run in that case, which was timed.
      milliseconds: of forward and backward together, by implementation.
      refused: implementation -> why it was not timed.
    """

    case: Case
    call: Call
    milliseconds: dict[str, float]
    refused: dict[str, str]


def tune(study: Study, prepared: Prepared) -> str:
    """The table for the calls that training on `prepared` makes; says what it finds as it goes.

    Raises:
      ValueError: for batches that do not divide over the devices.
    """
    task = study.make_task(prepared.facts)
    parts = make_layout(study.config.mesh).parts("rows") * study.config.memory.accumulate
    with contextlib.closing(study.make_pipeline(prepared, divisor=parts)) as pipeline:
        shapes = [(shape.rows // parts, shape.source_length, shape.target_length) for shape in pipeline.shapes]
    cases = largest_by_case(attention_calls(task, shapes))
    _LOGGER.info("%d cases of attention on %s, forward and backward", len(cases), current_device().device_kind)
    measured = []
    for case, call in cases.items():
        measured.append(measure(case, call))
        _LOGGER.info("%s", describe_measured(measured[-1]))
    return table_json(measured, f"{datetime.date.today().isoformat()}, jax {jax.__version__}")


def attention_calls(task: Task[Any], shapes: Iterable[tuple[int, int, int]]) -> list[Call]:
    """The calls of attention in training steps on batches of `shapes`: rows, input slots, target slots."""
    calls: list[Call] = []
    for shape in shapes:
        batch, seed = task.abstract_batch(shape), jax.ShapeDtypeStruct((), np.uint32)
        with recorded_calls() as found:
            jax.eval_shape(task.loss_function, task.abstract_params(), batch, seed)
        calls += found
    return calls


def largest_by_case(calls: Iterable[Call]) -> dict[Case, Call]:
    """For each case of the table the call with most pairs of queries and keys, in the order of their lengths."""
    kind, found = current_device().device_kind, dict[Case, Call]()
    for call in calls:
        case = Case.of(call.q, call.k, call.mask, call.dropout > 0, kind)
        if case not in found or _pairs(call) > _pairs(found[case]):
            found[case] = call
    return dict(sorted(found.items(), key=lambda item: (item[0].length, item[0].mask)))


def _pairs(call: Call) -> int:
    return call.q.shape[0] * call.q.shape[1] * call.q.shape[2] * call.k.shape[1]


def measure(case: Case, call: Call, *, rounds: int = ROUNDS) -> Measured:
    """Checks and times every implementation on one call."""
    operands = _operands(call)
    timed: dict[str, Callable[[], Any]] = {}
    refused: dict[str, str] = {}
    expected, tolerance = None, _tolerance(case.dtype)
    for name in IMPLEMENTATIONS:
        if name in _EMULATED.get(current_device().platform, ()):
            refused[name] = "only interpreted here"
            continue
        try:
            with jax.default_matmul_precision("highest"):  # without dropout, and where it listens, without TF32
                found = jax.block_until_ready(_both_ways(name, 0.0)(*operands))
            both = _both_ways(name, call.dropout)
            jax.block_until_ready(both(*operands))
        except Exception as error:  # whatever one does, the others are measured
            refused[name] = (str(error) or type(error).__name__).splitlines()[0]
            continue
        expected = found if expected is None else expected
        if not _agree(found, expected, tolerance):
            refused[name] = f"WRONG here: differs from {next(iter(timed))} by more than {tolerance:g}"
            continue
        timed[name] = functools.partial(both, *operands)
    if not timed:
        return Measured(case, call, {}, refused)
    repeats = {name: _repeats(run) for name, run in timed.items()}
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, run in timed.items():
            seconds[name].append(_seconds(run, repeats[name]))
    times = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    return Measured(case, call, times, refused)


def _both_ways(name: str, dropout: float) -> Callable[..., Any]:
    """Output and gradients of a call of `name`, compiled."""

    def forward(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask | None) -> jax.Array:
        seed = jnp.uint32(1) if dropout else None
        return attention(q, k, v, mask=mask, dropout=dropout, dropout_seed=seed, implementation=name)

    def both(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask | None, cotangent: jax.Array) -> Any:
        out, pull = jax.vjp(lambda q, k, v: forward(q, k, v, mask), q, k, v)
        return out, *pull(cotangent)

    return jax.jit(both)


def _operands(call: Call) -> tuple[Any, ...]:
    """Random arrays, and a mask whose rows end in a tenth of padding."""
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (call.q, call.k, call.k)
    q, k, v = (jax.random.normal(key, x.shape).astype(x.dtype) for key, x in zip(keys, shapes, strict=False))

    def fill(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if len(leaf.shape) == 1:  # lengths, of queries or of keys
            return jnp.full(leaf.shape, max(1, min(call.q.shape[1], call.k.shape[1]) * 9 // 10), leaf.dtype)
        real = jnp.arange(leaf.shape[1]) < max(1, leaf.shape[1] * 9 // 10)
        return jnp.broadcast_to(real, leaf.shape).astype(leaf.dtype)

    cotangent = jax.random.normal(keys[3], call.q.shape).astype(call.q.dtype)
    return q, k, v, jax.tree.map(fill, call.mask), cotangent


def _tolerance(dtype: str) -> float:
    return _TOLERANCE_TF32 if dtype == "float32" and jax.default_backend() == "gpu" else _TOLERANCE[dtype]


def _agree(found: Any, expected: Any, tolerance: float) -> bool:
    def close(a: jax.Array, b: jax.Array) -> bool:
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        return bool(jnp.abs(a - b).max() <= tolerance * jnp.maximum(jnp.abs(b).max(), 1e-6))

    return all(close(a, b) for a, b in zip(found, expected, strict=True))


def _repeats(run: Callable[[], Any]) -> int:
    return max(1, round(_SECONDS / max(_seconds(run, 1), 1e-7)))


def _seconds(run: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        result = run()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / repeats


def table_json(measured: Iterable[Measured], source: str) -> str:
    """The file for `model.attention_table`; cases in which nothing could be timed are left out."""
    entries = [
        {**dataclasses.asdict(one.case), "milliseconds": one.milliseconds, "source": f"{source}, {_size(one.call)}"}
        for one in measured
        if one.milliseconds
    ]
    return json.dumps({"format": FORMAT, "measurements": entries}, indent=2) + "\n"


def describe_measured(one: Measured) -> str:
    """A case for a person: times from the fastest on, then who refused and why."""
    times = sorted(one.milliseconds.items(), key=lambda item: item[1])
    lines = [f"{one.case}; timed on {_size(one.call)}"]
    lines += [f"  {name:<12} {value:9.3f} ms" for name, value in times]
    lines += [f"  {name:<12}         -    {why}" for name, why in one.refused.items()]
    return "\n".join(lines)


def _size(call: Call) -> str:
    (rows, queries, heads, _), (_, keys, kv_heads, _) = call.q.shape, call.k.shape
    return f"B {rows}, T {queries}, S {keys}, N {heads}, K {kv_heads}"
