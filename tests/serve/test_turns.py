"""Whose turn it is: first come, first served, with one worker or several."""

from __future__ import annotations

import threading

import pytest
from serving import wait_for

from keystep.serve.turns import Turns


class Asker:
    """A client's thread, which keeps its turn until it is told to end it."""

    def __init__(self, turns: Turns, number: int, served: list[int]) -> None:
        self._turns, self._number, self._served = turns, number, served
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        with self._turns.next():
            self._served.append(self._number)
            self._done.wait(60)

    def end(self) -> None:
        self._done.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_nobody_overtakes_who_waits(workers):
    turns, served = Turns(workers), []
    askers = []
    for number in range(8):
        askers.append(Asker(turns, number, served))
        wait_for(lambda n=number: turns.waiting + len(served) == n + 1)
    assert turns.running == workers
    for number in range(8):
        askers[number].end()
        wait_for(lambda n=number + 1 + workers: len(served) == n)
        # Whoever comes now is the last, although a turn has just been given back.
        askers.append(Asker(turns, 8 + number, served))
        wait_for(lambda n=9 + number: turns.waiting + len(served) == n)
        assert served == list(range(number + 1 + workers))
    for number in range(8, 16):
        askers[number].end()
        begun = min(number + 1 + workers, 16)
        wait_for(lambda n=begun: len(served) == n)
    assert served == list(range(16))
    assert turns.waiting == turns.running == 0


def test_a_turn_is_given_back_by_who_fails():
    turns = Turns(1)
    with pytest.raises(ValueError, match="of its own"), turns.next():
        raise ValueError("of its own")
    with turns.next() as waited_s:
        assert waited_s == 0 and turns.running == 1
