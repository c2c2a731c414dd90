"""`lerobot-train` with the dataset in memory. Runs in LeRobot's environment; takes its options.

LeRobot reads every example anew from its table, 64 of them for a batch, which for a policy without cameras
takes many times as long as the step of training. Examples at both ends of episodes are compared with its own
before it begins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lerobot.scripts import lerobot_train


class InMemory:
    """A LeRobotDataset without cameras, whose columns are tensors; all but its examples is its own."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        table = dataset.hf_dataset.with_format("numpy")[:]
        self._columns = {key: torch.from_numpy(np.stack(values)) for key, values in table.items()}
        episodes = dataset.meta.episodes
        self._first = [int(row) for row in episodes["dataset_from_index"]]
        self._end = [int(row) for row in episodes["dataset_to_index"]]
        self._tasks = list(dataset.meta.tasks.index)
        ends = [end - 1 for end in self._end[:3]]
        self._check({0, len(self) // 2, len(self) - 1, *self._first[1:3], *ends})

    def __getattr__(self, name: str) -> Any:
        if name == "_dataset":  # of a copy for another process, before it has anything
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, number: int) -> dict[str, Any]:
        item: dict[str, Any] = {key: column[number] for key, column in self._columns.items()}
        episode = int(item["episode_index"])
        first, end = self._first[episode], self._end[episode]
        for key, deltas in self._dataset.delta_indices.items():
            wanted = number + torch.tensor(deltas)
            item[key] = self._columns[key][wanted.clamp(first, end - 1)]
            item[f"{key}_is_pad"] = (wanted < first) | (wanted >= end)
        item["task"] = self._tasks[int(item["task_index"])]
        return item

    def _check(self, numbers: set[int]) -> None:
        for number in numbers:
            expected, found = self._dataset[number], self[number]
            if expected.keys() != found.keys():
                raise SystemExit(f"example {number}: expected {sorted(expected)}, got {sorted(found)}")
            for key, value in expected.items():
                other = found[key]
                if not (torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other):
                    raise SystemExit(f"example {number}: expected {key} {value}, got {other}")


if __name__ == "__main__":
    make_dataset = lerobot_train.make_dataset
    lerobot_train.make_dataset = lambda settings: InMemory(make_dataset(settings))
    lerobot_train.main()
