"""What rules some candidates out, and the order of the rest by predicted slots a second.

Not for which there are (`candidates`), nor for what one of them needs (`footprint`, `roofline`) or how a plan reads
(`table`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from jaxformer.data.batching import common_rows, indivisible
from jaxformer.data.bucketing import round_up, rows_within
from jaxformer.parallel.layout import Layout
from jaxformer.parallel.traffic import Part
from jaxformer.training.memory import describe_size
from jaxformer.training.planner.candidates import REMAT, candidates
from jaxformer.training.planner.footprint import Footprint, footprint
from jaxformer.training.planner.hardware import Hardware
from jaxformer.training.planner.roofline import StepTime, step_time
from jaxformer.training.planner.share import Candidate, Held, Model, Share, share_of, share_on

_ALIKE = 0.02
"""Layouts whose predicted times differ by less are not told apart: the simplest of them is taken."""

_ROWS_LOST = 0.1
"""Of a batch, what rounding its rows and their length may cost: a smaller batch is another training."""


@dataclasses.dataclass(frozen=True)
class Option:
    """A candidate that may be trained with.

    Attributes:
      share: what a device does.
      memory: what it needs.
      time: how long it takes.
    """

    share: Share
    memory: Footprint
    time: StepTime

    @property
    def candidate(self) -> Candidate:
        """Its layout."""
        return self.share.candidate

    @property
    def slots_per_second(self) -> float:
        """Slots of the whole batch that data can fill, of the target where there is one, over the time of a step."""
        return self.share.slots / self.time.total

    @property
    def complexity(self) -> tuple[int, int, int]:
        """Lower is simpler: axes besides `data`, what is computed again, micro-batches."""
        axes = sum(size > 1 for axis, size in self.candidate.sizes.items() if axis != "data")
        return axes, REMAT.index(self.candidate.remat), self.candidate.accumulate


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why candidates are ruled out.

    Attributes:
      reason: that of the first one.
      count: how many have one of this kind.
    """

    reason: str
    count: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """All candidates for a configuration on some hardware.

    Attributes:
      hardware: the devices.
      options: those that may be trained with, the chosen one first, then by slots a second.
      too_large: those that need more memory than there is, the least first.
      refused: the rest.
      shapes: (rows, source slots, target slots) of the batches that a run began with and keeps; empty for a new run.
    """

    hardware: Hardware
    options: list[Option]
    too_large: list[Option]
    refused: list[Refusal]
    shapes: Sequence[tuple[int, int, int]] = ()

    @property
    def best(self) -> Option:
        """The chosen one.

        Raises:
          ValueError: if there is none, with what is nearest and what to change.
        """
        if self.options:
            return self.options[0]
        if not self.too_large:
            reasons = "\n".join(f"  {_layouts(refusal.count)}: {refusal.reason}" for refusal in self.refused)
            raise ValueError(
                f"no layout of {self.hardware.describe()} divides this model and this batch:\n{reasons}{self._way_out}"
            )
        least = self.too_large[0]
        raise ValueError(
            f"no layout of {self.hardware.describe()} fits: the nearest, {describe_option(least)}, needs "
            f"{describe_size(least.memory.total)} on each device, and a step may use "
            f"{describe_size(self.hardware.memory)} ({self.hardware.memory_source}). {remedy(least)}"
        )

    @property
    def _way_out(self) -> str:
        """What to do where no layout divides the batches that a run began with."""
        if not self.shapes:
            return ""
        rows = common_rows(self.shapes)
        fitting = max(count for count in range(1, self.hardware.count + 1) if rows % count == 0)
        return (
            f"\nthe batches of the run stay as they are: continue it on a number of devices that divides {rows}; or on "
            f"some of these, with --config.mesh.data={fitting} --config.memory.accumulate=1 and no --config.mesh=auto; "
            "or begin again in another --workdir"
        )


def describe_option(option: Option) -> str:
    """A layout in words."""
    return option.candidate.in_words


def _layouts(count: int) -> str:
    return f"{count} layout{'s' if count > 1 else ''}"


def remedy(least: Option) -> str:
    """What to change so that `least` needs less."""
    memory = least.memory
    if memory.state > memory.temporary:
        return (
            f"{describe_size(memory.state)} of that are parameters and optimizer: use more devices, or a smaller "
            "--config.model.d_model or fewer layers"
        )
    return (
        f"{describe_size(memory.temporary)} of that are for the step: lower --config.data.batch_tokens or "
        "--config.data.max_length, set --config.precision=bf16, or use more devices"
    )


