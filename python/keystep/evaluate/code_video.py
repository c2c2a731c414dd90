"""Videos of episodes with the code that runs: the picture, the task, and the key-steps so far."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

Picture = np.ndarray
"""uint8 (height, width, 3)"""

WIDTH, PANEL = 512, 256  # pixels: side of the picture, height of the text below it
MARGIN, INDENT = 10, 24
SIZE, LINE = 15, 20  # of the font, and from line to line
BLINK_FRAMES = 10  # a new key-step is marked so long: one frame is too short to see
WHITE, INK, DIMMED = (255, 255, 255), (20, 20, 20), (150, 150, 150)
CURRENT, NEW, ACCENT = (250, 240, 225), (250, 205, 150), (213, 94, 0)  # backgrounds, and the bar beside them

Item = TypeVar("Item")


def frames(
    images: Iterable[Picture],
    codes: Sequence[str],
    keysteps: Sequence[bool],
    prompt: str,
    caption: str = "",
) -> Iterator[Picture]:
    """One (768, 512, 3) frame for each of T steps.

    Args:
        images: what the base camera saw, T square pictures.
        codes: of every step, as recorded: plain at a key-step, commented out afterwards.
        keysteps: whether a key-step starts.
        prompt: the task in words.
        caption: a line above it, such as the task's name and seed.

    Raises:
        ValueError: not equally many images, codes and keysteps.
    """
    if len(codes) != len(keysteps):
        raise ValueError(f"keysteps: expected {len(codes)} as there are codes, got {len(keysteps)}")
    past: list[str] = []
    panel, age = None, 0
    for image, code, starts in zip(images, codes, keysteps, strict=True):
        age = 0 if starts else age + 1
        if starts:
            past.append(code)
        if panel is None or age in (0, BLINK_FRAMES):  # only then it changes, and laying text out is slow
            panel = _panel(past, age < BLINK_FRAMES, prompt, caption)
        yield np.concatenate([_scaled(image), panel])


def at_rate(items: Iterable[Item], rate: float, video_rate: float) -> Iterator[Item]:
    """Repeats or leaves out items of `rate` a second, so that at `video_rate` they take as long."""
    shown = 0
    for number, item in enumerate(items, start=1):
        while shown < round(number * video_rate / rate):
            yield item
            shown += 1


def _scaled(image: Picture) -> Picture:
    """(512, 512, 3)."""
    from PIL import Image

    way = Image.Resampling.NEAREST if len(image) < WIDTH else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((WIDTH, WIDTH), way))


def _panel(past: Sequence[str], new: bool, prompt: str, caption: str) -> Picture:
    """(256, 512, 3): the text below the picture."""
    from PIL import Image, ImageDraw

    panel = Image.new("RGB", (WIDTH, PANEL), WHITE)
    draw = ImageDraw.Draw(panel)
    top = MARGIN
    for text, colour in ((caption, DIMMED), (prompt, INK)):
        for line in wrap(draw, text, WIDTH - 2 * MARGIN) if text else ():
            draw.text((MARGIN, top), line, colour, font_size=SIZE)
            top += LINE
    _code(draw, past, new, top + MARGIN)
    return np.asarray(panel)


def _code(draw: Any, past: Sequence[str], new: bool, top: int) -> None:
    """The last key-steps for which there is room below `top`; if the current one is too long, its start."""
    room = max(1, (PANEL - top) // LINE)
    blocks: list[list[str]] = []
    for code in reversed(past):
        block = _lines(draw, code)
        if sum(map(len, blocks)) + len(block) > room:
            if not blocks:
                blocks = [[*block[: room - 1], "..."]]
            break
        blocks.insert(0, block)
    for number, block in enumerate(blocks, start=1):
        current = number == len(blocks)
        if current:
            bottom = top + LINE * len(block)
            draw.rectangle((MARGIN, top - 2, WIDTH - MARGIN, bottom - 2), NEW if new else CURRENT)
            draw.rectangle((MARGIN, top - 2, MARGIN + 3, bottom - 2), ACCENT)
        for line in block:
            draw.text((MARGIN + 8, top), line, INK if current else DIMMED, font_size=SIZE)
            top += LINE


def _lines(draw: Any, code: str) -> list[str]:
    return [part for line in code.splitlines() for part in wrap(draw, line, WIDTH - 2 * MARGIN - 8, INDENT)]


def wrap(draw: Any, text: str, width: int, indent: int = 0) -> list[str]:
    """Lines of at most `width` pixels, broken after a space where there is one; later ones are indented."""
    spaces = " " * max(1, round(indent / draw.textlength(" ", font_size=SIZE))) if indent else ""
    lines: list[str] = []
    rest = text
    while True:
        line = (spaces if lines else "") + rest
        lengths = range(1, len(line) + 1)
        count = bisect_right(lengths, width, key=lambda n: draw.textlength(line[:n], font_size=SIZE))
        if count == len(line):
            return [*lines, line]
        margin = len(line) - len(rest)
        if margin and count <= margin:  # too narrow for the indent and one character
            spaces = ""
            continue
        space = line.rfind(" ", margin + 1, count)
        stop = space + 1 if space > 0 else max(count, margin + 1)
        lines.append(line[:stop].rstrip())
        rest = line[stop:]
