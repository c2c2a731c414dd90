"""Videos of code: what is highlighted, wrapping, the rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from keystep.evaluate import code_video
from keystep.evaluate.code_video import CURRENT, NEW, PANEL, WIDTH, at_rate, frames, wrap

DRAW = ImageDraw.Draw(Image.new("RGB", (8, 8)))


def panels(codes: list[str], keysteps: list[bool], prompt: str = "Do it.") -> list[np.ndarray]:
    image = np.full((32, 32, 3), 77, np.uint8)
    made = list(frames([image] * len(codes), codes, keysteps, prompt, "Pick, seed 1"))
    for frame in made:
        assert frame.shape == (WIDTH + PANEL, WIDTH, 3) and frame.dtype == np.uint8
        assert (frame[:WIDTH] == 77).all()
    return [frame[WIDTH:] for frame in made]


def rows_of(panel: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero((panel == colour).all(axis=2).any(axis=1))


def test_the_current_line_is_highlighted_and_marked_when_it_is_new() -> None:
    codes = ["pick(a)", *["# pick(a)"] * 14, "place(a, b)", "# place(a, b)"]
    made = panels(codes, [not code.startswith("#") for code in codes])
    new = [len(rows_of(panel, NEW)) > 0 for panel in made]
    assert new == [True] * 10 + [False] * 5 + [True] * 2
    assert all((len(rows_of(panel, CURRENT)) > 0) != flag for panel, flag in zip(made, new, strict=True))
    # The second key-step stands one line below the first.
    assert rows_of(made[15], NEW)[0] - rows_of(made[0], NEW)[0] == code_video.LINE
    assert len(rows_of(made[15], code_video.DIMMED)) > len(rows_of(made[0], code_video.DIMMED))


def test_nothing_is_highlighted_before_the_first_key_step() -> None:
    (panel,) = panels([""], [False])
    assert not len(rows_of(panel, NEW)) and not len(rows_of(panel, CURRENT))


@pytest.mark.parametrize("calls", [3, 12, 60])
def test_the_current_line_is_always_visible(calls: int) -> None:
    last = panels([f"pick({number})" for number in range(calls)], [True] * calls)[-1]
    rows = rows_of(last, NEW)
    assert len(rows) and rows[-1] < PANEL


def test_of_many_key_steps_the_last_are_shown() -> None:
    codes = [f"pick({number})" for number in range(60)]
    many, few = panels(codes, [True] * 60)[-1], panels(codes[-20:], [True] * 20)[-1]
    np.testing.assert_array_equal(many, few)
    assert (many != panels(codes[:20], [True] * 20)[-1]).any()


def test_a_key_step_longer_than_the_panel_shows_its_start() -> None:
    (panel,) = panels(["\n".join(f"line_{number}()" for number in range(32))], [True])
    assert rows_of(panel, NEW)[0] < PANEL / 2


@settings(max_examples=50, deadline=None)
@example("===", 20, 12)  # no room for the indent
@given(st.text(st.sampled_from("ab (),.='_"), max_size=200), st.integers(20, 300), st.sampled_from([0, 12]))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int, indent: int) -> None:
    lines = wrap(DRAW, text, width, indent)
    assert all(DRAW.textlength(line, font_size=code_video.SIZE) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    words = [word for word in text.split(" ") if word]
    if all(DRAW.textlength(word, font_size=code_video.SIZE) < width / 2 for word in words) and not indent:
        assert " ".join(lines).split() == text.split()


@given(st.integers(0, 60), st.integers(1, 60), st.integers(1, 60))
def test_at_another_rate_the_duration_and_the_order_are_the_same(count: int, rate: int, video: int) -> None:
    shown = list(at_rate(range(count), rate, video))
    assert shown == sorted(shown) and abs(len(shown) / video - count / rate) <= 0.5 / video + 1e-9
    for position, item in enumerate(shown):
        assert abs((position + 0.5) / video - (item + 0.5) / rate) <= 1 / min(rate, video)


def test_text_is_laid_out_when_it_changes_and_not_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    laid: list[str] = []
    real = code_video.wrap
    monkeypatch.setattr(
        code_video, "wrap", lambda draw, text, *rest: laid.append(text) or real(draw, text, *rest)
    )
    codes = ["pick(a)", *["# pick(a)"] * 99, "done()", *["# done()"] * 4]
    made = panels(codes, [not code.startswith("#") for code in codes])
    assert laid.count("Do it.") == 3  # at each key-step, and when the first is no longer new
    monkeypatch.undo()
    for step, panel in enumerate(made):  # each as if laid out alone
        past = [code for code in codes[: step + 1] if not code.startswith("#")]
        age = step - max(n for n in range(step + 1) if not codes[n].startswith("#"))
        expected = code_video._panel(past, age < code_video.BLINK_FRAMES, "Do it.", "Pick, seed 1")
        np.testing.assert_array_equal(panel, expected)
    assert (made[9] != made[10]).any() and (made[99] != made[100]).any()


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="keysteps: expected 2 as there are codes, got 1"):
        list(frames([], ["a", "b"], [True], "Do it."))
    with pytest.raises(ValueError):
        panels_of_two = [np.zeros((8, 8, 3), np.uint8)] * 2
        list(frames(panels_of_two, ["a"], [True], "Do it."))
