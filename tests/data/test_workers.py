"""Work in processes gives what work here gives, from any program."""

import subprocess
import sys

import pytest

from jaxformer.data.workers import available_cores, ordered_map


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
    assert available_cores() >= 1


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
