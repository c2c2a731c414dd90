"""A LeRobot ACT checkpoint with random weights, for docs/tutorial.md where nobody has one of their own yet.

    python examples/tutorial/random_checkpoint.py FOLDER

An arm of six joints in degrees and a camera of 120 x 160, 50 actions a chunk, 14 million parameters; the
files are those of `lerobot-train`. LeRobot need not be installed: the network is the reference of our tests.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/support"))
from lerobot_checkpoints import ACT, STATE, write, write_pipelines

CAMERA = "observation.images.front"
ARM = ACT | {
    "input_features": {
        STATE: {"type": "STATE", "shape": [6]},
        CAMERA: {"type": "VISUAL", "shape": [3, 120, 160]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [6]}},
    "normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
    "chunk_size": 50,
    "n_action_steps": 50,
    "dim_model": 256,
    "n_heads": 8,
    "dim_feedforward": 1024,
}


def statistics(
    shape: tuple[int, ...], mean: float, std: float, low: float, high: float
) -> dict[str, np.ndarray]:
    values = {"mean": mean, "std": std, "min": low, "max": high}
    return {name: np.full(shape, value, np.float32) for name, value in values.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write(folder, ARM)
    joints = statistics((6,), 0, 40, -100, 100)
    camera = statistics((3, 1, 1), 0.5, 0.25, 0, 1)
    write_pipelines(folder, ARM, {STATE: joints, CAMERA: camera, "action": joints})
    print(f"{folder}: an ACT policy with random weights")
