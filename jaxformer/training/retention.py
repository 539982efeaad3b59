"""Which checkpoints of a run stay: the newest, the newest regular ones for averaging, and the best.

Not for removing the others, which Orbax does when `Checkpoints` tells it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def regular_steps(steps: Sequence[int], period: int) -> list[int]:
    """Those of `steps` that do not depend on the clock or on signals: multiples of `period`, and the last one."""
    return [step for step in steps if (period and step % period == 0) or step == steps[-1]]


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of `metric` is the better one: true for losses and errors."""
    return metric.endswith(("loss", "nll", "perplexity", "mse", "mae", "error", "brier"))


def best_of(scores: Mapping[int, float], metric: str) -> int:
    """The step with the best score; of equals, the earliest; one that is no finite number is worse than any."""
    sign = 1.0 if lower_is_better(metric) else -1.0
    return min(scores, key=lambda step: (not math.isfinite(scores[step]), sign * scores[step], step))


class Retention:
    """Remembers the scores of checkpoints, and says which stay.

    Args:
      keep: how many of the newest.
      average: how many regular ones.
      period: the regular distance in steps.
      best_metric: the metric whose best checkpoint stays as well.
    """

    def __init__(self, *, keep: int, average: int, period: int, best_metric: str) -> None:
        self._keep, self._average, self._period = keep, average if average > 1 else 0, period
        self._metric = best_metric
        self._scores: dict[int, float] = {}

    def note(self, step: int, metrics: Mapping[str, float]) -> None:
        """What the validation at `step` measured, if it measured `best_metric`."""
        if self._metric in metrics:
            self._scores[step] = metrics[self._metric]

    def best(self, steps: Sequence[int]) -> list[int]:
        """The one of `steps` with the best score; none where none has one."""
        scores = {step: self._scores[step] for step in steps if step in self._scores}
        return [best_of(scores, self._metric)] if scores else []

    def staying(self, steps: Sequence[int]) -> set[int]:
        """Those of `steps`, ascending, that stay."""
        stay = {*steps[-self._keep :], *self.best(steps)}
        if self._average:
            stay.update(regular_steps(steps, self._period)[-self._average :])
        return stay
