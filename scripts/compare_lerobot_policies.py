"""The steps of compare-lerobot-policies.sh.

make, in LeRobot's environment: checkpoints of random configurations and weights, written by LeRobot's own
code, and episodes of random observations. convert: bundles, and what the runtime does in those episodes.
act, in LeRobot's: what its `select_action` does there, with the runtime's noise. compare: both.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import lerobot_random_policies as random_policies
import numpy as np
from lerobot_random_policies import EPISODES, STEPS

SEED = 7


# ---- in LeRobot's environment -----------------------------------------------------------------------------


def classes(kind: str) -> tuple[Any, Any]:
    if kind == "act":
        from lerobot.policies.act.modeling_act import ACTPolicy
        from lerobot.policies.act.processor_act import make_act_pre_post_processors

        return ACTPolicy, make_act_pre_post_processors
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
    from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors

    return DiffusionPolicy, make_diffusion_pre_post_processors


def make(root: Path, count: int) -> None:
    random_policies.stand_in_for_torchvision()
    import torch
    from plain_resnet import randomize

    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        kind, older = ("diffusion", "act")[number % 2], number % 4 > 1
        config = getattr(random_policies, f"{kind}_config")(rng, older)
        stats = random_policies.random_statistics(config, rng)
        policy_class, make_processors = classes(kind)
        policy = policy_class(config).eval()
        randomize(policy, torch.Generator().manual_seed(number))
        folder = root / f"{number:02d}-{kind}"
        before, after = make_processors(config, as_tensors(stats))
        policy.save_pretrained(folder)
        before.save_pretrained(folder)
        after.save_pretrained(folder)
        if older:
            random_policies.add_statistics(folder, config, stats)
        np.savez(root / f"{folder.name}.observations.npz", **random_policies.observations(config, stats, rng))
        flat = {f"{key}|{name}": value for key, table in stats.items() for name, value in table.items()}
        np.savez(root / f"{folder.name}.statistics.npz", **flat)


def act(root: Path) -> None:
    random_policies.stand_in_for_torchvision()
    import torch

    drawn: list[np.ndarray] = []

    def given(*size: Any, **options: Any) -> torch.Tensor:
        rows = torch.from_numpy(drawn.pop(0))[None]
        wanted = options.get("size", size[0] if len(size) == 1 else size)
        assert tuple(rows.shape) == tuple(wanted), (rows.shape, wanted)
        return rows

    for folder in sorted(path for path in root.iterdir() if path.is_dir() and "keystep" not in path.name):
        kind = folder.name.partition("-")[2]
        policy = classes(kind)[0].from_pretrained(folder, strict=not is_older(folder)).eval()
        before, after = pipelines(folder, kind, policy.config)
        seen = np.load(root / f"{folder.name}.observations.npz")
        noise = dict(np.load(root / f"{folder.name}.noise.npz"))
        drawn.clear()
        drawn.extend(noise[str(row)] for row in range(len(noise)))
        frames, torch.randn = torch.randn, given
        try:
            began = time.perf_counter()
            actions = np.stack([episode(policy, before, after, seen, number) for number in range(EPISODES)])
            took = time.perf_counter() - began
        finally:
            torch.randn = frames
        assert not drawn, "LeRobot drew less noise than the runtime"
        np.savez(root / f"{folder.name}.theirs.npz", actions=actions, seconds=took)


def pipelines(folder: Path, kind: str, config: Any) -> tuple[Any, Any]:
    """Those of the checkpoint; where it has none, LeRobot's own from the statistics in its weights."""
    if is_older(folder):
        stats: dict[str, dict[str, Any]] = {}
        for name, value in np.load(folder.with_name(f"{folder.name}.statistics.npz")).items():
            key, _, statistic = name.partition("|")
            stats.setdefault(key, {})[statistic] = value
        return classes(kind)[1](config, as_tensors(stats))
    from lerobot.processor import PolicyProcessorPipeline
    from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action

    actions = {"to_transition": policy_action_to_transition, "to_output": transition_to_policy_action}
    before = PolicyProcessorPipeline.from_pretrained(folder, config_filename="policy_preprocessor.json")
    after = PolicyProcessorPipeline.from_pretrained(
        folder, config_filename="policy_postprocessor.json", **actions
    )
    return before, after


def as_tensors(stats: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, Any]]:
    import torch

    return {
        key: {name: torch.from_numpy(value) for name, value in table.items()} for key, table in stats.items()
    }


def is_older(folder: Path) -> bool:
    return not (folder / "policy_preprocessor.json").exists()


