"""What all tests share: how hard XLA works on the programs it compiles."""

from __future__ import annotations

import jax
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--optimized",
        action="store_true",
        help="compile as a run does; otherwise LLVM's costly passes are left out, since most tests run a program once",
    )


def pytest_configure(config: pytest.Config) -> None:
    jax.config.update("jax_disable_most_optimizations", not config.getoption("--optimized"))
