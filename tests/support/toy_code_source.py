"""Episodes of a toy world whose replies a small planner can learn: the picture's brightness says which."""

from __future__ import annotations

from typing import Any

import numpy as np
from code_writers import CHARACTERS, FIRST, Characters, lesson_batch, side_by_side

from keystep.models.code_planner.config import OBJECTS, CodePlannerConfig
from keystep.models.observing import state_feature
from keystep.train.recipe import Windows

REPLIES = ("pick(a)", "place(b)")


class ToyCode:
    """See `keystep.train.code_planner.CodeSource`.

    Args:
        sighted: False: text alone.
    """

    def __init__(self, episodes: int = 8, sighted: bool = True) -> None:
        self.episodes, self.sighted = episodes, sighted
        self.tasks = [{"name": name, "instruction": name} for name in ("go", "stay")]
        self.collection: dict[str, Any] = {"suite": "toy"}
        self.vocabulary = FIRST + len(CHARACTERS)
        self.ids = {"pad_id": 0, "end_id": 1, "image_id": 2, "proprioception_id": 3}
        self.names: dict[str, tuple[int, ...]] = {}
        self.numbers: tuple[int, ...] = ()
        self.proprioception = state_feature(5)
        vector = {"mean": [1.0] * 5, "std": [2.0] * 5, "min": [-3.0] * 5, "max": [5.0] * 5, "count": 100}
        slots = {"mean": ([0.0] + [0.5] * 19) * 8, "std": ([1.0] + [0.5] * 19) * 8}
        self.stats = {"observation.state": vector, OBJECTS: slots}
        self.action = {"names": ["x"], "units": ["m"], "min": [-1.0], "max": [1.0], "rate_limit": None}
        self.action |= {"hold": {"mode": "last"}, "law": ["relative"]}
        self.control_rate_hz = 20.0

    def __len__(self) -> int:
        return self.episodes

    def sha256(self) -> str:
        return f"{self.episodes}-{self.sighted}"

    def told_to(self, network: CodePlannerConfig) -> dict[str, Any]:
        return {"characters": CHARACTERS, "proprioception": network.proprioception is not None}

    def rows(self, episodes: list[int], config: CodePlannerConfig) -> Windows:
        return _Rows(episodes, config, self.sighted)


class _Rows:
    def __init__(self, episodes: list[int], config: CodePlannerConfig, sighted: bool) -> None:
        self._episodes, self._config, self._sighted = np.array(episodes), config, sighted
        self._words = Characters(config.image_tokens)

    def __len__(self) -> int:
        return len(self._episodes)

    def tasks(self) -> np.ndarray:
        return self._episodes % 2

    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        chosen = self._episodes[windows]
        batch = side_by_side([self._row(int(episode)) for episode in chosen])
        if not self._sighted:
            for name in ("pictures", "objects", "proprioception"):
                batch.pop(name, None)
        return {name: value.numpy() for name, value in batch.items()}

    def _row(self, episode: int) -> dict[str, Any]:
        felt = "<proprioception>" if self._config.proprioception else ""
        mark = f"{felt}<image>" if self._sighted else ""
        reply = REPLIES[episode // 2 % 2]
        row = lesson_batch(
            self._config, self._words, f"{('go', 'stay')[episode % 2]}\n{mark}", episode, reply
        )
        if "pictures" in row:
            row["pictures"] *= 0.2 + 0.8 * (episode // 2 % 2)
        if not felt:
            row.pop("proprioception")
        return row
