"""What all tests share: how hard XLA works on the programs it compiles, and in which order they run."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import pytest

from tests.compiling import OLDER_LOOPS, ONE_MODULE

_LONG = ("parallel", "training")
"""Folders whose files take longest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--optimized",
        action="store_true",
        help="compile as a run does; otherwise LLVM's costly passes are left out, since most tests run a program once",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--optimized"):
        jax.config.update("jax_disable_most_optimizations", True)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for the processes that tests start
        if jax.__version_info__ < (0, 11):
            # Newer versions do not know it, and a flag that XLA does not know ends the process.
            flags = [os.environ.get("XLA_FLAGS", ""), OLDER_LOOPS, ONE_MODULE]
            os.environ["XLA_FLAGS"] = " ".join(filter(None, flags))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: short ones then keep every process busy to the end, with `--no-loadscope-reorder`."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).parts[0] not in _LONG)
