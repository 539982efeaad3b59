"""A process of `benchmarks.attention` that checks contestants or times them, and says what it does in lines of JSON.

    python -m benchmarks.peers.attention_worker --check=NAME,... --dtype=DTYPE
    python -m benchmarks.peers.attention_worker --time=PLAN [--gpu]

PLAN is JSON: [[number of a case, [contestants]], ...]. Before every piece of work comes {"begin": what}, so that the
parent knows what hung or took the process down; the last line is {"end": true}.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import itertools
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.peers.attention_cases import Case, check_cases, timing_cases
from benchmarks.peers.attention_contestants import both_ways, jax_function, torch_function

ROUNDS = 5


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


# Checks.


def last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip().splitlines()[-1][:300]


@functools.cache
def expected_results(case: Case) -> tuple[Any, ...]:
    """Output and gradients in float32, by plain array operations, for the same numbers."""
    import jax

    function = both_ways(jax_function("xla", dataclasses.replace(case, dtype="float32")))
    with jax.default_matmul_precision("highest"):
        return jax.jit(function)(*[x.astype("float32") for x in case.inputs()])


def check(name: str, case: Case) -> str:
    """"" if values and gradients agree with float32, else what is wrong."""
    import jax
    import numpy as np

    inputs, expected = case.inputs(), expected_results(case)
    if name == "torch sdpa":
        results = [x.detach().float().transpose(1, 2).cpu().numpy() for x in torch_function(case)[0](True)]
    else:
        results = jax.jit(both_ways(jax_function(name, case)))(*inputs)
    # bfloat16 has 8 bits of mantissa: results are off by 2**-8 of the largest at best; gradients add several such.
    tolerance = {"float32": 1e-4, "bfloat16": 3e-2}[case.dtype]
    for part, mine, right in zip(("output", "dq", "dk", "dv"), results, expected, strict=True):
        mine, right = np.asarray(mine, np.float32), np.asarray(right)
        error = np.abs(mine - right).max() / max(np.abs(right).max(), 1e-6)
        if not error <= tolerance:  # nan is wrong, too
            return f"{part} is off by {error:.2g} of its largest entry, {tolerance} allowed"
    return ""


def run_checks(names: Sequence[str], dtype: str) -> None:
    """Prints a line of JSON before and after each case."""
    for name, case in itertools.product(names, check_cases(dtype)):
        _say(begin=f"{name}: {case}")
        try:
            wrong = check(name, case)
            outcome = "wrong" if wrong else "right"
        except NotImplementedError as refusal:
            outcome, wrong = "refused", last_line(refusal)
        except Exception as error:
            outcome, wrong = "failed", last_line(error)
        _say(name=name, case=str(case), mask=case.mask, plain=not case.dropout, outcome=outcome, detail=wrong)
    _say(end=True)


# Timings.


def jax_runs(
    names: Sequence[str], case: Case, pool: concurrent.futures.Executor
) -> Iterator[tuple[str, bool, int, Callable[[], float] | BaseException]]:
    """Compiled and once called: contestant, with backward?, repetitions in a call, and what makes a call."""
    import jax
    from jax import lax

    inputs = case.inputs()
    gpu = jax.default_backend() == "gpu"

    def repeated(function: Callable[..., Any], count: int) -> Callable[..., Any]:
        def run(q: Any, k: Any, v: Any, d_out: Any) -> Any:
            def body(_: Any, carry: Any) -> Any:
                q, total = carry
                # A little of every result goes into the next repetition, so that none can be left out or merged.
                results = lax.optimization_barrier(function(q, k, v, d_out))
                total += sum(x[0, 0, 0, 0].astype("float32") for x in results)
                return lax.optimization_barrier((q, total))

            return lax.fori_loop(0, count, body, (q, jax.numpy.float32(0.0)))[1]

        return run

    lowered: list[tuple[str, bool, int, Any]] = []
    for name in names:
        for backward in (False, True):
            # Some 20 milliseconds in a call, at 200 TFLOP/s: enough to drown the launch and to average over.
            count = max(2, min(100, int(0.02 * 200e12 / case.operations(backward)))) if gpu else 1
            try:
                function = jax_function(name, case)
                forward = lambda q, k, v, d_out, function=function: (function(q, k, v),)  # noqa: E731
                run = repeated(both_ways(function) if backward else forward, count)
                # Lowering is Python, one after the other; compiling is not, and many go on at once.
                compiled = pool.submit(jax.jit(run).lower(*inputs).compile)
                lowered.append((name, backward, count, compiled))
            except Exception as error:
                yield name, backward, count, error
    for name, backward, count, compiled in lowered:
        _say(begin=f"{name}, {case}", contestant=name)
        try:
            run = compiled.result()
            run(*inputs).block_until_ready()
        except Exception as error:
            yield name, backward, count, error
            continue

        def call(run: Any = run) -> float:
            start = time.perf_counter()
            run(*inputs).block_until_ready()
            return time.perf_counter() - start

        yield name, backward, count, call


def torch_runs(case: Case) -> Iterator[tuple[str, bool, int, Callable[[], float] | BaseException]]:
    """Likewise for torch, in a CUDA graph, so that its launches cost as little as those in a compiled JAX call."""
    for backward in (False, True):
        count = max(2, min(100, int(0.02 * 200e12 / case.operations(backward))))
        try:
            import torch

            run, _ = torch_function(case)
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                for _ in range(3):
                    run(backward)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(count):
                    run(backward)

            def call(graph: Any = graph) -> float:
                torch.cuda.synchronize()
                start = time.perf_counter()
                graph.replay()
                torch.cuda.synchronize()
                return time.perf_counter() - start

            call()
            yield "torch sdpa", backward, count, call
        except Exception as error:
            yield "torch sdpa", backward, count, error


def time_case(names: Sequence[str], case: Case, pool: concurrent.futures.Executor) -> None:
    """Times all contestants by turns and prints their rows as JSON."""
    runs = list(jax_runs([name for name in names if name != "torch sdpa"], case, pool))
    if "torch sdpa" in names:
        runs += torch_runs(case)
    calls = []
    for name, backward, count, run in runs:
        if isinstance(run, BaseException):
            _say(failure=f"{name}, {case}, {_what(backward)}", detail=last_line(run))
        else:
            calls.append((name, backward, count, run, []))
    for _ in range(ROUNDS):
        for name, _, count, run, seconds in calls:
            _say(begin=f"{name}, {case}", contestant=name)
            seconds.append(run() / count)
    for name, backward, _, _, seconds in calls:
        median = statistics.median(seconds)
        _say(
            row={
                "name": f"{name}: {_what(backward)}, {case}",
                "value": case.operations(backward) / median / 1e12,
                "unit": "TFLOP/s",
                "milliseconds": median * 1e3,
                "fastest": min(seconds) * 1e3,
                "slowest": max(seconds) * 1e3,
                "contestant": name,
                "pass": _what(backward),
                **dataclasses.asdict(case),
            }
        )


def _what(backward: bool) -> str:
    return "forward+backward" if backward else "forward"


def run_timings(cases: Sequence[tuple[int, Sequence[str]]], gpu: bool) -> None:
    """Times the cases with these numbers, each for these contestants."""
    with concurrent.futures.ThreadPoolExecutor(8 if gpu else 1) as pool:
        for number, names in cases:
            case = timing_cases(gpu)[number]
            _say(begin=str(case))
            time_case(names, case, pool)
            _say(done=number)
    _say(end=True)


def main() -> None:
    """Checks or times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--check", help="contestants, separated by commas")
    work.add_argument("--time", help="the plan")
    parser.add_argument("--dtype", default="float32", help="of the cases that are checked")
    parser.add_argument("--gpu", action="store_true", help="time the cases of a GPU")
    options = parser.parse_args()
    if options.check:
        run_checks(options.check.split(","), options.dtype)
    else:
        run_timings(json.loads(options.time), options.gpu)


if __name__ == "__main__":
    main()
