"""Batches as a function of (seed, step): nothing to save for resuming, and nothing to lose."""

from __future__ import annotations

import numpy as np
import torch

from keystep.data import ChunkWindows
from keystep.models.normalizer import Normalizer

_ORDER, _LENGTHS = 1, 2  # what a random stream is for


class Batches:
    """Every window once per epoch, in an order drawn anew for each epoch.

    Args:
        windows: low-dimensional columns are indexed by whole batches, straight from the memory map.
        normalizer: applied to every key; a goal has the statistics of its observation.
        device: where the tensors go.
    """

    def __init__(
        self, windows: ChunkWindows, normalizer: Normalizer, batch_size: int, seed: int, device: torch.device
    ) -> None:
        self._windows = windows
        self._normalizer = normalizer
        self._batch_size = batch_size
        self._seed = seed
        self._device = device
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        """The normalised batch of an optimiser step; batches run across the borders of epochs."""
        positions = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, offsets = np.divmod(positions, len(self._windows))
        chosen = np.empty_like(positions)
        for epoch in np.unique(epochs):
            chosen[epochs == epoch] = self._epoch_order(int(epoch))[offsets[epochs == epoch]]
        return self.tensors(chosen, np.random.default_rng([self._seed, _LENGTHS, step]))

    def tensors(self, chosen: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """The normalised batch of some windows."""
        arrays = self._windows.batch(chosen, rng)
        return {key: self._prepare(key, torch.from_numpy(value)) for key, value in arrays.items()}

    def _prepare(self, key: str, value: torch.Tensor) -> torch.Tensor:
        value = value.to(self._device)
        if key == "task":
            return value
        if ".images." in key:
            value = value.permute(0, 3, 1, 2).float() / 255.0
        return self._normalizer.normalize(key.replace("goal.", "observation.", 1), value)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._order = np.random.default_rng([self._seed, _ORDER, epoch]).permutation(len(self._windows))
            self._epoch = epoch
        return self._order
