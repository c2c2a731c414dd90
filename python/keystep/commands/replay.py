"""keystep replay"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

import keystep
from keystep.commands.video import RATE_HZ, write_video
from keystep.files import check_outputs

if TYPE_CHECKING:
    from keystep.suites.tabletop.replay import Recorded


def main(
    dataset: Annotated[Path, tyro.conf.Positional],
    episode: int = 0,
    video: Path | None = None,
    force: bool = False,
) -> None:
    """Simulate an episode of the tabletop suite again and compare it with what was recorded, bit for bit.

    Compared are the prompt and the objects' names, in every frame the robot's state and the objects' poses
    and boxes, and whether the task is solved at the end. Datasets hold no frame after the last action: that
    it solves the task is all that can be said of the state there. Ends with an error when something differs,
    and says where first.

    Args:
        dataset: folder of a dataset of `keystep collect --suite tabletop`.
        episode: its index in the dataset.
        video: also write what the base camera sees, and below it the code (needs a Vulkan driver).
        force: also replay what another version of the simulated world recorded.
    """
    from keystep.evaluate.code_video import WIDTH
    from keystep.suites.tabletop.replay import ReplayComparison, load_recorded, open_env, resimulate

    check_outputs(video=video)
    recorded = load_recorded(dataset, episode, force=force)
    for warning in recorded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(recorded)
    comparison = ReplayComparison(recorded)
    with closing(open_env(recorded, WIDTH if video is not None else None)) as env:
        frames = comparison.watch(resimulate(env, recorded))
        if video is not None:
            write_video(video, film(env, recorded, frames))
        for _ in frames:
            pass
    if not comparison.exact:
        raise keystep.Error(f"{dataset}: episode {episode}: {comparison}")
    print(comparison)


def film(env: Any, recorded: Recorded, frames: Iterator[dict[str, Any]]) -> Iterator[np.ndarray]:
    """The frames of the video; takes all of `frames` but what follows the last action."""
    from keystep.evaluate import code_video
    from keystep.suites.tabletop.replay import CODE, KEYSTEP

    columns = recorded.columns
    pictures = (env.render() for _ in islice(frames, recorded.episode.length))
    caption = f"{recorded.episode.task}, seed {recorded.episode.seed}"
    prompt = recorded.episode.instruction
    shown = code_video.frames(pictures, columns[CODE].tolist(), columns[KEYSTEP].tolist(), prompt, caption)
    return code_video.at_rate(shown, recorded.fps, RATE_HZ)
