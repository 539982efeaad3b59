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


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Lets processes share the tests by group, if several run them and nothing else was asked for."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "loadgroup"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One process runs all tests of a module that use the model it trains, so that it is trained once."""
    for item in items if config.pluginmanager.hasplugin("xdist") else ():
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
