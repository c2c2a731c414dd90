"""Plans beside what became of them: a strip of pictures, and a video with timings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keystep.evaluate.recording import Picture, Pictures, Plan, Recording, Tick

CELL, CAPTION, MARGIN = 144, 18, 4  # pixels
VIEW = 384  # side of the episode's picture in the video
COLUMNS = 4  # of subgoals beside it
ACCENT, INK = (213, 94, 0), (20, 20, 20)
SMALL, LARGE = 12, 16  # font sizes


def strip(recording: Recording) -> Picture:
    """Two rows for each plan: start and subgoals; below each subgoal what was seen when its actions ended."""
    from PIL import Image, ImageDraw

    columns = 1 + max(len(plan.subgoals) for plan in recording.plans)
    row = CELL + CAPTION + MARGIN
    image = Image.new(
        "RGB", (columns * (CELL + MARGIN) + MARGIN, 2 * row * len(recording.plans) + 2 * CAPTION), "white"
    )
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN), title(recording), INK, font_size=LARGE)
    for index, plan in enumerate(recording.plans):
        top = 2 * CAPTION + 2 * row * index
        for column, (picture, caption) in enumerate(_imagined(index, plan)):
            _cell(image, draw, picture, caption, column, top)
        last = index == len(recording.plans) - 1
        for column, (picture, caption) in enumerate(_reached(plan, last and recording.success), start=1):
            _cell(image, draw, picture, caption, column, top + row)
    return np.asarray(image)


def title(recording: Recording) -> str:
    end = "solved" if recording.success else "not solved"
    return f"{recording.task}, seed {recording.seed}: {end} after {len(recording.ticks)} actions"


def _imagined(index: int, plan: Plan) -> Iterator[tuple[Picture, str]]:
    yield plan.start, f"start of plan {index + 1}"
    for number, picture in enumerate(plan.subgoals, start=1):
        yield picture, f"subgoal {number}"


def _reached(plan: Plan, solved: bool) -> Iterator[tuple[Picture, str]]:
    for number, picture in enumerate(plan.reached, start=1):
        yield picture, "solved" if solved and number == len(plan.reached) else f"reached {number}"


def _cell(image: Any, draw: Any, picture: Picture, caption: str, column: int, top: int) -> None:
    left = MARGIN + column * (CELL + MARGIN)
    draw.text((left, top), caption, INK, font_size=SMALL)
    image.paste(_resized(picture, CELL), (left, top + CAPTION))


def _resized(picture: Picture, size: int) -> Any:
    """A small camera's pixels stay visible; larger pictures are averaged."""
    from PIL import Image

    way = Image.Resampling.NEAREST if len(picture) < size else Image.Resampling.LANCZOS
    return Image.fromarray(picture).resize((size, size), way)


def frames(recording: Recording, pictures: Pictures, every: int = 2) -> Iterator[Picture]:
    """Every so-many-th action as a frame: the episode, the plan with the current subgoal framed, timings.

    Args:
        pictures: what the episode was recorded with.
    """
    from PIL import Image

    panels = [_panel(plan) for plan in recording.plans]
    chunk_ms = 0.0
    for number, tick in enumerate(recording.ticks):
        chunk_ms = tick.stages_ms.get("encode", 0.0) + tick.stages_ms.get("denoise", 0.0) or chunk_ms
        if number % every:
            continue
        image = Image.new("RGB", (2 * VIEW, VIEW), "white")
        image.paste(_resized(pictures.seen(tick.observation), VIEW), (0, 0))
        image.paste(panels[tick.plan], (VIEW, 0))
        _annotate(image, recording, tick, number, chunk_ms)
        yield np.asarray(image)


def _thumbnail(plan: Plan) -> tuple[int, int]:
    """(size, rows) of the subgoals in the panel, whose upper two thirds they fill."""
    rows = -(-len(plan.subgoals) // COLUMNS)
    return min(VIEW // COLUMNS, VIEW * 2 // 3 // rows) - 2 * MARGIN, rows


def _corner(plan: Plan, number: int) -> tuple[int, int]:
    size, _ = _thumbnail(plan)
    step = size + 2 * MARGIN
    return MARGIN + number % COLUMNS * step, MARGIN + number // COLUMNS * step


def _panel(plan: Plan) -> Any:
    """The subgoals as thumbnails."""
    from PIL import Image

    image = Image.new("RGB", (VIEW, VIEW), "white")
    for number, picture in enumerate(plan.subgoals):
        image.paste(_resized(picture, _thumbnail(plan)[0]), _corner(plan, number))
    return image


def _annotate(image: Any, recording: Recording, tick: Tick, number: int, chunk_ms: float) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(image)
    plan = recording.plans[tick.plan]
    size, rows = _thumbnail(plan)
    left, top = _corner(plan, min(tick.subgoal, len(plan.subgoals) - 1))
    box = (VIEW + left - 3, top - 3, VIEW + left + size + 2, top + size + 2)
    draw.rectangle(box, outline=ACCENT, width=3)
    y = rows * (size + 2 * MARGIN) + 2 * MARGIN
    for text in lines(recording, tick, number, chunk_ms):
        draw.text((VIEW + MARGIN, y), text, INK, font_size=LARGE - 2)
        y += LARGE + 2


def lines(recording: Recording, tick: Tick, number: int, chunk_ms: float) -> Sequence[str]:
    """What the overlay says at action `number`, from 0."""
    plan = recording.plans[tick.plan]
    stages = ", ".join(f"{name} {ms:.2f}" for name, ms in tick.stages_ms.items() if name != "tick")
    return [
        f"{recording.task}, action {number + 1} of {len(recording.ticks)}",
        f"plan {tick.plan + 1} of {len(recording.plans)}: made in {plan.ms:.1f} ms",
        f"subgoal {tick.subgoal + 1} of {len(plan.subgoals)}, action {tick.action}",
        f"last chunk: {chunk_ms:.2f} ms",
        f"this tick: {tick.stages_ms.get('tick', 0.0):.3f} ms",
        f"  {stages}",
    ]
