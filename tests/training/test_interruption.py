"""SIGTERM as an ordinary end: what is open is closed on the way out."""

from __future__ import annotations

import signal

import pytest

from jaxformer.training.interruption import ended_in_order


def test_sigterm_leaves_what_is_open_and_the_handler_from_before_returns():
    before, left = signal.getsignal(signal.SIGTERM), []

    def asked():
        with ended_in_order():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                left.append(True)

    with pytest.raises(SystemExit) as ended:
        asked()
    assert (ended.value.code, left) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) is before
