"""Ctrl-C as a flag."""

from __future__ import annotations

import signal

from plm_edge.chat.interrupt import interrupt_flag


def test_ctrl_c_is_noted_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupt_flag() as is_interrupted:
        assert not is_interrupted()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert is_interrupted()
    assert signal.getsignal(signal.SIGINT) is before
