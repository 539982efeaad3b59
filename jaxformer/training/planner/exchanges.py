"""How long what travels between devices takes: a rule of thumb for groups of devices over two kinds of links.

What travels is `parallel.traffic`'s to say.
"""

from __future__ import annotations

import math

from jaxformer.parallel.mesh import AXES
from jaxformer.parallel.traffic import Exchange, Step
from jaxformer.training.planner.hardware import Hardware
from jaxformer.training.planner.share import Share


def exchanges_of(share: Share) -> list[Exchange]:
    """All of a step that are worth counting."""
    candidate = share.candidate
    step = Step(share.config.model, share.bytes, candidate.accumulate, candidate.remat)
    shape = (share.rows, share.source, share.target)
    return share.network.exchanges(candidate.layout(), share.parameters, step, shape)


def starts(one: Exchange) -> int:
    """How often something begins to travel: XLA's combiner sums the gradients of many parameters together."""
    return 1 if (one.what, one.kind) == ("gradients", "all-reduce") else one.count


def seconds(one: Exchange, sizes: dict[str, int], hardware: Hardware) -> float:
    """How long an exchange takes, with the devices of a host joined by links and hosts by a network.

    An exchange over h hosts with m devices of each goes in two stages: within hosts it is of the whole, between hosts
    each device exchanges its m-th part. In each of them a ring sends (p - 1) / p of the array, an all-reduce twice that
    (Thakur, Rabenseifner and Gropp 2005, section 4).

    Args:
      one: all exchanges of a kind in a step.
      sizes: devices along each axis.
      hardware: with the rates of both.
    """
    inside, hosts = _group(one.axes, sizes, hardware.per_host)
    if inside * hosts == 1:
        return 0.0
    rates, times = hardware.rates, 2.0 if one.kind == "all-reduce" else 1.0
    within = (inside - 1) / inside * one.bytes
    across = (hosts - 1) / hosts * one.bytes / (1 if one.kind == "all-to-all" else inside)
    stages = (inside > 1) + (hosts > 1)
    return times * (within / rates.link + across / rates.network) + starts(one) * stages * rates.latency


def _group(axes: tuple[str, ...], sizes: dict[str, int], per_host: int) -> tuple[int, int]:
    """Of the devices along `axes`, how many are in a host, and in how many hosts they are: the last axis is nearest."""
    inside, hosts, stride = 1, 1, 1
    for axis in reversed(AXES):
        if axis in axes:
            room = max(1, per_host // stride)
            near = math.gcd(sizes[axis], room)
            inside, hosts = inside * near, hosts * sizes[axis] // near
        stride *= sizes[axis]
    return inside, hosts
