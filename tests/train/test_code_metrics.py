"""Figures of replies, by constructed ones."""

from __future__ import annotations

import math

import pytest

from keystep.train.code_metrics import FirstKeystep, StepReply, cell_distances, code_metrics


def place(column: int, row: int, name: str = "red cube") -> str:
    return f"move3d(get_actor('{name}', actor_pos=({column}, {row})))"


def test_texts_are_compared_key_steps_and_others_apart() -> None:
    replies = [
        StepReply("pick", "pick(a)", "pick(a)", True),
        StepReply("pick", "# pick(a)", "# pick(a)", False),
        StepReply("pick", "done()", "# pick(a)", False),
        StepReply("swap", "pick(b)", "pick(a)", True),
    ]
    found = code_metrics(replies)
    assert list(found) == ["all", "pick", "swap"]
    assert (found["all"]["replies"], found["all"]["exact"]) == (4, 0.5)
    assert (found["all"]["exact_keysteps"], found["all"]["exact_going_on"]) == (0.5, 0.5)
    assert math.isclose(found["pick"]["exact"], 2 / 3)
    assert (found["swap"]["exact"], found["swap"]["exact_going_on"]) == (0.0, None)


def test_offsets_tell_early_late_and_never() -> None:
    firsts = [FirstKeystep("pick", 20, step, "pick(a)", "pick(a)") for step in (20, 22, 17, None)]
    found = code_metrics([], firsts)["pick"]
    assert (found["keysteps"], found["keystep_recall"]) == (4, 0.5)
    assert math.isclose(found["keystep_precision"], 2 / 3)
    assert (found["offset_median"], found["offset_abs"]) == (0.0, 5 / 3)
    assert math.isclose(found["offset_mean"], -1 / 3)
    assert found["exact"] is None


@pytest.mark.parametrize("garbage", ["rm -rf /", "pick(b)", "done()"])
def test_a_keystep_of_other_code_is_none_that_was_found(garbage: str) -> None:
    firsts = [FirstKeystep("pick", 20, 20, written, "pick(a)") for written in (garbage, "pick(a)")]
    found = code_metrics([], firsts)["pick"]
    assert (found["keystep_recall"], found["keystep_precision"]) == (0.5, 0.5)


def test_cells_are_no_part_of_when_a_keystep_came() -> None:
    found = code_metrics([], [FirstKeystep("pick", 20, 21, place(1, 1), place(9, 9))])["pick"]
    assert (found["keystep_recall"], found["keystep_precision"]) == (1.0, 1.0)


def test_keysteps_that_are_invented_lower_precision() -> None:
    firsts = [FirstKeystep("pick", 20, 20, "pick(a)", "pick(a)")]
    replies = [
        StepReply("pick", "done()", "# pick(a)", False, steps=3),
        StepReply("pick", "# pick(a)", "# pick(a)", False, steps=3),
        StepReply("pick", "done()", "# pick(a)", False, steps=3, looked_at=True),  # told by `firsts`
        StepReply("pick", "done()", "pick(a)", True),
    ]
    found = code_metrics(replies, firsts)["pick"]
    assert (found["keystep_recall"], found["keystep_precision"], found["invented"]) == (1.0, 0.25, 3)
    assert (found["exact"], found["exact_going_on"]) == (0.3, 1 / 3)


@pytest.mark.parametrize(
    ("written", "wanted", "distances"),
    [
        (place(3, 4), place(3, 4), [0]),
        (place(3, 9), place(5, 4), [5]),
        (place(-1, -1), place(0, 0), [1]),
        (place(3, 4, "blue cube"), place(3, 4), []),
        ("pick(a)", "pick(a)", []),
        (f"{place(1, 1)}\n{place(2, 2)}", f"{place(1, 2)}\n{place(4, 2)}", [1, 2]),
        (place(1, 1), f"{place(1, 1)}\n{place(2, 2)}", []),
        ("a = f(near=(1,2))", "a = f(near=(1, 3))", [1]),
    ],
)
def test_cells_are_compared_where_the_rest_is_right(written: str, wanted: str, distances: list[int]) -> None:
    assert cell_distances(written, wanted) == distances


def test_cells_count_at_key_steps_only() -> None:
    replies = [
        StepReply("pick", place(1, 1), place(1, 2), True),
        StepReply("pick", place(1, 1), place(1, 1), True),
        StepReply("pick", "# " + place(7, 7), "# " + place(1, 1), False),
    ]
    found = code_metrics(replies)["all"]
    assert (found["cells"], found["cell_exact"], found["cell_near"], found["cell_error"]) == (
        2,
        0.5,
        1.0,
        0.5,
    )


def test_nothing_is_no_figure() -> None:
    assert code_metrics([]) == {}