def make_plan(
    model: Model,
    hardware: Hardware,
    *,
    only: Candidate | None = None,
    limit: int = 0,
    shapes: Sequence[tuple[int, int, int]] = (),
) -> Plan:
    """Every candidate judged.

    Args:
      model: of the configuration. Where its `data.batch_tokens` is 0, each candidate has the largest batch that fits.
      hardware: the devices.
      only: a single layout in place of all; what rounding makes of its batch is not asked, nor whether it fits unless
        its batch is to be found.
      limit: most slots of a batch that is to be found, 0 for none.
      shapes: (rows, source slots, target slots) of the batches that a run began with: they are kept, whatever the
        configuration would make now.
    """
    options: list[Option] = []
    too_large: list[Option] = []
    reasons: list[str] = []
    for group in [[only]] if only else candidates(model.config, hardware):
        layout = group[0].layout()
        try:
            model.check(layout)
        except ValueError as error:
            reasons += [str(error)] * len(group)
            continue
        place = layout, model.held(layout), model.parameters(layout)
        for candidate in group:
            try:
                share = _share(model, candidate, place, hardware, limit, shapes)
                share = dataclasses.replace(share, device=hardware.kind)
                if model.config.data.batch_tokens and not (only or shapes):
                    _check_rows(share)
            except ValueError as error:
                reasons.append(str(error))
                continue
            option = judge(share, hardware)
            fits = option.memory.total <= hardware.memory or (only is not None and model.config.data.batch_tokens > 0)
            (options if fits else too_large).append(option)
    too_large.sort(key=lambda option: option.memory.total)
    return Plan(hardware, _ordered(options), too_large, _grouped(reasons), shapes)


def judge(share: Share, hardware: Hardware) -> Option:
    """What a device needs and how long it takes."""
    return Option(share, footprint(share, cpu=hardware.cpu), step_time(share, hardware))


def _ordered(options: list[Option]) -> list[Option]:
    """By slots a second, but the simplest of those that are as good as the fastest comes first."""
    ordered = sorted(options, key=lambda option: -option.slots_per_second)
    if not ordered:
        return ordered
    alike = [one for one in ordered if one.slots_per_second > (1 - _ALIKE) * ordered[0].slots_per_second]
    chosen = min(alike, key=lambda option: option.complexity)
    return [chosen, *(option for option in ordered if option is not chosen)]


def _grouped(reasons: list[str]) -> list[Refusal]:
    """Reasons that differ in numbers alone are one."""
    groups: dict[str, list[str]] = {}
    for reason in reasons:
        groups.setdefault(re.sub(r"\d+", "#", reason.partition(":")[0]), []).append(reason)
    return [Refusal(group[0], len(group)) for group in sorted(groups.values(), key=lambda group: -len(group))]


def _share(
    model: Model,
    candidate: Candidate,
    place: tuple[Layout, Held, tuple[Part, ...]],
    hardware: Hardware,
    limit: int,
    shapes: Sequence[tuple[int, int, int]],
) -> Share:
    config, layout = model.config, place[0]
    if shapes:
        if reason := indivisible(shapes, layout.parts("rows") * candidate.accumulate, layout.parts("length")):
            raise ValueError(reason)
        return share_on(model, candidate, *place, max(shapes, key=lambda shape: (shape[1] + shape[2], shape[0])))
    if not config.data.batch_tokens:
        return _largest_share(model, candidate, place, hardware, limit)
    return share_of(model, candidate, *place)


def _check_rows(share: Share) -> None:
    """Refuses a batch that rounding makes much smaller than the one asked for, of rows of the longest records."""
    data, candidate, (rows, length, _) = share.config.data, share.candidate, share.batch
    wanted = rows_within(data.batch_tokens // data.longest_row, data.batch_rows, data.row_multiple)
    if rows < (1 - _ROWS_LOST) * wanted:
        divisor = data.row_divisor(candidate.data * candidate.fsdp * candidate.accumulate)
        longer = f" and their {data.longest_row} slots one of {candidate.context} (mesh.context)"
        raise ValueError(
            f"rows must be a multiple of {divisor}{longer if length > data.longest_row else ''}, which makes {rows} of "
            f"{wanted}: another batch"
        )


def _largest_share(
    model: Model,
    candidate: Candidate,
    place: tuple[Layout, Held, tuple[Part, ...]],
    hardware: Hardware,
    limit: int,
) -> Share:
    """With as many rows as memory holds: found by halving, since memory grows with rows."""
    data, layout = model.config.data, place[0]
    step, parts = data.row_divisor(layout.parts("rows") * candidate.accumulate), layout.parts("length")
    if data.batching == "pack" and data.longest_row % parts:
        raise ValueError(f"data.pack_length={data.longest_row} does not divide into {parts} parts (mesh.context)")
    length = round_up(data.longest_row, parts)

    def share(times: int) -> Share:
        one = share_on(model, candidate, *place, (times * step, length, model.network.target_slots(length)))
        return dataclasses.replace(one, device=hardware.kind)

    def fits(times: int) -> bool:
        small_enough = not limit or times * step * length <= limit
        return small_enough and footprint(share(times), cpu=hardware.cpu).total <= hardware.memory

    low, high = 1, 2
    while fits(high) and high < 1 << 24:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return share(low)
