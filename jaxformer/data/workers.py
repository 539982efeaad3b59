"""Work spread over processes, in order and in bounded memory, safely from any program.

Workers are spawned, never forked (JAX has threads), and do not import the program's main module, so a script without a
`__main__` guard, a notebook or standard input may start them. Not for batches in training: those are read by threads
(`pipeline.py`).
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

_MAX_WORKERS = 8
_state: dict[str, Any] = {}  # of a worker process: what `_initialize` gave it
_main_lock = threading.Lock()


@contextlib.contextmanager
def without_main_module() -> Iterator[None]:
    """Hides the main module while a process is spawned: workers need only what they import themselves.

    What the main module defines can then not be sent: pickling it fails.
    """
    with _main_lock:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _initialize(function: Callable[[Any], Any]) -> None:
    _state["function"] = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends the work, and says so
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker when its parent has gone, even if it was killed: nothing else would tell it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(item: Any) -> Any:
    return _state["function"](item)


def ordered_map(function: Callable[[_T], _R], items: Iterable[_T], *, processes: int) -> Iterator[_R]:
    """`map(function, items)` over worker processes, results in order, few of them in flight.

    Args:
      function: sent once to each worker (so it may carry a tokenizer); importable by name.
      items: small things that say what to do.
      processes: how many workers; with fewer than 2 the work is done here.

    Raises:
      Whatever `function` raises, for the first item that fails.
      OSError: if a worker was killed.
    """
    if processes < 2:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    processes = min(processes, _MAX_WORKERS)
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=_initialize, initargs=(function,))
    pending: collections.deque[Any] = collections.deque()
    try:
        for item in items:
            with without_main_module():
                pending.append(executor.submit(_call, item))
            if len(pending) > 2 * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenExecutor:
        raise OSError(
            "a worker process was killed, probably because memory ran out: close other programs or use a larger "
            "machine, then run the same command again"
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
