"""How fast attention is: every implementation of ours and the rivals that are installed, checked before they are timed.

    python -m benchmarks.attention [--json=FILE] [--minutes=7.5] [--only=NAME,...]

First each implementation computes small odd shapes under all masks; values and gradients are compared with ours in
float32 as plain array operations. What fails is listed with its reason and is not timed under that mask. Then forward,
and forward with backward, are timed in bfloat16 at 16,384 tokens: repetitions within one compiled call (torch: within
one CUDA graph), the implementations by turns, median and spread of five rounds. TFLOP/s count the pairs that the mask
leaves.

A kernel that hangs or takes its process down is an outcome like another: checks and timings run in processes of their
own, which are ended and replaced. On a CPU the same command runs in float32 with few tokens. Torch is compared on a
GPU only.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import importlib.util
import itertools
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks import report

PACKAGES = ("jax", "jaxlib", "torch", "tokamax")
ROUNDS = 5
LONGEST_DENSE = 4096  # rivals without segments take them as a dense mask, up to this length
LARGEST_WEIGHTS = 9 * 2**30  # bytes of float32 weights up to which plain array operations are tried
SILENCE = 100.0  # seconds without a word after which a process is held to hang


@dataclasses.dataclass(frozen=True)
class Case:
    """What to compute: letters as in `jaxformer.ops.attention.attention`.

    Attributes:
      mask: names joined by "+": causal, window, lengths, segments; or none.
      batch: B.
      num_queries: T.
      num_keys: S.
      num_heads: N.
      num_kv_heads: K.
      head_size: H.
      dtype: of the inputs.
      dropout: rate.
    """

    mask: str
    batch: int
    num_queries: int
    num_keys: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    dtype: str
    dropout: float = 0.0

    def __str__(self) -> str:
        heads = f"N {self.num_heads}" + (f"/{self.num_kv_heads}" if self.num_kv_heads != self.num_heads else "")
        lengths = f"{self.num_queries}" + (f"x{self.num_keys}" if self.num_keys != self.num_queries else "")
        drop = f", dropout {self.dropout}" if self.dropout else ""
        return f"{self.mask}, {self.batch} x {lengths}, {heads}, H {self.head_size}, {self.dtype}{drop}"

    @property
    def plain(self) -> bool:
        """No dropout, and every query sees something: what the rivals promise to get right, too."""
        return not self.dropout and "lengths" not in self.mask and self.num_queries == self.num_keys

    def segment_ids(self) -> Any:
        """int32 [B, T]: segments of random lengths, without padding."""
        import numpy as np

        random = np.random.default_rng(self.num_queries)
        count = max(2, min(16, self.num_queries // 64))
        rows = []
        for _ in range(self.batch):
            ends = np.sort(random.choice(np.arange(1, self.num_queries), count - 1, replace=False))
            rows.append(np.searchsorted(ends, np.arange(self.num_queries), side="right") + 1)
        return np.asarray(rows, np.int32)

    def make_mask(self) -> Any:
        """Our mask, or None."""
        import jax.numpy as jnp

        from jaxformer.ops.attention import Mask

        mask = Mask(causal="causal" in self.mask, window=self.num_queries // 3 if "window" in self.mask else None)
        if "lengths" in self.mask:
            lengths = [jnp.arange(self.batch) * length // self.batch for length in (self.num_queries, self.num_keys)]
            mask &= Mask(query_lengths=lengths[0][::-1] + 1, key_lengths=lengths[1])
        if "segments" in self.mask:
            mask &= Mask.segments(jnp.asarray(self.segment_ids()))
        return None if self.mask == "none" else mask

    def visible_pairs(self) -> int:
        """Pairs of a query and a key that the mask leaves, over the batch; for none, causal and segments."""
        import numpy as np

        if self.mask == "segments":
            return int(sum((np.unique(row, return_counts=True)[1] ** 2).sum() for row in self.segment_ids()))
        whole = self.num_queries * self.num_keys
        return self.batch * (self.num_queries * (self.num_queries + 1) // 2 if self.mask == "causal" else whole)

    def operations(self, backward: bool) -> float:
        """Multiplications and additions of the matrix products: two forward, five more backward."""
        return 2.0 * (7 if backward else 2) * self.visible_pairs() * self.num_heads * self.head_size

    def inputs(self) -> list[Any]:
        """q, k, v and a gradient of the output: normally distributed, the same every time."""
        import jax

        queries = (self.batch, self.num_queries, self.num_heads, self.head_size)
        keys = (self.batch, self.num_keys, self.num_kv_heads, self.head_size)
        randoms = jax.random.split(jax.random.key(3), 4)
        shapes = (queries, keys, keys, queries)
        return [jax.random.normal(r, shape, self.dtype) for r, shape in zip(randoms, shapes, strict=True)]


def check_cases(dtype: str) -> list[Case]:
    """Small and odd."""
    return [
        Case("none", 2, 65, 192, 4, 2, 64, dtype),
        Case("none", 2, 17, 17, 4, 4, 64, dtype),
        Case("none", 2, 128, 128, 2, 2, 128, dtype),
        Case("causal", 2, 704, 704, 4, 2, 64, dtype),
        Case("causal", 2, 63, 63, 2, 2, 128, dtype),
        Case("window", 2, 192, 192, 2, 2, 64, dtype),
        Case("lengths", 3, 192, 65, 2, 1, 128, dtype),
        Case("segments", 2, 704, 704, 2, 2, 64, dtype),
        Case("segments", 2, 65, 65, 2, 2, 128, dtype),
        Case("causal+window+lengths+segments", 3, 130, 130, 4, 2, 64, dtype),
        Case("causal", 2, 129, 129, 2, 2, 64, dtype, dropout=0.2),
    ]


def timing_cases(gpu: bool) -> list[Case]:
    """By importance: what does not fit into the time is left out from the end."""
    if not gpu:
        return [
            Case(mask, 512 // length, length, length, 2, 2, 64, "float32")
            for length in (64, 256)
            for mask in ("none", "causal", "segments")
        ]
    return [
        Case(mask, 16384 // length, length, length, 1024 // head_size, 1024 // head_size, head_size, "bfloat16")
        for lengths in ((512, 4096), (64, 16384), (128, 256, 1024, 2048, 8192))
        for head_size in (64, 128)
        for length in lengths
        for mask in ("none", "causal", "segments")
    ]


def contestants(gpu: bool) -> list[str]:
    """Ours by their names, rivals by package and backend."""
    from jaxformer.ops.attention.api import IMPLEMENTATIONS

    names = [*IMPLEMENTATIONS, "jax.nn xla"]
    if gpu:
        names.append("jax.nn cudnn")
        if importlib.util.find_spec("tokamax"):
            names += ["tokamax mosaic", "tokamax triton"]
        if importlib.util.find_spec("torch"):
            names.append("torch sdpa")
    return names


# What each contestant computes.


def _dense(case: Case) -> Any:
    """The mask as bool [B or 1, 1, T, S] for rivals, or None where flags say all."""
    if case.mask in ("none", "causal"):
        return None
    if max(case.num_queries, case.num_keys) > LONGEST_DENSE:
        raise NotImplementedError(f"a dense mask of more than {LONGEST_DENSE} positions is not tried")
    return case.make_mask().materialise(case.num_queries, case.num_keys)


def jax_function(name: str, case: Case) -> Callable[..., Any]:
    """(q, k, v) -> output of a contestant written in JAX; refusals are `NotImplementedError`."""
    import jax
    import jax.numpy as jnp

    from jaxformer.ops.attention import api

    weights = 4 * case.batch * case.num_heads * case.num_queries * case.num_keys
    if name in ("xla", "jax.nn xla") and weights > LARGEST_WEIGHTS:
        raise NotImplementedError(f"its weights would take {weights / 2**30:.0f} GiB")
    if name in api.IMPLEMENTATIONS:
        seed = jnp.uint32(9) if case.dropout else None
        return functools.partial(
            api.attention, mask=case.make_mask(), dropout=case.dropout, dropout_seed=seed, implementation=name
        )
    if not case.plain:
        raise NotImplementedError("not asked of rivals")
    package, backend = name.split(" ")
    if package == "tokamax":
        from tokamax import dot_product_attention
    else:
        dot_product_attention = jax.nn.dot_product_attention
    return functools.partial(
        dot_product_attention, mask=_dense(case), is_causal=case.mask == "causal", implementation=backend
    )


def both_ways(function: Callable[..., Any]) -> Callable[..., Any]:
    """(q, k, v, gradient of the output) -> output and the gradients of q, k and v."""
    import jax

    def run(q: Any, k: Any, v: Any, d_out: Any) -> tuple[Any, ...]:
        out, pullback = jax.vjp(function, q, k, v)
        return (out, *pullback(d_out))

    return run


def torch_function(case: Case) -> tuple[Callable[[bool], Any], list[Any]]:
    """A function that computes (with or without gradients) from tensors that stay the same, and these tensors."""
    import numpy as np
    import torch

    if not case.plain:
        raise NotImplementedError("not asked of rivals")
    if case.num_kv_heads != case.num_heads:
        raise NotImplementedError("grouped queries are not asked of torch")
    mask = _dense(case)
    mask = None if mask is None else torch.from_numpy(np.array(mask)).cuda()
    tensors = [
        torch.from_numpy(np.array(x, np.float32)).cuda().to(getattr(torch, case.dtype)).transpose(1, 2).contiguous()
        for x in case.inputs()
    ]
    q, k, v = (x.requires_grad_() for x in tensors[:3])

    def run(backward: bool) -> Any:
        with torch.set_grad_enabled(backward):
            out = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=case.mask == "causal"
            )
            return (out, *torch.autograd.grad(out, (q, k, v), tensors[3])) if backward else (out,)

    return run, tensors


# Checks, in a process for each contestant.


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


# Timings, all contestants in one process.


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


# The parent, which never touches the accelerator itself.


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def listen(arguments: Sequence[str], deadline: float) -> Iterator[dict[str, Any]]:
    """What a process of this module says; last, unless it ended well, {"broke": how, "at": its last beginning}."""
    # Several processes share the GPU, so that none may take all of its memory beforehand.
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "benchmarks.attention", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stderr is not None
    lines: queue.Queue[str | None] = queue.Queue()
    errors: list[str] = []

    def read_lines(stream: Any) -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    readers = [
        threading.Thread(target=read_lines, args=(process.stdout,), daemon=True),
        threading.Thread(target=lambda stream: errors.extend(stream), args=(process.stderr,), daemon=True),
    ]
    for reader in readers:
        reader.start()
    last, ended, broke = {}, False, ""
    while not ended:
        try:
            line = lines.get(timeout=max(0.1, min(SILENCE, deadline - time.monotonic())))
        except queue.Empty:
            broke = "out of time" if time.monotonic() >= deadline else f"hung for {SILENCE:.0f} seconds"
            break
        if line is None:
            process.wait()
            readers[1].join(timeout=5)
            text = [entry.strip() for entry in errors if entry.strip()]
            broke = f"ended with {process.returncode}: {text[-1][:300] if text else 'no word'}"
            break
        if not line.startswith("{"):
            continue
        message = json.loads(line)
        ended = message.get("end", False)
        if "begin" in message:
            last = message
        elif not ended:
            yield message
    process.kill()
    process.wait()
    if not ended:
        yield {"broke": broke, "at": last.get("begin", "its start"), "contestant": last.get("contestant", "")}


def checked(names: Sequence[str], gpu: bool, deadline: float) -> tuple[set[tuple[str, str]], list[list[str]]]:
    """The (contestant, mask) pairs that failed, and a table of what was not right."""
    dtype = "bfloat16" if gpu else "float32"
    bad: set[tuple[str, str]] = set()
    table: list[list[str]] = []

    def check_some(some: list[str]) -> tuple[list[str], list[dict[str, Any]]]:
        arguments = [f"--check={','.join(some)}", f"--dtype={dtype}"]
        # A part of the time: what checks take is missing for timings.
        return some, list(listen(arguments, time.monotonic() + (0.35 if gpu else 0.7) * (deadline - time.monotonic())))

    masks = {case.mask for case in check_cases(dtype)}
    # On a GPU a process each, as any may take its own down; a CPU saves starts, and computes the right results once.
    parts = [[name] for name in names] if gpu else [list(names)]
    with concurrent.futures.ThreadPoolExecutor(max(1, min(4, (os.cpu_count() or 1) // 4))) as pool:
        for part, messages in pool.map(check_some, parts):
            broken = next((message for message in messages if "broke" in message), None)
            if broken:
                table.append([", ".join(part), broken["at"], broken["broke"]])
            for name in part:
                mine = [message for message in messages if message.get("name") == name]
                right = {message["case"]: message["mask"] for message in mine if message["outcome"] == "right"}
                print(f"{name}: {len(right)} of {len(check_cases(dtype))} cases right", flush=True)
                if broken:
                    bad |= {(name, mask) for mask in masks - set(right.values())}
                for message in mine:
                    if message["outcome"] in ("failed", "wrong"):
                        table.append([name, message["case"], f"{message['outcome']}: {message['detail']}"])
                        if message["plain"]:
                            bad.add((name, message["mask"]))
                    elif message["outcome"] == "refused" and "not asked of" not in message["detail"]:
                        table.append([name, message["case"], f"refused: {message['detail']}"])
    return bad, table


def timed(names: Sequence[str], bad: set[tuple[str, str]], gpu: bool, deadline: float) -> tuple[list[Any], list[Any]]:
    """Rows, and a table of failures; a contestant that breaks the process is left out of the rest."""
    cases = timing_cases(gpu)
    left, rows, table = list(range(len(cases))), [], []
    broken: set[str] = set()
    while left and time.monotonic() < deadline:
        plan = []
        for number in left:
            takers = [n for n in names if n not in broken and (n, cases[number].mask) not in bad]
            plan.append((number, takers))
        for message in listen([f"--time={json.dumps(plan)}", *(["--gpu"] if gpu else [])], deadline):
            if "row" in message:
                rows.append(message["row"])
                row = message["row"]
                print(f"  {row['value']:8.4g} TFLOP/s  {row['milliseconds']:9.3f} ms  {row['name']}", flush=True)
            elif "failure" in message:
                table.append([message["failure"].split(",")[0], message["failure"], message["detail"]])
            elif "done" in message:
                left.remove(message["done"])
            elif "broke" in message:
                table.append([message["contestant"] or "?", message["at"], message["broke"]])
                if message["contestant"]:
                    broken.add(message["contestant"])
                else:
                    left = left[1:]  # whatever it was, it would be the same again
    table += [["all", str(cases[number]), "not timed: out of time"] for number in left]
    return rows, table


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A table for each pass and mask: contestants down, lengths and head sizes across."""
    for way in ("forward", "forward+backward"):
        for mask in dict.fromkeys(row["mask"] for row in rows):
            chosen = [row for row in rows if row["pass"] == way and row["mask"] == mask]
            columns = sorted({(row["head_size"], row["num_queries"]) for row in chosen})
            lines = []
            for name in dict.fromkeys(row["contestant"] for row in chosen):
                cells = {(r["head_size"], r["num_queries"]): r for r in chosen if r["contestant"] == name}
                texts = []
                for column in columns:
                    row = cells.get(column)
                    spread = 0.0 if row is None else (row["slowest"] - row["fastest"]) / row["milliseconds"]
                    texts.append("-" if row is None else f"{row['value']:.3g} ({spread:.0%})")
                lines.append([name, *texts])
            heads = [f"H{head_size} {length}" for head_size, length in columns]
            print(f"\n{way}, mask {mask}: TFLOP/s (spread of {ROUNDS} rounds)")
            print(report.table([mask, *heads], lines))


