"""An ONNX graph that exists already, as a bundle; docs/own_module.md.

python examples/own_graph.py OUT.keystep
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from keystep.export import Actions, from_onnx
from keystep.models import camera_feature, state_feature


class Cloning(nn.Module):
    """From six joints and an image to eight actions at once; it knows nothing of keystep."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 8 * 8, 64))
        self.head = nn.Sequential(nn.Linear(6 + 64, 128), nn.SiLU(), nn.Linear(128, 8 * 6))

    def forward(self, joints: Tensor, image: Tensor) -> Tensor:
        return self.head(torch.cat([joints, self.see(image)], dim=-1)).unflatten(1, (8, 6))


with tempfile.TemporaryDirectory() as folder:  # the graph may come from anywhere, JAX or a colleague
    graph = Path(folder) / "cloning.onnx"
    torch.onnx.export(
        Cloning().eval(),
        (torch.zeros(1, 6), torch.zeros(1, 3, 64, 64)),
        str(graph),
        input_names=["joints", "image"],
        output_names=["chunk"],
        dynamic_axes={name: {0: "batch"} for name in ("joints", "image", "chunk")},
        dynamo=False,
    )
    bundle = from_onnx(
        graph,
        sys.argv[1],
        names={"joints": "observation.state", "image": "observation.images.wrist"},
        features=[state_feature(6), camera_feature("wrist", 64, 64)],
        action=Actions([f"joint_{n}" for n in range(6)], low=[-3.1] * 6, high=[3.1] * 6, units=["rad"] * 6),
        normalization={"observation.state": {"mode": "min_max", "min": [-3.1] * 6, "max": [3.1] * 6}},
        horizon=8,
        execute=4,
        rate_hz=30,
    )
print(f"{bundle}: keystep verify {bundle}, keystep profile {bundle}, python examples/tick.py {bundle}")