def episode(policy: Any, before: Any, after: Any, seen: Any, number: int) -> np.ndarray:
    import torch

    policy.reset()
    found = []
    for step in range(STEPS):
        batch = {}
        for key in seen:
            value = torch.from_numpy(seen[key][number, step])
            batch[key] = value.permute(2, 0, 1).float() / 255 if value.dtype == torch.uint8 else value
        with torch.inference_mode():
            found.append(after(policy.select_action(before(batch)))[0].numpy())
    return np.stack(found)


# ---- in keystep's -----------------------------------------------------------------------------------------


def convert(root: Path) -> None:
    import keystep
    from keystep.export.convert.lerobot.convert import convert_lerobot

    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        bundle = convert_lerobot(str(folder), root / f"{folder.name}.keystep").path
        seen = np.load(root / f"{folder.name}.observations.npz")
        manifest = keystep.read_manifest(bundle)
        keys = [feature["key"] for feature in manifest["observation"]]
        actions = np.zeros((EPISODES, STEPS, len(manifest["action"]["names"])), np.float32)
        with keystep.load(bundle, threads=1) as runtime:
            began = time.perf_counter()
            for number in range(EPISODES):
                runtime.reset(seed=SEED, episode=number)
                for step in range(STEPS):
                    observation = {key: np.ascontiguousarray(seen[key][number, step]) for key in keys}
                    actions[number, step] = runtime.act(observation)
            took = time.perf_counter() - began
        np.savez(root / f"{folder.name}.ours.npz", actions=actions, seconds=took)
        np.savez(root / f"{folder.name}.noise.npz", **noise_of(manifest))


def noise_of(manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """Of all chunks in the order in which LeRobot draws it: the sample, then each step's."""
    import keystep

    spec, chunk = manifest["sampler"], manifest["chunk"]
    if spec is None:
        return {}
    shape = (chunk["horizon"], len(manifest["action"]["names"]))
    steps = [0]
    if spec["kind"] == "ddpm":  # the last step, whose time-step is 0, adds none
        steps += [number + 1 for number in range(spec["inference_steps"] - 1)]
    rows = [
        keystep.noise(shape, SEED, number, made, step)
        for number in range(EPISODES)
        for made in range(-(-STEPS // chunk["execute"]))
        for step in steps
    ]
    return {str(number): row for number, row in enumerate(rows)}


def compare(root: Path) -> None:
    """Differences are relative to the range of LeRobot's actions, dimension by dimension where it moves."""
    worst = 0.0
    print("policy           kind of checkpoint  greatest difference  of range  s LeRobot  s keystep  what")
    for path in sorted(root.glob("*.ours.npz")):
        name = path.name.removesuffix(".ours.npz")
        ours, theirs = np.load(path), np.load(root / f"{name}.theirs.npz")
        assert ours["actions"].shape == theirs["actions"].shape and np.isfinite(theirs["actions"]).all()
        difference = np.abs(ours["actions"].astype(np.float64) - theirs["actions"])
        span = theirs["actions"].max(axis=(0, 1)) - theirs["actions"].min(axis=(0, 1))
        scale = np.maximum(span, 1e-3 * max(span.max(), np.abs(theirs["actions"]).max()))
        share = float((difference / scale).max())
        worst = max(worst, share)
        layout = "before 0.4" if is_older(root / name) else "pipelines"
        seconds = f"{float(theirs['seconds']):9.2f}  {float(ours['seconds']):9.2f}"
        what = described(json.loads((root / name / "config.json").read_text()))
        print(f"{name:<16} {layout:<18} {difference.max():20.2e} {share:9.2e}  {seconds}  {what}")
    print(f"greatest: {worst:.2e} of the range of an action")
    if worst > 1e-4:
        sys.exit("expected at most 1e-4")


def described(config: dict[str, Any]) -> str:
    kinds = [feature["type"] for feature in config["input_features"].values()]
    parts = [f"{kinds.count('VISUAL')} cameras", *(["env"] if "ENV" in kinds else [])]
    parts += [f"{kind}={mode}" for kind, mode in config["normalization_mapping"].items()]
    if "VISUAL" in kinds:
        parts.append(config["vision_backbone"])
    if config["type"] == "diffusion":
        parts += [
            config["noise_scheduler_type"],
            config["prediction_type"],
            f"history {config['n_obs_steps']}",
        ]
        parts += ["GroupNorm"] if config["use_group_norm"] and "VISUAL" in kinds else []
        parts += ["separate"] if config["use_separate_rgb_encoder_per_camera"] and "VISUAL" in kinds else []
        parts += [f"crop {config['crop_shape']}"] if config["crop_shape"] and "VISUAL" in kinds else []
    return ", ".join(parts)


if __name__ == "__main__":
    step, place = sys.argv[1], Path(sys.argv[2])
    if step == "make":
        make(place, int(sys.argv[3]))
    else:
        {"convert": convert, "act": act, "compare": compare}[step](place)
