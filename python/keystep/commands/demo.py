"""keystep demo"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import keystep
from keystep.commands.eval import FIRST_SEED, run
from keystep.evaluate.rollout import Evaluation, make_env, observation_keys

ENV = "keystep/Franka3Blocks-v0"
VIDEO_SIZE = 384


def main(
    bundle: Annotated[Path, tyro.conf.Positional] = Path("bundles/franka3blocks-state.keystep"),
    episodes: int = 10,
    seed: int = FIRST_SEED,
    video: Path = Path("demo.mp4"),
) -> None:
    """Run the shipped policy closed-loop on Franka-3Blocks: success per task, latency, and a short video.

    Args:
        bundle: the bundle's folder.
        episodes: per task.
        seed: first env seed, and the seed of the policy's noise.
        video: where to write one episode of a task of each family; needs a Vulkan driver.
    """
    names = tuple(task["name"] for task in keystep.read_manifest(bundle)["tasks"])
    open_policy = functools.partial(keystep.load, bundle, threads=1)
    report = run(open_policy, Evaluation(ENV, names, episodes, seed))
    print(f"\n{report}\n\nlatency ({report.description})")
    print(keystep.LatencyReport.from_dict(report.latency[0]), "\n")
    reason = missing_driver()
    if reason is None:
        write_video(video, record(bundle, names, seed))
        print(f"video: {video}")
    else:
        print(f"state mode, no video: no Vulkan driver ({reason}); scripts/install-vulkan.sh installs one")


def missing_driver() -> str | None:
    from keystep.envs.headless import missing_driver

    return missing_driver()


def record(bundle: Path, tasks: tuple[str, ...], seed: int) -> list[np.ndarray]:
    """One episode of each family's first task as uint8 (size, size, 3) frames, 30 a second."""
    from rich.progress import track

    firsts = list({task.partition("_")[0]: task for task in reversed(tasks)}.values())[::-1]
    frames: list[np.ndarray] = []
    with keystep.load(bundle, threads=1) as policy:
        size = {} if policy.manifest["observation"]["images"] else {"image_size": VIDEO_SIZE}
        env: Any = make_env(ENV, policy.manifest, render_mode="rgb_array", **size)
        keys = observation_keys(policy.manifest)
        for task in track(firsts, "rendering"):
            observation, _ = env.reset(seed=seed, options={"task": task})
            policy.reset(task=task, seed=seed)
            done = False
            while not done:
                if env.unwrapped.elapsed_steps % 2 == 0:
                    frames.append(env.render())
                action = policy.act({key: observation[key] for key in keys})
                observation, _, terminated, truncated, _ = env.step(action)
                done = terminated or truncated
        env.close()
    return frames


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    """An H.264 file of 30 frames a second; it appears whole or not at all."""
    import av

    staged = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        with av.open(str(staged), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
            for frame in frames:
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
                )
            container.mux(stream.encode())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
