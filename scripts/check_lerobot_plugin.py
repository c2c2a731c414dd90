"""The steps of check-lerobot-plugin.sh, in LeRobot's environment.

make: a diffusion policy of random weights for PushT, written by LeRobot's own code. compare: LeRobot's own
`rollout` with that policy and with its bundle, given the same noise. same: evaluations by lerobot-eval that
must not differ. record: lerobot-record with a pretended robot; what it recorded is what the runtime does.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

SEED, ENVIRONMENTS, STEPS = 7, 2, 60
TASK = "Push the block to its place."


def make(run: Path) -> None:
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
    from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors
    from plain_resnet import randomize

    config = DiffusionConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
            "observation.image": PolicyFeature(FeatureType.VISUAL, (3, 96, 96)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        crop_shape=(84, 84),
        pretrained_backbone_weights=None,
        down_dims=(32, 64, 128),
        diffusion_step_embed_dim=32,
        noise_scheduler_type="DDIM",
        num_inference_steps=10,
        device="cpu",
    )
    places = {"min": [0.0, 0.0], "max": [512.0, 512.0]}
    colours = {"mean": [[[0.5]]] * 3, "std": [[[0.3]]] * 3}
    tables = {"observation.state": places, "action": places, "observation.image": colours}
    stats = {key: {name: torch.tensor(value) for name, value in each.items()} for key, each in tables.items()}
    policy = DiffusionPolicy(config).eval()
    randomize(policy, torch.Generator().manual_seed(0))
    for part in (policy, *make_diffusion_pre_post_processors(config, stats)):
        part.save_pretrained(run / "checkpoint")


def compare(run: Path) -> None:
    import keystep

    chunks = 0

    def given(*_: Any, size: tuple[int, ...], **__: Any) -> torch.Tensor:
        """Of LeRobot's policy, for all environments at once: what the episodes of the bundle draw."""
        nonlocal chunks
        count, *shape = size
        drawn = [keystep.noise(tuple(shape), SEED, episode, chunks) for episode in range(count)]
        chunks += 1
        return torch.from_numpy(np.stack(drawn))

    bundle = ["--policy.type=keystep", f"--policy.bundle={run / 'pusht.keystep'}", f"--policy.seed={SEED}"]
    ours = played(bundle)
    torch_randn, torch.randn = torch.randn, given
    try:
        theirs = played([f"--policy.path={run / 'checkpoint'}"])
    finally:
        torch.randn = torch_randn
    assert chunks == -(-STEPS // 8), f"LeRobot made {chunks} chunks"
    actions = [each["action"].numpy() for each in (theirs, ours)]
    assert actions[0].shape == actions[1].shape == (ENVIRONMENTS, STEPS, 2), actions[0].shape
    span = np.ptp(actions[0], axis=(0, 1))
    difference = np.abs(actions[0] - actions[1]).max(axis=(0, 1))
    rewards = float(np.abs(theirs["reward"].numpy() - ours["reward"].numpy()).max())
    print(f"LeRobot's rollout, {ENVIRONMENTS} environments, {STEPS} steps: actions span {span}")
    print(f"greatest difference of an action {difference}, of a reward {rewards:.1e}")
    if (difference > 1e-4 * span).any() or (span < 20).any():
        sys.exit("expected at most 1e-4 of the span, and actions that move")


def played(options: list[str]) -> dict[str, Any]:
    """By LeRobot's own functions, as lerobot-eval calls them."""
    from lerobot.configs.eval import EvalPipelineConfig
    from lerobot.configs.parser import wrap
    from lerobot.envs.factory import make_env, make_env_pre_post_processors
    from lerobot.policies.factory import make_policy, make_pre_post_processors
    from lerobot.scripts.lerobot_eval import rollout
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()

    @wrap()
    def play(cfg: EvalPipelineConfig) -> dict[str, Any]:
        env = make_env(cfg.env, n_envs=ENVIRONMENTS)["pusht"][0]
        policy = make_policy(cfg.policy, env_cfg=cfg.env).eval()
        around = make_env_pre_post_processors(env_cfg=cfg.env, policy_cfg=cfg.policy)
        within = make_pre_post_processors(cfg.policy, pretrained_path=cfg.policy.pretrained_path)
        return rollout(env, policy, *around, *within, seeds=list(range(SEED, SEED + ENVIRONMENTS)))

    argv, sys.argv = sys.argv, ["", "--env.type=pusht", f"--env.episode_length={STEPS}", *options]
    try:
        return play()
    finally:
        sys.argv = argv


def same(run: Path, *names: str) -> None:
    found = [json.loads((run / name / "eval_info.json").read_text()) for name in names]
    rewards = [each["per_task"][0]["metrics"]["sum_rewards"] for each in found]
    print("rewards of each:", *rewards, sep="\n  ")
    if any(each != rewards[0] for each in rewards):
        sys.exit("expected the same rewards, whatever the batch")


def record(run: Path) -> None:
    from fake_lerobot_arm import JOINTS, FakeArm
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.scripts import lerobot_record

    import keystep

    bundle, root = run / "pusht.keystep", run / "recorded"
    options = {
        **{"robot.type": "fake_arm", "policy.type": "keystep", "policy.bundle": bundle, "policy.seed": SEED},
        **{"dataset.repo_id": "keystep/eval_fake", "dataset.root": root, "dataset.single_task": TASK},
        **{"dataset.push_to_hub": False, "dataset.vcodec": "h264", "dataset.fps": 10, "play_sounds": False},
        **{"dataset.num_episodes": 2, "dataset.episode_time_s": 3, "dataset.reset_time_s": 0},
    }
    argv, sys.argv = sys.argv, ["", *(f"--{name}={value}" for name, value in options.items())]
    try:
        lerobot_record.main()
    finally:
        sys.argv = argv
    dataset = LeRobotDataset("keystep/eval_fake", root=root, video_backend="pyav")
    episodes = [int(number) for number in dataset.hf_dataset["episode_index"]]
    worst, episode = 0.0, -1
    with keystep.load(bundle) as runtime:
        for number, (shown, told) in zip(episodes, FakeArm.log, strict=True):
            if number != episode:
                episode = number
                runtime.reset(seed=SEED, episode=episode)
            state = np.array([shown[name] for name in JOINTS], np.float32)
            action = runtime.act({"observation.state": state, "observation.image": shown["top"]})
            worst = max(worst, *np.abs(action - [told[name] for name in JOINTS]).tolist())
    print(f"lerobot-record: {episode + 1} episodes, {len(episodes)} frames, greatest difference {worst:g}")
    if worst or episode != 1 or len(episodes) < 20:
        sys.exit("expected 2 episodes of what the runtime does")


if __name__ == "__main__":
    steps = {"make": make, "compare": compare, "same": same, "record": record}
    steps[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
