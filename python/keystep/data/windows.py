"""Training windows: an observation, the chunk of actions after it and, if asked, the goal it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keystep.data.cache import mapped_columns
from keystep.data.joined import Dataset
from keystep.data.layout import DatasetError

CONDITIONS = ("task", "goal", "none")
PADDING = "action_is_pad"
Batch = dict[str, np.ndarray]


class ChunkWindows:
    """Random access to all windows of some episodes.

    A window starts at frame t of an episode of T frames. Without goals its chunk is a[t : t+H]; rows past the
    end repeat the last action and are marked: they were never seen, and do not count in a loss. With goals it
    has m actions a[t : t+m], m uniform in `lengths` (shorter where the episode ends), and its goal is the
    observation of frame t+m, on which the chunk ends (HD-ExpIt, see the paper's training of the low-level
    policy). There the rest is a target like any other: standing still, which is `still`.

    What is seen are the frames t-N+1 .. t, those before the episode's first being that frame again, as the
    runtime sees them after a reset. Chunks begin with K past actions, a[t-K] ..: H then counts them, too.
    Those before the episode's first are that action again, and are marked, with goals, too.

    Args:
        reader: the dataset.
        horizon: H.
        history, chunk_start: N and K.
        condition: "task" adds `task`, "goal" adds `goal.*`, "none" adds neither.
        observations: keys to see; all when None.
        still: (A,) the action without motion, NaN where that is to repeat the last one; None: everywhere.
        lengths: shortest and longest m, both at most H - K; used only with goals.
        goal_last: the goal is the frame of the last action, t+m-1, as in HD-ExpIt's repository.
        episodes: indices to use; all when None.
        cache: folder of the memory-mapped columns; `keystep.data.cache.cache_folder()` when None.
    """

    def __init__(
        self,
        reader: Dataset,
        horizon: int = 8,
        *,
        condition: str = "task",
        observations: Sequence[str] | None = None,
        history: int = 1,
        chunk_start: int = 0,
        still: np.ndarray | None = None,
        lengths: tuple[int, int] = (4, 8),
        goal_last: bool = False,
        episodes: Sequence[int] | None = None,
        cache: Path | None = None,
    ) -> None:
        if condition not in CONDITIONS:
            raise DatasetError(f"condition: expected one of {', '.join(CONDITIONS)}, got {condition!r}")
        if history < 1 or not 0 <= chunk_start < horizon:
            got = f"{history} and {chunk_start}"
            raise DatasetError(f"history/chunk_start: expected 1 or more and 0..{horizon - 1}, got {got}")
        ahead = horizon - chunk_start
        if not 1 <= lengths[0] <= lengths[1] <= ahead and condition == "goal":
            raise DatasetError(f"lengths: expected 1 <= shortest <= longest <= {ahead}, got {lengths}")
        self.history, self.chunk_start = history, chunk_start
        self._before = int(goal_last)  # frames from the goal to the one after the last action
        self.horizon, self.condition, self.lengths = horizon, condition, lengths
        known = [key for key in reader.features if key.startswith("observation.")]
        self.observations = known if observations is None else list(observations)
        self._columns = mapped_columns(reader, [*self.observations, "action", "task_index"], cache)
        actions = reader.features["action"].shape[0]
        self.still = np.asarray(np.full(actions, np.nan) if still is None else still, np.float32)
        if self.still.shape != (actions,):
            raise DatasetError(f"still: expected shape {(actions,)}, got {self.still.shape}")
        self._firsts, self._starts, self._stops = self._find_windows(reader, episodes)

    def _find_windows(
        self, reader: Dataset, episodes: Sequence[int] | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By window: the first frame of its episode, frame t, and the frame after the episode's last."""
        chosen = None if episodes is None else set(episodes)
        # A goal at least the shortest length ahead must exist.
        reserve = self.lengths[0] - self._before if self.condition == "goal" else 0
        firsts, starts, stops = [], [], []
        for episode in reader.episodes():
            if (chosen is None or episode.index in chosen) and episode.length > reserve:
                count = episode.length - reserve
                firsts.append(np.full(count, episode.start))
                starts.append(episode.start + np.arange(count))
                stops.append(np.full(count, episode.stop))
        if not starts:
            raise DatasetError(f"{reader.path}: expected episodes of more than {reserve} frames, found none")
        return np.concatenate(firsts), np.concatenate(starts), np.concatenate(stops)

    def __len__(self) -> int:
        return len(self._starts)

    def tasks(self) -> np.ndarray:
        """(windows,) int64 numbers of their tasks."""
        return np.asarray(self._columns["task_index"][self._starts])

    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> Batch:
        """The windows of the given indices.

        Args:
            windows: (B,) integers in [0, len).
            rng: draws the chunk lengths; used only with goals.

        Returns:
            "action" (B, H, A) float32; without goals "action_is_pad" (B, H) bool, true beyond the episode's
            ends, and with goals before its beginning if K > 0; every observation key, (B, *shape) float32 or
            uint8, (B, N, *shape) where N > 1, the oldest frame first; with goals the same under "goal.*",
            one frame; with tasks "task" (B,) int64.
        """
        first, start, stop = self._firsts[windows], self._starts[windows], self._stops[windows]
        length = np.minimum(self.horizon - self.chunk_start, stop - start)  # of the real actions from t on
        if self.condition == "goal":
            longest = np.minimum(self.lengths[1], stop - 1 - start + self._before)
            length = rng.integers(self.lengths[0], longest, endpoint=True)
        seen = self._seen(first, start)
        batch = {key: self._columns[key][seen] for key in self.observations}
        offset = np.arange(self.horizon) - self.chunk_start
        unknown = offset < (first - start)[:, None]
        batch["action"] = self._chunks(first, start, length)
        if self.condition != "goal":
            unknown |= offset >= length[:, None]
        if self.condition != "goal" or self.chunk_start:
            batch[PADDING] = unknown
        if self.condition == "task":
            batch["task"] = self._columns["task_index"][start]
        if self.condition == "goal":
            for key in self.observations:
                batch[key.replace("observation.", "goal.", 1)] = self._columns[key][
                    start + length - self._before
                ]
        return batch

    def _seen(self, first: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Frames (B,), or (B, N) of a history."""
        if self.history == 1:
            return start
        return np.maximum(start[:, None] + np.arange(1 - self.history, 1), first[:, None])

    def _chunks(self, first: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        offset = np.arange(self.horizon) - self.chunk_start
        rows = start[:, None] + np.clip(offset, (first - start)[:, None], length[:, None] - 1)
        chunks = self._columns["action"][rows]
        if self.condition != "goal":
            return chunks
        stands = (offset >= length[:, None])[:, :, None] & ~np.isnan(self.still)
        return np.where(stands, self.still, chunks)


def split_episodes(count: int, val_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Seeded split of episode indices into training and validation (at least one unless 0)."""
    if not 0 <= val_fraction < 1:
        raise DatasetError(f"val_fraction: expected [0, 1), got {val_fraction}")
    held_out = 0 if val_fraction == 0 or count < 2 else min(count - 1, max(1, round(val_fraction * count)))
    order = np.random.default_rng([seed, 0x5EED]).permutation(count)
    return sorted(order[held_out:].tolist()), sorted(order[:held_out].tolist())
