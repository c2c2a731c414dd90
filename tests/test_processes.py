"""The process pool: order, endless jobs, one opening per process, what dies."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool

import pytest

from keystep.processes import Workers

EACH = pytest.mark.parametrize("processes", [1, 2])


def open_square() -> Callable[[int], tuple[int, int, int]]:
    opened.append(1)
    return lambda number: (number * number, os.getpid(), len(opened))


opened: list[int] = []  # of this process


def open_death() -> Callable[[int], int]:
    return lambda number: os._exit(3) if number == 2 else number


@EACH
def test_results_of_endless_jobs_come_in_their_order(processes: int) -> None:
    opened.clear()
    with Workers(open_square, processes) as workers:
        found = list(itertools.islice(workers.run((n,) for n in itertools.count(3)), 7))
        again = list(workers.run([(1,)]))
    assert [(job, result[0]) for job, result in found] == [((n,), n * n) for n in range(3, 10)]
    assert again[0][1][0] == 1
    assert {result[2] for _, result in [*found, *again]} == {1}  # opened once in each process
    assert (os.getpid() in {result[1] for _, result in found}) == (processes == 1)


@EACH
def test_all_jobs_are_done_once_whatever_the_order(processes: int) -> None:
    with Workers(open_square, processes) as workers:
        found = [result[0] for result in workers.as_completed([(n,) for n in range(6)])]
    assert sorted(found) == [n * n for n in range(6)]


def test_a_process_that_dies_is_told() -> None:
    with Workers(open_death, 2) as workers, pytest.raises(BrokenProcessPool):
        list(workers.run([(n,) for n in range(6)]))


class PickyError(Exception):
    """One that no pickle brings back."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def open_fault(picky: bool) -> Callable[[int], int]:
    raise PickyError("no ", "simulator") if picky else KeyError("simulator")


@pytest.mark.parametrize("processes", [1, 2])
def test_work_that_cannot_be_opened_says_why(processes: int, capfd: pytest.CaptureFixture[str]) -> None:
    with Workers(functools.partial(open_fault, False), processes) as workers:
        with pytest.raises(KeyError, match="simulator"):
            list(workers.run([(n,) for n in range(6)]))
        with pytest.raises(KeyError, match="simulator"):
            list(workers.as_completed([(n,) for n in range(6)]))
    with (
        Workers(functools.partial(open_fault, True), processes) as workers,
        pytest.raises((PickyError, RuntimeError), match="no simulator"),
    ):
        list(workers.run([(1,)]))
    assert "Traceback" not in capfd.readouterr().err


def open_sleep() -> Callable[[float], float]:
    return lambda seconds: time.sleep(seconds) or seconds


def test_who_waits_is_told_that_nothing_came() -> None:
    with Workers(open_sleep, 2) as workers:
        found = list(workers.polled([(0.6,), (0.0,)], 0.05))
    assert [item for item in found if item is not None] == [((0.6,), 0.6), ((0.0,), 0.0)]
    assert None in found[: found.index(((0.6,), 0.6))]


def test_less_than_one_process() -> None:
    with pytest.raises(ValueError, match="processes: expected at least 1, got 0"):
        Workers(open_square, 0)