def _backend() -> str:
    """The default backend, asked in a process of its own: this one leaves the accelerator alone."""
    command = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]


def main() -> None:
    """Checks, times, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=7.5, help="after which to stop, whatever is left")
    parser.add_argument("--only", help="contestants to take, separated by commas")
    parser.add_argument("--check", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--time", help=argparse.SUPPRESS)
    parser.add_argument("--gpu", action="store_true", help=argparse.SUPPRESS)
    report.add_json_flag(parser)
    options = parser.parse_args()
    if options.check:
        run_checks(options.check.split(","), options.dtype)
        return
    if options.time:
        run_timings(json.loads(options.time), options.gpu)
        return
    deadline = time.monotonic() + 60 * options.minutes
    gpu = _backend() == "gpu"
    names = contestants(gpu)
    if options.only:
        unknown = set(options.only.split(",")) - set(names)
        if unknown:
            parser.error(f"{', '.join(sorted(unknown))}: not among {', '.join(names)}")
        names = options.only.split(",")
    bad, table = checked(names, gpu, deadline)
    columns = ["contestant", "case", "why"]
    print("\nNot right, or refused:\n" + report.table(columns, table) if table else "\nAll right.")
    print("\nTimes:")
    rows, failures = timed(names, bad, gpu, deadline)
    print_rows(rows)
    if failures:
        print("\nNot timed:\n" + report.table(columns, failures))
    # Only now, when no process of its own needs the accelerator any more.
    print("\n" + report.heading(*PACKAGES))
    report.write_json(options.json, rows, *PACKAGES)


if __name__ == "__main__":
    main()
