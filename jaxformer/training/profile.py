"""A trace of a few steps with `jax.profiler`, on request (`profile.num_steps`).

Not for numbers of every step (`monitoring.throughput`) nor for the parts of one (`breakdown`).
"""

from __future__ import annotations

import logging
from pathlib import Path

import jax

from jaxformer.training.loop import Loop

_LOGGER = logging.getLogger(__name__)


class ProfileWindow:
    """Traces the steps from `first` on, `steps` of them, with `jax.profiler`.

    Args:
      first: the first traced step, from 1.
      steps: how many.
      folder: gets the trace.
    """

    every = 1
    phase = "profile"

    def __init__(self, first: int, steps: int, folder: Path) -> None:
        self._first, self._end, self._folder = first, first + steps, folder
        self._tracing = False

    def due(self, loop: Loop) -> bool:
        """Before the first traced step, and after the last."""
        following = loop.progress.step + 1
        if self._tracing:
            return following >= self._end or loop.done
        return following == self._first < self._end and not loop.done

    def __call__(self, loop: Loop) -> None:
        """Starts the trace or ends it."""
        if self._tracing:
            self.close()
            return
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # Python's own calls would drown the device's work
        jax.profiler.start_trace(self._folder, profiler_options=options)
        self._tracing = True

    def close(self) -> None:
        """Ends a trace that was begun; when the run ends before its last step, too."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            _LOGGER.info(
                "traced from step %d on, for at most %d steps: pip install xprof && xprof --logdir=%s",
                self._first, self._end - self._first, self._folder,
            )  # fmt: skip
