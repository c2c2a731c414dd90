"""The steps of compare-lerobot.sh.

write: keystep's own datasets. read, in LeRobot's environment: foreign datasets and LeRobot's own, and the
values of all that LeRobot's class reads. compare: the same values from keystep.
"""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_dataset as foreign
import numpy as np

CAMERA = [6, 8, 3]
VARIANTS: dict[str, dict[str, Any]] = {
    **{style: {"style": style, "camera": CAMERA} for style in foreign.STYLES},
    **{f"{style}, float64": {"style": style, "dtype": "float64"} for style in foreign.STYLES},
    **{f"tasks as {form}": {"tasks": form} for form in ("pandas3", "level0")},
    "float16": {"dtype": "float16"},
    "camera (C, H, W)": {"camera": [3, 6, 8], "camera_names": ["channels", "height", "width"]},
    "a file per episode": {"per_meta_file": 1},
    "no statistics": {"stats": False},
}
SHIFTED = "index from 5"  # LeRobot goes by the place of a row


def write(root: Path) -> None:
    from code_dataset import write_codes
    from toy_dataset import write as write_toy

    write_toy(root / "keystep", 5, image=True)
    write_codes(root / "keystep, code")


# ---- in LeRobot's environment -----------------------------------------------------------------------------


def stand_in_for_torchvision() -> None:
    """What importing and reading a dataset needs of it."""
    import accelerate  # noqa: F401  both look for torchvision: they shall find none
    import datasets  # noqa: F401
    import torch

    class ToTensor:
        def __call__(self, image: Any) -> torch.Tensor:
            return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy()).float() / 255

    modules = {name: types.ModuleType(name) for name in
               ("torchvision", "torchvision.transforms", "torchvision.transforms.v2")}  # fmt: skip
    modules["torchvision"].transforms = modules["torchvision.transforms"]  # type: ignore[attr-defined]
    modules["torchvision.transforms"].v2 = modules["torchvision.transforms.v2"]  # type: ignore[attr-defined]
    modules["torchvision.transforms"].ToTensor = ToTensor  # type: ignore[attr-defined]
    for name in ("Transform", "functional"):
        setattr(modules["torchvision.transforms.v2"], name, type(name, (), {}))
    sys.modules.update(modules)


def read(root: Path) -> None:
    stand_in_for_torchvision()
    logging.disable(logging.WARNING)
    for name, options in VARIANTS.items():
        foreign.write_foreign(root / name, **options)
    foreign.write_foreign(root / SHIFTED)
    for number in (0, 1):
        foreign.edit_column(root / SHIFTED, "index", lambda column: _plus_5(column), number)
    _recorded(root / "LeRobot", 0, matrix=True)
    _merged(root / "LeRobot, merged", [_recorded(root / f"LeRobot, part {n}", n) for n in (1, 2)])
    _edited(root / "LeRobot, merged", root / "LeRobot, edited")
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        np.savez(folder.with_suffix(".npz"), **_values(folder))


def _plus_5(column: Any) -> Any:
    import pyarrow.compute as pc

    return pc.add(column, 5)


def _recorded(folder: Path, seed: int, matrix: bool = False) -> Path:
    """As LeRobot's own recording writes it; with a matrix, which its merging cannot take."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    rng = np.random.default_rng(seed)
    features: dict[str, dict[str, Any]] = {
        "observation.state": {"dtype": "float32", "shape": (5,), "names": {"motors": list("abcde")}},
        "observation.gripper": {"dtype": "float32", "shape": (1,), "names": None},
        "observation.images.top": {
            "dtype": "image",
            "shape": (3, 6, 8),
            "names": ["channels", "height", "width"],
        },
        "action": {"dtype": "float64", "shape": (3,), "names": None},
    }
    if matrix:
        features["observation.pose"] = {"dtype": "float32", "shape": (4, 4), "names": None}
    dataset = LeRobotDataset.create("me/test", 30, features, root=folder, use_videos=False)
    for episode in range(3):
        for _ in range(4 + episode):
            frame = {key: rng.normal(size=entry["shape"]).astype(entry["dtype"])
                     for key, entry in features.items() if entry["dtype"] != "image"}  # fmt: skip
            image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            dataset.add_frame(
                {**frame, "observation.images.top": image, "task": f"task {seed} {episode % 2}"}
            )
        dataset.save_episode()
    dataset.finalize()
    return folder


def _merged(folder: Path, parts: list[Path]) -> None:
    from lerobot.datasets.aggregate import aggregate_datasets

    aggregate_datasets([part.name for part in parts], "merged", roots=parts, aggr_root=folder)


def _edited(source: Path, folder: Path) -> None:
    """Without two episodes, and one with another task."""
    from lerobot.datasets.dataset_tools import delete_episodes, modify_tasks
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    delete_episodes(LeRobotDataset("me/test", root=source), [1, 4], folder, "me/edited")
    modify_tasks(LeRobotDataset("me/test", root=folder), episode_tasks={2: "another task"})


def _values(folder: Path) -> dict[str, np.ndarray]:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    try:
        dataset = LeRobotDataset("me/test", root=folder)
        items = [dataset[number] for number in range(len(dataset))]
    except Exception as error:  # any: what it is, is the result
        return {"refused": np.array(f"{type(error).__name__}: {error}"[:200])}
    return {key: np.stack([np.asarray(item[key]) for item in items]) for key in items[0]}


# ---- in keystep's -----------------------------------------------------------------------------------------


def compare(root: Path) -> None:
    from keystep.data import DatasetError
    from keystep.data.check import check_dataset

    failed = 0
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        with np.load(folder.with_suffix(".npz")) as file:
            theirs = dict(file)
        try:
            result, agree = _difference(folder, theirs), check_dataset(folder) == []
        except DatasetError as error:
            result, agree = (
                f"keystep refuses: {str(error).removeprefix(f'{folder}/')}",
                check_dataset(folder) != [],
            )
        failed += result.startswith("DIFFERS") or not agree
        print(f"{folder.name:<24}{result}{'' if agree else '; CHECK DISAGREES'}")
    sys.exit(1 if failed else 0)


def _difference(folder: Path, theirs: dict[str, np.ndarray]) -> str:
    from keystep.data import DatasetReader

    reader = DatasetReader(folder)
    batches = list(reader.iter_batches())
    ours = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    if "refused" in theirs:
        return f"keystep reads it, LeRobot does not: {theirs['refused']}"
    told = ours["task_index"]
    ours["task"] = np.array(reader.instructions.texts)[told]
    if ours.keys() != theirs.keys():
        return f"DIFFERS: columns {sorted(ours.keys() ^ theirs.keys())}"
    wrong = [key for key in ours if not np.array_equal(_as_theirs(reader, key, ours[key]), theirs[key])]
    return f"DIFFERS: {wrong}" if wrong else f"equal: {len(told)} frames of {len(ours)} columns"


def _as_theirs(reader: Any, key: str, values: np.ndarray) -> np.ndarray:
    """Channels first in [0, 1], no axis of length 1, float32: LeRobot's forms."""
    if key in reader.image_keys:
        return values.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    values = values.reshape(-1) if values.shape[1:] == (1,) else values
    return values.astype(np.float32) if values.dtype.kind == "f" else values


STEPS: dict[str, Callable[[Path], None]] = {"write": write, "read": read, "compare": compare}

if __name__ == "__main__":
    STEPS[sys.argv[1]](Path(sys.argv[2]))
