"""Work in processes gives what work here gives, from any program."""

import os
import subprocess
import sys
import time

import pytest

from jaxformer.data.workers import ordered_map


def _square(number: int) -> int:
    if number < 0:
        raise ValueError(f"line {-number}")
    return number * number


def test_results_come_in_order_and_errors_as_themselves() -> None:
    assert list(ordered_map(_square, range(30), processes=2)) == [n * n for n in range(30)]
    results = ordered_map(_square, [1, 2, -7, 3], processes=2)
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(ValueError, match=r"line 7"):
        next(results)


def test_one_process_is_this_one() -> None:
    assert list(ordered_map(lambda n: n + 1, [1, 2], processes=1)) == [2, 3]


def test_a_program_on_standard_input_without_a_main_guard_may_use_workers() -> None:
    program = """
import math
from jaxformer.data.workers import ordered_map
print(list(ordered_map(math.sqrt, [1, 4, 9], processes=2)))
"""
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[1.0, 2.0, 3.0]", done.stderr


def test_importing_the_data_package_starts_no_jax_backend() -> None:
    program = """
import jaxformer.data.pipeline, jaxformer.data.prepare, jaxformer.data.tfds
from jax._src import xla_bridge
assert not xla_bridge._backends, xla_bridge._backends
import sys
assert "tensorflow_datasets" not in sys.modules
print("clean")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "clean", done.stderr


def _end(number: int) -> int:
    os._exit(9)


def test_a_worker_that_is_killed_is_an_error_for_a_person() -> None:
    with pytest.raises(OSError, match=r"a worker process was killed, probably because memory ran out"):
        list(ordered_map(_end, range(3), processes=2))


def test_workers_do_not_outlive_a_parent_that_is_killed() -> None:
    program = """
import time
from jaxformer.data.workers import ordered_map
from tests.data.test_workers import process_of
for process in ordered_map(process_of, range(2), processes=2):
    print(process, flush=True)
    time.sleep(60)  # the workers wait for more when the parent is killed here
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)
        parent.kill()
        deadline = time.monotonic() + 20
        while _runs(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not _runs(worker)


def process_of(_: int) -> int:
    return os.getpid()


def _runs(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
