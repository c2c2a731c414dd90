"""Ctrl-C as a request, also where one job is within another."""

from __future__ import annotations

import os
import signal

import pytest

from keystep.record.interrupts import Interrupts


def strike() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_is_a_request_and_the_second_acts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert not interrupts.requested
        strike()
        assert interrupts.requested
        with pytest.raises(KeyboardInterrupt):
            strike()
    assert signal.getsignal(signal.SIGINT) == before


def test_one_strike_asks_all_around() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as outer, Interrupts() as middle, Interrupts() as inner:
        strike()
        assert outer.requested and middle.requested and inner.requested
        with pytest.raises(KeyboardInterrupt):
            strike()
    assert signal.getsignal(signal.SIGINT) == before


def test_after_an_inner_one_the_outer_listens() -> None:
    with Interrupts() as outer:
        with Interrupts():
            pass
        strike()
        assert outer.requested


def test_handlers_that_a_library_has_put_in_place_are_replaced() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        signal.signal(signal.SIGTERM, lambda *_: None)
        interrupts.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.requested
        signal.signal(signal.SIGTERM, lambda *_: None)
        interrupts.listen()  # what was asked already is not asked again
        assert signal.getsignal(signal.SIGTERM) != interrupts._handle
    signal.signal(signal.SIGTERM, before)
