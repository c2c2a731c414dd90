"""Auxiliary questions: every answer is checked against the boxes, computed anew and more slowly."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep.code.grid import GRID, MAX_GRID, PAPER_GRID, cell, check_grid, grid_of
from keystep.code.questions import KINDS, SCENE, Question, questions
from keystep.suites.tabletop.objects import COLOURS, SHAPES

ALL_NAMES = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
HIDDEN = (-1.0, -1.0, -1.0, -1.0)
FRACTION = st.integers(0, 128).map(lambda value: value / 128)


@st.composite
def boxes_in_view(draw) -> tuple[float, float, float, float]:
    left, right = sorted((draw(FRACTION), draw(FRACTION)))
    top, bottom = sorted((draw(FRACTION), draw(FRACTION)))
    return left, top, right, bottom


SCENES = st.lists(
    st.tuples(st.sampled_from([*ALL_NAMES[:4], "orange box"]), boxes_in_view() | st.just(HIDDEN)), max_size=8
)


def asked(
    names: Sequence[str], boxes: Sequence[Sequence[float]], seed: int = 0, grid: int = PAPER_GRID
) -> list[Question]:
    array = np.array(boxes, dtype=np.float32).reshape(len(names), 4)
    return questions(names, array, np.random.default_rng(seed), ALL_NAMES, grid)


def slow_cell(box: Sequence[float], grid: int = PAPER_GRID) -> tuple[int, int]:
    """From pixels of a picture of 128 x 128, as the specification words it."""
    if box[0] < 0:
        return -1, -1
    pixels = np.array(box).reshape(2, 2) * 128
    return tuple(int(np.round(np.mean(pixels[:, axis] / 128 * grid))) for axis in (0, 1))  # type: ignore[return-value]


# ---- the grid


@given(boxes_in_view() | st.just(HIDDEN), st.sampled_from([PAPER_GRID, GRID, 1, 7]))
def test_a_cell_is_the_rounded_centre_of_the_box(box: tuple[float, float, float, float], grid: int) -> None:
    assert cell(box, grid) == cell(np.array(box, np.float32), grid) == slow_cell(box, grid)
    assert cell(box) == slow_cell(box, 32)


@pytest.mark.parametrize("grid", [0, -1, MAX_GRID + 1, 10.0, True, "10", None])
def test_what_is_no_grid_is_refused(grid: object) -> None:
    with pytest.raises(ValueError, match=f"grid: expected 1 to {MAX_GRID} cells, got"):
        check_grid(grid)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grid: expected"):
        grid_of({"grid": grid})


def test_datasets_say_their_grid_or_have_the_papers() -> None:
    assert grid_of({"suite": "tabletop"}) == PAPER_GRID == 10
    assert grid_of({"suite": "tabletop", "grid": 32}) == GRID == 32


def test_cells_by_hand() -> None:
    assert cell(HIDDEN) == (-1, -1)
    assert cell((0, 0, 0, 0), 10) == (0, 0) and cell((1, 1, 1, 1), 10) == (10, 10)
    assert cell((0.9, 0, 1, 0.1), 10) == (10, 0)  # 9.5 goes to the even 10, 0.5 to the even 0
    assert cell((0.2, 0.3, 0.3, 0.4), 10) == (2, 4)  # 2.5 and 3.5
    assert cell((0.0, 0.5, 0.5, 0.52), 10) == (2, 5)
    assert cell((0.0, 0.5, 0.5, 0.52)) == (8, 16) and cell((1, 1, 1, 1)) == (32, 32)
    assert all(type(part) is int for part in cell(np.array([0.1, 0.2, 0.3, 0.4], np.float32)))


@pytest.mark.parametrize(
    "box",
    [
        (0.1, 0.2, 0.3),
        (0.1, 0.2, 0.3, 1.01),
        (-0.1, 0.2, 0.3, 0.4),
        (-1, -1, -1, 0.5),
        (0.5, 0.2, 0.4, 0.4),
        (0.1, 0.5, 0.2, 0.4),
        (0.1, np.nan, 0.2, 0.4),
        [[0.1, 0.2, 0.3, 0.4]],
    ],
)
def test_what_is_no_box_is_refused(box: Sequence[float]) -> None:
    with pytest.raises(ValueError, match="box: expected"):
        cell(box)


# ---- the answers


def numbered(text: str, plural_of: dict[str, str]) -> dict[str, int]:
    """Reads "a red cube and 2 blue cubes"."""
    found = {}
    for part in re.split(r", | and ", text):
        count, name = part.split(" ", 1)
        if count in ("a", "an", "A", "An"):
            assert (count.lower() == "an") == (name[0] in "aeio"), part
            found[name] = 1
        else:
            found[plural_of[name]] = int(count)
            assert found[plural_of[name]] > 1, part
    return found


def places_in(text: str) -> list[tuple[int, int]]:
    return [(int(column), int(row)) for column, row in re.findall(r"\((-?\d+), (-?\d+)\)", text)]


def plurals(names: Sequence[str]) -> dict[str, str]:
    return {f"{name}es" if name.endswith("x") else f"{name}s": name for name in names}


def check(
    question: Question, names: Sequence[str], boxes: Sequence[Sequence[float]], grid: int = PAPER_GRID
) -> None:
    """Reads question and answer back, and compares with what the boxes say."""
    objects = [(name, slow_cell(box, grid)) for name, box in zip(names, boxes, strict=True)]
    seen = [(name, place) for name, place in objects if place != (-1, -1)]
    plural_of = plurals([*ALL_NAMES, *names])
    text, answer = question.question, question.answer
    if question.kind == "where":
        name = re.fullmatch(r"Where is the (.+)\?", text)[1]  # type: ignore[index]
        places = sorted(place for other, place in seen if other == name)
        assert places_in(answer) == places
        if not places:
            assert answer == f"No {name} is visible."
        elif len(places) == 1:
            assert answer.startswith(f"The {name} is at (")
        else:
            count, plural = re.match(r"The (\d+) (.+?) are at \(", answer).groups()  # type: ignore[union-attr]
            assert (int(count), plural_of[plural]) == (len(places), name)
    elif question.kind == "what":
        (place,) = places_in(re.fullmatch(r"What is at (.+)\?", text)[1])  # type: ignore[index]
        check_things(answer, "", place, seen, plural_of)
    elif question.kind == "is_at":
        name, at = re.fullmatch(r"Is an? (.+?) at (\(.+\))\?", text).groups()  # type: ignore[union-attr]
        (place,) = places_in(at)
        if any(thing == (name, place) for thing in seen):
            check_things(answer, "Yes, ", place, [thing for thing in seen if thing[0] == name], plural_of)
        else:
            check_things(answer, "No, ", place, seen, plural_of)
    elif question.kind == SCENE:
        assert text in ("What is visible?", "What is visible in order?")
        told = re.findall(r"[Aa]n? ([^,]+?) is at \((\d+), (\d+)\)", answer)
        found = [(name, (int(column), int(row))) for name, column, row in told]
        order = (lambda one: (one[1][::-1], one[0])) if text.endswith("in order?") else None
        assert sorted(found) == sorted(seen) and found == sorted(found, key=order)
        assert bool(seen) or answer == "Nothing is visible."
    elif question.kind == "visible":
        name = re.fullmatch(r"Is an? (.+?) visible\?", text)[1]  # type: ignore[index]
        count = sum(other == name for other, _ in seen)
        if count:
            things, verb = re.fullmatch(r"Yes, (.+) (is|are) visible\.", answer).groups()  # type: ignore[union-attr]
            assert numbered(things, plural_of) == {name: count} and (verb == "is") == (count == 1)
        else:
            assert answer == f"No, no {name} is visible."
    else:
        plural = re.fullmatch(r"How many (.+) are visible\?", text)[1]  # type: ignore[index]
        count = sum(other == plural_of[plural] for other, _ in seen)
        wording = {0: f"No {plural} are visible.", 1: f"1 {plural_of[plural]} is visible."}
        assert answer == wording.get(count, f"{count} {plural} are visible.")


def check_things(
    answer: str,
    beginning: str,
    place: tuple[int, int],
    seen: Sequence[tuple[str, tuple[int, int]]],
    plural_of: dict[str, str],
) -> None:
    here = [name for name, other in seen if other == place]
    assert answer.startswith(beginning) and answer.endswith(f" at {place}.")
    things, verb = re.fullmatch(r"(.+) (is|are)", answer[len(beginning) : -len(f" at {place}.")]).groups()  # type: ignore[union-attr]
    assert things[0].isupper() == (not beginning) or things[0].isdigit()
    assert (verb == "are") == (len(here) > 1)
    if here:
        assert numbered(things, plural_of) == {name: here.count(name) for name in here}
    else:
        assert things.lower() == "nothing"


@given(SCENES, st.integers(0, 999), st.sampled_from([PAPER_GRID, GRID]))
@settings(max_examples=300, deadline=None)
def test_every_answer_is_what_the_boxes_say(scene: list, seed: int, grid: int) -> None:
    names, boxes = [name for name, _ in scene], [box for _, box in scene]
    for question in asked(names, boxes, seed, grid):
        check(question, names, boxes, grid)


@given(SCENES, st.integers(0, 999))
@settings(max_examples=300, deadline=None)
def test_every_kind_asks_about_every_name_or_place_and_one_fake(scene: list, seed: int) -> None:
    names, boxes = [name for name, _ in scene], [box for _, box in scene]
    places = {slow_cell(box) for box in boxes if box[0] >= 0}
    free = [
        (column, row)
        for column in range(10)
        for row in range(10)
        if all((column - x) ** 2 + (row - y) ** 2 > (10 / 3) ** 2 for x, y in places)
    ]
    by_kind: dict[str, list[Question]] = {kind: [] for kind in (*KINDS, SCENE)}
    for question in asked(names, boxes, seed):
        by_kind[question.kind].append(question)
    for kind, pattern in (
        ("where", r"Where is the (.+)\?"),
        ("visible", r"Is an? (.+) visible\?"),
        ("count", r"How many (.+) are visible\?"),
    ):
        found = [re.fullmatch(pattern, question.question)[1] for question in by_kind[kind]]  # type: ignore[index]
        found = [plurals([*ALL_NAMES, *names]).get(name, name) for name in found]
        assert len(found) == len(set(found)) == len(set(names)) + 1
        (fake,) = set(found) - set(names)
        assert fake in ALL_NAMES
    found_places = [places_in(question.question)[0] for question in by_kind["what"]]
    assert len(found_places) == len(set(found_places)) == len(places) + bool(free)
    assert set(found_places) - places <= set(free)
    assert len(by_kind[SCENE]) == 2
    yes = {question.question for question in by_kind["is_at"] if question.answer.startswith("Yes")}
    no = [places_in(question.question)[0] for question in by_kind["is_at"] if question.question not in yes]
    here = {(name, slow_cell(box)) for name, box in scene if box[0] >= 0}
    assert len(yes) == len(here)
    assert len(no) == len(set(no)) == len(places) + bool(free) and set(no) - places <= set(free)


def test_answers_read_as_english() -> None:
    names = ["red cube", "red cube", "blue hexagon", "left plate", "orange box"]
    boxes = [(0.1, 0.1, 0.1, 0.1), (0.5, 0.7, 0.5, 0.7), (0.1, 0.1, 0.1, 0.1), HIDDEN, (0.9, 0.9, 0.9, 0.9)]
    answers = {question.question: question.answer for question in asked(names, boxes)}
    assert answers["Where is the red cube?"] == "The 2 red cubes are at (1, 1) and (5, 7)."
    assert answers["Where is the orange box?"] == "The orange box is at (9, 9)."
    assert answers["Where is the left plate?"] == "No left plate is visible."
    assert answers["What is at (1, 1)?"] == "A red cube and a blue hexagon are at (1, 1)."
    assert answers["What is at (9, 9)?"] == "An orange box is at (9, 9)."
    assert answers["Is a blue hexagon at (1, 1)?"] == "Yes, a blue hexagon is at (1, 1)."
    assert answers["Is an orange box visible?"] == "Yes, an orange box is visible."
    assert answers["Is a red cube visible?"] == "Yes, 2 red cubes are visible."
    assert answers["Is a left plate visible?"] == "No, no left plate is visible."
    assert answers["How many red cubes are visible?"] == "2 red cubes are visible."
    assert answers["How many orange boxes are visible?"] == "1 orange box is visible."
    assert answers["How many left plates are visible?"] == "No left plates are visible."
    three = "A blue hexagon is at (1, 1), an orange box is at (9, 9), a red cube is at (1, 1)"
    assert answers["What is visible?"] == f"{three} and a red cube is at (5, 7)."
    three = "A blue hexagon is at (1, 1), a red cube is at (1, 1), a red cube is at (5, 7)"
    assert answers["What is visible in order?"] == f"{three} and an orange box is at (9, 9)."


def test_a_crowded_picture_has_no_fake_place() -> None:
    centres = [(x, y) for x in (0.15, 0.5, 0.85) for y in (0.15, 0.5, 0.85)]
    boxes = [(x, y, x, y) for x, y in centres]
    found = asked([ALL_NAMES[index] for index in range(9)], boxes)
    assert len([question for question in found if question.kind == "what"]) == 9
    assert not any("othing" in question.answer for question in found)
    assert len([question for question in found if question.kind == "where"]) == 10  # a fake name, still


def test_a_scene_with_all_names_has_no_fake_name() -> None:
    found = questions(["a b"], np.array([HIDDEN]), np.random.default_rng(0), ["a b"])
    assert [question.question for question in found if question.kind == "where"] == ["Where is the a b?"]
    assert len([question for question in found if question.kind == "what"]) == 1  # the fake place


def test_an_empty_table_has_fakes_only() -> None:
    found = asked([], [])
    assert [question.kind for question in found] == [*KINDS, SCENE, SCENE]
    assert all(re.match(r"No|Nothing", question.answer) for question in found)


def test_equal_generators_ask_the_same_and_fakes_vary() -> None:
    scene = ["red cube"], [(0.4, 0.4, 0.5, 0.5)]
    assert asked(*scene, seed=3) == asked(*scene, seed=3)
    fakes = {asked(*scene, seed=seed)[1].question for seed in range(60)}
    assert len(fakes) > 15


def test_boxes_belong_to_names() -> None:
    with pytest.raises(ValueError, match=r"boxes: expected shape \(2, 4\), got \(1, 4\)"):
        questions(["a", "b"], np.zeros((1, 4)), np.random.default_rng(0), ALL_NAMES)
