"""keystep plans"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import keystep
from keystep.commands.eval import FIRST_SEED
from keystep.commands.options import PolicyOptions
from keystep.commands.video import write_video
from keystep.evaluate.environments import make_env
from keystep.evaluate.recording import Pictures, Recording, record
from keystep.evaluate.storyboard import VIEW, frames, strip, title
from keystep.files import replacing, write_json

ENV = "keystep/Franka3Blocks-v0"


def main(
    bundle: Annotated[Path, tyro.conf.Positional],
    policy: Annotated[PolicyOptions, tyro.conf.arg(name="")],
    task: tuple[str, ...] = (),
    output: Path = Path("plans"),
    seed: int = FIRST_SEED,
    guidance: float | None = None,
    video: bool = True,
    env: str = ENV,
) -> None:
    """Show what a planner imagines and what the controller makes of it.

    Writes for each task a strip of pictures (start, subgoals, and below what was seen at the end of each), a
    video of the episode with plan and timings, and the timings of every action as JSON. Subgoals that are
    states are drawn by the simulator, or schematically where there is no graphics driver.

    Args:
        bundle: folder of a subgoal bundle.
        task: names; the first of each family when empty.
        output: folder of the files TASK.png, TASK.mp4 and TASK.json.
        seed: env seed of the episode, and the seed of the policy's noise.
        guidance: of the planner, lambda; as the bundle says when not given.
        video: write the videos, too.
        env: Gymnasium environment.
    """
    from rich.progress import track

    manifest = keystep.read_manifest(bundle)
    if manifest["family"] != "subgoal":
        raise keystep.ArgumentError(f"family: expected subgoal, got {manifest['family']!r}")
    options = {} if guidance is None else {"guidance": guidance}
    with policy.opener(bundle)() as runtime, open_pictures(env, manifest) as (simulator, pictures):
        for name in track(task or first_tasks(manifest), "recording"):
            recording = record(runtime, simulator, pictures, name, seed, **options)
            write(recording, output, frames(recording, pictures) if video else None)
            print(f"{title(recording)}; {output / name}.png")


def first_tasks(manifest: dict[str, Any]) -> list[str]:
    """The first task of each family."""
    names = [entry["name"] for entry in manifest["tasks"]]
    return list({name.partition("_")[0]: name for name in reversed(names)}.values())[::-1]


@contextmanager
def open_pictures(env_id: str, manifest: dict[str, Any]) -> Iterator[tuple[Any, Pictures]]:
    """The environment, and what makes pictures of it and of the planner's subgoals."""
    from keystep.suites.franka3blocks.pictures import (
        CameraPictures,
        DrawnPictures,
        SimulatedPictures,
    )

    subgoal = manifest["planner"]["subgoal"]
    env = make_env(env_id, manifest)
    second = None
    try:
        if subgoal != "observation.state":
            yield env, CameraPictures(subgoal)
        elif missing_driver() is None:
            view = {"obs_mode": "state", "render_mode": "rgb_array", "image_size": VIEW}
            second = make_env(env_id, manifest, view)
            yield env, SimulatedPictures(second)
        else:
            yield env, DrawnPictures(VIEW)
    finally:
        env.close()
        if second is not None:
            second.close()


def missing_driver() -> str | None:
    """Why nothing can be rendered on this machine; None when it can."""
    from keystep.suites.headless import missing_driver

    return missing_driver()


def write(recording: Recording, folder: Path, film: Iterable[np.ndarray] | None) -> None:
    """TASK.png, TASK.mp4 and, last, TASK.json."""
    from PIL import Image

    with replacing(folder / f"{recording.task}.png") as (staged,):
        Image.fromarray(strip(recording)).save(staged, format="png")
    if film is not None:
        write_video(folder / f"{recording.task}.mp4", film)
    write_json(folder / f"{recording.task}.json", recording.to_dict())
