"""Copies of a translator in processes of their own, each with cores of its own: the fastest way to translate on a CPU.

A step of the search is too small for many cores, and searches within one process wait for each other. Processes share
nothing but the work. Not for GPUs, which one process keeps busy.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple

import jax

from jaxformer.cores import shared_cores
from jaxformer.data.workers import without_main_module
from jaxformer.ops.attention import loaded_measurements, use_measurements
from jaxformer.parallel.threads import thread_settings
from jaxformer.tasks.source_lines import check_stream, checked_lines
from jaxformer.tasks.translator import Translation, Translator, warn_of_full

_SETTINGS = (
    "jax_platforms", "jax_enable_x64", "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
)  # fmt: skip
"""Of JAX, besides those of a thread, that decide what a process computes and how soon it begins."""


class TranslatorPool:
    """Translates as `Translator` does, several parts of a text at a time; to be used in a `with`.

    What ends the `with` too early, such as Ctrl-C, ends the processes at once, whatever they are doing.

        with jf.TranslatorPool(jf.load_translator("runs/wmt-bundled"), processes=8) as translator:
            for translation in translator.translate_stream(open("text.en")):
                print(translation.text)

    The processes import what they need themselves and never the main module: a script needs no
    `if __name__ == "__main__":`, and a notebook may start them. They begin when there is something to translate; each
    takes some seconds, and the memory of a translator. A copy of the translator lies in a temporary file until the end.

    Args:
      translator: that is copied; a tokenizer of one's own is of a class in a module that can be imported.
      processes: how many; they divide the cores that this process may use.
      begin: called in each of them first, such as to send messages somewhere; a function of such a module.

    Raises:
      ValueError: for fewer than one process, a device that is no CPU, or what the main module defines.
      OSError: if the temporary file cannot be written.
    """

    def __init__(self, translator: Translator, processes: int, *, begin: Callable[[], object] | None = None) -> None:
        check_pool(processes)
        self.processes = processes
        context = multiprocessing.get_context("spawn")
        places: Any = context.SimpleQueue()
        for cores in shared_cores(processes):
            places.put(cores)
        settings = {name: getattr(jax.config, name) for name in _SETTINGS} | thread_settings()
        settings.pop("jax_default_device")  # an object of this process
        self._told = _written((begin, settings, loaded_measurements()), translator)
        self._until, self._open = context.Pipe(duplex=False)  # while the second is open, processes go on
        self._executor = concurrent.futures.ProcessPoolExecutor(
            processes, mp_context=context, initializer=_begin, initargs=(self._until, places, self._told.name)
        )

    def __enter__(self) -> TranslatorPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._open.close()
        self.close()

    def close(self) -> None:
        """Ends the processes; what nobody waits for any more is not begun."""
        self._executor.shutdown(cancel_futures=True)
        for end in (self._open, self._until, self._told):
            end.close()

    def translate(
        self, texts: Iterable[str], prefixes: Iterable[str] | None = None, *, first_line: int = 1
    ) -> list[Translation]:
        """The translation of every line, in the same order; see `Translator.translate`.

        Raises:
          ValueError: as of `Translator.translate`.
          OSError: if a process has ended, such as for lack of memory, or could not begin.
        """
        lines, begun = checked_lines(texts, prefixes, first_line=first_line)
        parts = _divided(lines, begun, first_line, self.processes)
        return [translation for found in self._run(parts) for translation in found]

    def translate_stream(self, lines: Iterable[str], *, chunk: int = 2000) -> Iterator[Translation]:
        """One translation for each line, in order; a few times `chunk` lines are read ahead.

        Raises:
          ValueError: as of `Translator.translate_stream`.
          OSError: as of `translate`.
        """
        check_stream(lines, chunk)
        first_line = 1
        for found in self._run(_numbered(lines, chunk, self.processes)):
            warn_of_full(found, first_line)
            yield from found
            first_line += len(found)

    def _run(self, parts: Iterable[_Part]) -> Iterator[list[Translation]]:
        waiting: collections.deque[concurrent.futures.Future[list[Translation]]] = collections.deque()
        try:
            for part in parts:
                with without_main_module():  # as it may start a process
                    waiting.append(self._executor.submit(_translate, part))
                if len(waiting) > self.processes:  # one more than run, so that none waits for its next
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except concurrent.futures.BrokenExecutor:
            raise OSError(
                f"one of the {self.processes} processes that translate has ended, as for lack of memory: ask for fewer "
                "with --config.decoding.processes, or for smaller batches with --config.decoding.batch_tokens; if it "
                "could not begin, what it wrote to standard error says why"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


def check_pool(processes: int) -> None:
    """Refuses a number of processes that cannot be.

    Raises:
      ValueError: with what to do.
    """
    if processes < 1:
        raise ValueError(f"decoding.processes must be 1 or more, got {processes}")
    if processes > 1 and jax.default_backend() != "cpu":
        raise ValueError(
            f"decoding.processes={processes} is for CPUs, and one process keeps this device "
            f"({jax.default_backend()}) busy: set it to 1"
        )


def _written(*told: Any) -> IO[bytes]:
    """A temporary file, gone once it is closed, with one pickle after another.

    Not through the pipe by which a process is started: writing more than it holds never ends if that process is lost.

    Raises:
      OSError, ValueError: with what to do.
    """
    file = tempfile.NamedTemporaryFile(prefix="jaxformer-translator-")  # noqa: SIM115 (closed with the pool)
    try:
        with without_main_module():
            for one in told:
                pickle.dump(one, file)
        file.flush()
    except BaseException as error:
        with contextlib.suppress(OSError):  # what is left in its buffer
            file.close()
        if isinstance(error, OSError):
            raise OSError(
                f"cannot write a copy of the translator for other processes to {tempfile.gettempdir()} "
                f"({error.strerror or error}): set TMPDIR to a folder with more room, or ask for one process"
            ) from None
        if isinstance(error, (pickle.PicklingError, AttributeError)):
            raise ValueError(
                f"the translator cannot be sent to other processes ({error}): define its parts in a module that they "
                "can import, not in the main program"
            ) from None
        raise
    return file


class _Part(NamedTuple):
    """Lines that one process translates, with their prefixes, if any, and the number of the first."""

    texts: list[str]
    prefixes: list[str] | None
    first_line: int


def _divided(texts: list[str], prefixes: list[str] | None, first_line: int, processes: int) -> Iterator[_Part]:
    """As many equal parts as there are processes, or fewer."""
    size = max(1, -(-len(texts) // processes))
    for start in range(0, len(texts), size):
        part = slice(start, start + size)
        yield _Part(texts[part], None if prefixes is None else prefixes[part], first_line + start)


def _numbered(lines: Iterable[str], chunk: int, processes: int) -> Iterator[_Part]:
    """Parts of a text: of `chunk` lines, or fewer, so that there are enough."""
    rest = iter(lines)
    first_line = 1
    while texts := checked_lines(itertools.islice(rest, chunk * processes), first_line=first_line)[0]:
        yield from _divided(texts, None, first_line, processes)
        first_line += len(texts)


# In the processes:


_OWN: list[Translator] = []
"""The translator of this process, once it has begun."""


def _begin(until: Any, places: Any, told: str) -> None:
    """Reads what `_written` wrote to the file `told`, and makes the translator in it this process's own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is told by the process that a person started
    threading.Thread(target=_end_with_parent, args=(until, told), daemon=True).start()
    with open(told, "rb") as file:
        begin, settings, measurements = pickle.load(file)
        if begin is not None:
            begin()
        if cores := places.get():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, cores)  # before JAX asks how many there are
        for name, value in settings.items():
            jax.config.update(name, value)
        use_measurements(measurements)
        _OWN.append(pickle.load(file))


def _end_with_parent(until: Any, told: str) -> None:
    """Waits until the parent is gone, or does not want to wait any more; of a parent that was killed the file stays."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    if parent.sentinel in multiprocessing.connection.wait([parent.sentinel, until]):
        with contextlib.suppress(OSError):
            os.remove(told)
    os._exit(1)


def _translate(part: _Part) -> list[Translation]:
    return _OWN[0].translate(part.texts, part.prefixes, first_line=part.first_line)
