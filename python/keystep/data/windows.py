"""Training windows: an observation, the chunk of actions after it and, if asked, the goal it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keystep.data.cache import mapped_columns
from keystep.data.layout import DatasetError
from keystep.data.reader import DatasetReader

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

    Args:
        reader: the dataset.
        horizon: H.
        condition: "task" adds `task`, "goal" adds `goal.*`, "none" adds neither.
        observations: keys to see; all when None.
        still: (A,) the action without motion, NaN where that is to repeat the last one; None: everywhere.
        lengths: shortest and longest m, both at most H.
        episodes: indices to use; all when None.
        cache: folder of the memory-mapped columns; `keystep.data.cache.cache_folder()` when None.
    """

    def __init__(
        self,
        reader: DatasetReader,
        horizon: int = 8,
        *,
        condition: str = "task",
        observations: Sequence[str] | None = None,
        still: np.ndarray | None = None,
        lengths: tuple[int, int] = (4, 8),
        episodes: Sequence[int] | None = None,
        cache: Path | None = None,
    ) -> None:
        if condition not in CONDITIONS:
            raise DatasetError(f"condition: expected one of {', '.join(CONDITIONS)}, got {condition!r}")
        if not 1 <= lengths[0] <= lengths[1] <= horizon:
            raise DatasetError(f"lengths: expected 1 <= shortest <= longest <= {horizon}, got {lengths}")
        self.horizon, self.condition, self.lengths = horizon, condition, lengths
        known = [key for key in reader.features if key.startswith("observation.")]
        self.observations = known if observations is None else list(observations)
        self._columns = mapped_columns(reader, [*self.observations, "action", "task_index"], cache)
        actions = reader.features["action"].shape[0]
        self.still = np.asarray(np.full(actions, np.nan) if still is None else still, np.float32)
        if self.still.shape != (actions,):
            raise DatasetError(f"still: expected shape {(actions,)}, got {self.still.shape}")
        self._starts, self._stops = self._find_windows(reader, episodes)

    def _find_windows(
        self, reader: DatasetReader, episodes: Sequence[int] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        chosen = None if episodes is None else set(episodes)
        # A goal at least the shortest length ahead must exist.
        reserve = self.lengths[0] if self.condition == "goal" else 0
        starts, stops = [], []
        for episode in reader.episodes():
            if (chosen is None or episode.index in chosen) and episode.length > reserve:
                starts.append(np.arange(episode.start, episode.stop - reserve))
                stops.append(np.full(episode.length - reserve, episode.stop))
        if not starts:
            raise DatasetError(f"{reader.path}: expected episodes of more than {reserve} frames, found none")
        return np.concatenate(starts), np.concatenate(stops)

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> Batch:
        """The windows of the given indices.

        Args:
            windows: (B,) integers in [0, len).
            rng: draws the chunk lengths; used only with goals.

        Returns:
            "action" (B, H, A) float32; without goals "action_is_pad" (B, H) bool, true past the episode's
            end; every observation key, (B, S) float32 or (B, h, w, 3) uint8; with goals the same under
            "goal.*"; with tasks "task" (B,) int64.
        """
        start, stop = self._starts[windows], self._stops[windows]
        length = np.minimum(self.horizon, stop - start)
        if self.condition == "goal":
            longest = np.minimum(self.lengths[1], stop - 1 - start)
            length = rng.integers(self.lengths[0], longest, endpoint=True)
        batch = {key: self._columns[key][start] for key in self.observations}
        batch["action"] = self._chunks(start, length)
        if self.condition != "goal":
            batch[PADDING] = np.arange(self.horizon) >= length[:, None]
        if self.condition == "task":
            batch["task"] = self._columns["task_index"][start]
        if self.condition == "goal":
            for key in self.observations:
                batch[key.replace("observation.", "goal.", 1)] = self._columns[key][start + length]
        return batch

    def _chunks(self, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        offset = np.arange(self.horizon)
        rows = start[:, None] + np.minimum(offset, length[:, None] - 1)
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
