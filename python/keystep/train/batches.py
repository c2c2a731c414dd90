"""Batches as a function of (seed, step): nothing to save for resuming, and nothing to lose."""

from __future__ import annotations

import numpy as np
import torch

from keystep.train.recipe import Recipe, Windows

_ORDER, _DRAWS = 1, 2  # what a random stream is for


class Batches:
    """Every window once per epoch, in an order drawn anew for each epoch.

    Args:
        windows: training examples by index.
        recipe: makes tensors of them.
        batch_size: of all processes together.
        device: where the tensors go.
        process, processes: this process's place among those that share every batch.
    """

    def __init__(
        self,
        windows: Windows,
        recipe: Recipe,
        batch_size: int,
        seed: int,
        device: torch.device,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self._windows = windows
        self._recipe = recipe
        self._batch_size = batch_size
        self._seed = seed
        self._device = device
        self._process, self._processes = process, processes
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        """The normalised batch of an optimiser step; batches run across the borders of epochs."""
        positions = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, offsets = np.divmod(positions, len(self._windows))
        chosen = np.empty_like(positions)
        for epoch in np.unique(epochs):
            chosen[epochs == epoch] = self._epoch_order(int(epoch))[offsets[epochs == epoch]]
        mine = chosen[self._process :: self._processes]
        return self.tensors(mine, np.random.default_rng([self._seed, _DRAWS, step, self._process]))

    def tensors(self, chosen: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """The normalised batch of some windows."""
        return self._recipe.prepare(self._windows.batch(chosen, rng), self._device)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._order = np.random.default_rng([self._seed, _ORDER, epoch]).permutation(len(self._windows))
            self._epoch = epoch
        return self._order
