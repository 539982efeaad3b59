"""How a plan reads: the best layouts with their reasons, what rules others out, and the arithmetic of one of them.

Not for the decisions (`choice`).
"""

from __future__ import annotations

from jaxformer.training.memory import describe_size
from jaxformer.training.planner.choice import Option, Plan, describe_option
from jaxformer.training.planner.hardware import Hardware
from jaxformer.training.planner.roofline import describe_exchanges, products, traffic
from jaxformer.training.planner.share import Candidate

_SHOWN = 10
_COLUMNS = ("", "mesh", "micro-batches", "remat", "ms a step", "slots/s", "memory", "why it is here")


def describe_layouts(plan: Plan, configured: Candidate | None = None) -> str:
    """The best layouts as a table, the chosen one first; then what is ruled out, and why.

    Args:
      plan: with at least one option.
      configured: the layout that the configuration asks for, marked where it is among them.
    """
    best = plan.options[0]
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for number, option in enumerate(plan.options, 1):
        mine = option.candidate == configured
        if number <= _SHOWN or mine:
            why = _why(option, best, fastest=max(plan.options, key=lambda one: one.slots_per_second))
            rows.append(_row(number, option, why + (" (this configuration)" if mine else "")))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    left = (1, 3, len(_COLUMNS) - 1)
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    total = len(plan.options) + len(plan.too_large) + sum(refusal.count for refusal in plan.refused)
    lines += ["", f"{total} layouts of {plan.hardware.describe()} were considered; {len(plan.options)} can be used."]
    return "\n".join([*lines, *_ruled_out(plan)])


def _row(number: int, option: Option, why: str) -> tuple[str, ...]:
    candidate = option.candidate
    return (
        str(number),
        candidate.describe(),
        str(candidate.accumulate),
        candidate.remat,
        f"{1e3 * option.time.total:,.1f}",
        f"{option.slots_per_second:,.0f}",
        describe_size(option.memory.total),
        why,
    )


def _costs(option: Option) -> dict[str, float]:
    """Seconds for a million slots, by what takes them: batches may differ in size."""
    time, slots = option.time, option.share.slots
    parts = {"products": time.products, "memory traffic": time.memory, "starts of kernels": time.starts}
    return {name: 1e6 * seconds / slots for name, seconds in (parts | time.exchanges).items()}


def _why(option: Option, best: Option, fastest: Option) -> str:
    """What the chosen layout spends its time on, and what the others spend more than it."""
    if option is best:
        costs = _costs(option)
        total = sum(costs.values())
        most = sorted(costs, key=lambda name: -costs[name])[:3]
        spent = ", ".join(f"{name} {costs[name] / total:.0%}" for name in most)
        return ("fastest: " if option is fastest else "as fast as any, and the simplest: ") + spent
    mine, theirs = _costs(option), _costs(best)
    more = {name: seconds - theirs.get(name, 0.0) for name, seconds in mine.items()}
    name = max(more, key=lambda name: more[name])
    slower = best.slots_per_second / option.slots_per_second - 1
    if slower <= 0:
        return f"{-slower:.1%} faster, but less simple"
    smaller = option.share.batch[0] < best.share.batch[0]
    rows = f", {option.share.batch[0]} rows instead of {best.share.batch[0]}" if smaller else ""
    return f"{slower:.1%} slower: most in {name}{rows}"


def _ruled_out(plan: Plan) -> list[str]:
    lines = []
    if plan.too_large:
        least = plan.too_large[0]
        lines.append(
            f"  {len(plan.too_large)} need more than {describe_size(plan.hardware.memory)} a device "
            f"({plan.hardware.memory_source}); the least of them, {describe_option(least)}, "
            f"{describe_size(least.memory.total)}"
        )
    return lines + [f"  {refusal.count} ruled out, such as: {refusal.reason}" for refusal in plan.refused]


def describe_arithmetic(option: Option, hardware: Hardware) -> str:
    """Where the numbers of a layout come from, a line each."""
    share, memory, time = option.share, option.memory, option.time
    held, rates = share.held, hardware.rates
    average = f", average {describe_size(held.average)}" if held.average else ""
    host = f"; {describe_size(memory.host)} wait in host memory" if memory.host else ""
    sides = f"{share.source} + {share.target}" if share.target else f"{share.source}"
    lines = [
        f"a device has {share.rows} rows of {sides} slots at a time, in "
        f"{share.candidate.accumulate} micro-batch(es), and {share.stored:,} of the parameters",
        f"memory {describe_size(memory.total)} = state {describe_size(memory.state)} (parameters "
        f"{describe_size(held.parameters)}, optimizer {describe_size(held.optimizer)}{average}) + activations kept "
        f"{describe_size(memory.kept)} + work on a layer or on logits {describe_size(memory.working)} + gradients "
        f"{describe_size(memory.gradients)} + copies of parameters {describe_size(memory.copies)}{host}",
        f"products {products(share) / 1e9:,.1f} GFLOP / {rates.products / 1e12:,.3g} TFLOP/s = "
        f"{1e3 * time.products:,.2f} ms",
        f"memory traffic {traffic(share, cpu=hardware.cpu) / 1e9:,.2f} GB / {rates.memory / 1e9:,.0f} GB/s = "
        f"{1e3 * time.memory:,.2f} ms",
        *describe_exchanges(share, hardware),
        f"starts of kernels {1e3 * time.starts:,.2f} ms; together {1e3 * time.total:,.2f} ms, nothing overlapping",
        f"rates: {rates.source}",
    ]
    return "\n".join(f"  {line}" for line in lines)
