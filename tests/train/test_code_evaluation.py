"""Replies on demonstrations, of writers whose mistakes are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from keystep.code.trace import comment
from keystep.train.code_evaluation import evaluate_replies

CALLS = {0: "pick(a)", 10: "move3d(b)", 30: "place(a)"}
STEPS = 40


class Demonstration:
    """Calls that begin at the steps of `CALLS`. A prompt is the step and how many calls are in the memory."""

    task = "stack"

    def __init__(self) -> None:
        self.keysteps = [step in CALLS for step in range(STEPS)]
        self.codes = [CALLS.get(step, "") for step in range(STEPS)]
        for step in range(STEPS):
            self.codes[step] = self.codes[step] or comment(CALLS[max(key for key in CALLS if key < step)])

    def prompt(self, step: int, memory: list[str]) -> list[int]:
        assert memory == list(CALLS.values())[: len(memory)]
        return [step, len(memory)]

    def shown(self, step: int) -> tuple[int, int]:
        return step, step


class Late:
    """Writes the right call, so many steps late; at every step what the memory asks for."""

    def __init__(self, late: int) -> None:
        self.late, self.asked, self.resets = late, 0, 0

    def reset(self) -> None:
        self.resets += 1

    def write(
        self, prompt: list[int], seen: int, felt: int, way: str = "greedy", last: str = ""
    ) -> SimpleNamespace:
        step, known = prompt
        assert (seen, felt, way) == (step, step, "draft")
        self.asked += 1
        begins = [*CALLS, STEPS][known]
        due = known < len(CALLS) and step >= (begins + self.late if known else 0)
        return SimpleNamespace(text=list(CALLS.values())[known] if due else last)


def test_a_perfect_writer() -> None:
    writer = Late(0)
    found = evaluate_replies(writer, [Demonstration(), Demonstration()], every=1)
    assert list(found) == ["all", "stack"]
    figures = found["all"]
    assert (figures["replies"], figures["exact"], writer.resets) == (2 * STEPS, 1.0, 2)
    assert (figures["keysteps"], figures["keystep_recall"], figures["keystep_precision"]) == (4, 1.0, 1.0)
    assert (figures["offset_median"], figures["offset_abs"]) == (0.0, 0.0)


@pytest.mark.parametrize(("late", "recall"), [(-5, 0.0), (-2, 1.0), (1, 1.0), (2, 1.0), (4, 0.0)])
def test_early_and_late_ones(late: int, recall: float) -> None:
    figures = evaluate_replies(Late(late), [Demonstration()], every=1)["stack"]
    assert (figures["offset_mean"], figures["keystep_recall"]) == (late, recall)
    assert figures["exact"] < 1.0


class Inventive(Late):
    """Right at every border; in the middle of every call, far from any border, it writes another one."""

    def write(self, prompt: list[int], *given: Any, **ways: Any) -> SimpleNamespace:
        step, known = prompt
        if step in (20, 21, 39) and known == sum(key < step for key in CALLS):
            return SimpleNamespace(text="done()")
        return super().write(prompt, *given, **ways)


@pytest.mark.parametrize("every", [1, 3])
def test_keysteps_in_the_middle_of_calls_are_seen(every: int) -> None:
    right = evaluate_replies(Late(0), [Demonstration()], every=every)["stack"]
    assert (right["keystep_precision"], right["invented"], right["exact"]) == (1.0, 0, 1.0)
    figures = evaluate_replies(Inventive(0), [Demonstration()], every=every)["stack"]
    assert figures["keystep_recall"] == 1.0
    invented = {1: 3, 3: 2 * 37 / 12}[every]  # at 21 and 39, each for 37 steps of 12 that are asked about
    assert figures["invented"] == pytest.approx(invented)
    assert figures["keystep_precision"] == pytest.approx(2 / (2 + invented))
    assert figures["exact"] == pytest.approx(1 - invented / STEPS)


def test_garbage_is_no_keystep() -> None:
    class Garbage(Late):
        def write(self, *given: Any, **ways: Any) -> SimpleNamespace:
            text = super().write(*given, **ways).text
            return SimpleNamespace(text=text if text.startswith("#") else "rm -rf /")

    figures = evaluate_replies(Garbage(0), [Demonstration()], every=1)["stack"]
    assert (figures["keystep_recall"], figures["keystep_precision"]) == (0.0, 0.0)


def test_one_that_never_writes_a_call() -> None:
    figures = evaluate_replies(Late(1000), [Demonstration()], window=3)["stack"]
    assert (figures["keysteps"], figures["keystep_recall"], figures["keystep_precision"]) == (2, 0.0, None)
    assert figures["exact_keysteps"] == pytest.approx(1 / 3)


def test_fewer_steps_are_asked_about_where_a_call_goes_on() -> None:
    figures = evaluate_replies(Late(0), [Demonstration()], every=8)["stack"]
    assert figures["replies"] == len({*CALLS, *range(0, STEPS, 8)})
    with pytest.raises(ValueError, match=r"^every: expected at least 1, got 0$"):
        evaluate_replies(Late(0), [], every=0)
