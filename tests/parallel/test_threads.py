"""Settings of one thread hold in another when they are taken there."""

from __future__ import annotations

import concurrent.futures

import jax
import jax.numpy as jnp
import pytest

from jaxformer.parallel.threads import run_with, thread_settings


def _elsewhere(function):
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        return threads.submit(run_with, thread_settings(), function).result()


def test_precision_and_debugging_go_along():
    def seen():
        return jax.config.jax_default_matmul_precision, jax.config.jax_debug_nans, jax.config.jax_disable_jit

    with jax.default_matmul_precision("highest"), jax.debug_nans(True), jax.disable_jit():
        assert _elsewhere(seen) == seen() == ("highest", True, True)
    assert _elsewhere(seen) == seen()


def test_the_device_goes_along():
    with jax.default_device(jax.devices()[-1]):
        assert _elsewhere(lambda: jax.config.jax_default_device) == jax.devices()[-1]


def test_the_transfer_guard_goes_along():
    # On a CPU nothing is transferred, so that only the setting can be looked at.
    with jax.transfer_guard("disallow"):
        assert _elsewhere(lambda: jax.config.jax_transfer_guard_host_to_device) == "disallow"


def test_errors_come_back():
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        _elsewhere(lambda: jax.jit(lambda x: x / x)(jnp.zeros(())))
