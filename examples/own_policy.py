"""A policy that is no class of keystep's, as a bundle; docs/own_module.md.

python examples/own_policy.py OUT.keystep
"""

import sys

import torch
from torch import Tensor, nn

from keystep.export import Actions, from_module
from keystep.models import camera_feature, state_feature


class Cloning(nn.Module):
    """From six joints and the last two frames of a camera to eight actions at once."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(nn.Conv2d(6, 16, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 8 * 8, 64))
        self.act_head = nn.Sequential(nn.Linear(6 + 64, 128), nn.SiLU(), nn.Linear(128, 8 * 6))

    def act(self, batch: dict[str, Tensor]) -> Tensor:
        frames = batch["observation.images.wrist"].flatten(1, 2)  # [1, 2, 3, 64, 64] in 0..1
        known = torch.cat([batch["observation.state"], self.see(frames)], dim=-1)
        return self.act_head(known).unflatten(1, (8, 6))


policy = Cloning()  # and its weights: policy.load_state_dict(...)
bundle = from_module(
    policy,
    sys.argv[1],
    features=[state_feature(6), camera_feature("wrist", 64, 64, history=2)],
    action=Actions([f"joint_{n}" for n in range(6)], low=[-3.1] * 6, high=[3.1] * 6, units=["rad"] * 6),
    normalization={"observation.state": {"mode": "min_max", "min": [-3.1] * 6, "max": [3.1] * 6}},
    horizon=8,
    execute=4,
    rate_hz=30,
)
print(f"{bundle}: keystep verify {bundle}, keystep profile {bundle}, python examples/tick.py {bundle}")
