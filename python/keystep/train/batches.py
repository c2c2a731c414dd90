"""Batches as a function of (seed, step): nothing to save for resuming, and nothing to lose."""

from __future__ import annotations

import numpy as np
import torch

from keystep.train.recipe import Recipe, Windows

_ORDER, _DRAWS = 1, 2  # what a random stream is for


class Batches:
    """Every window once per epoch, or as often as its weight says, in an order drawn anew for each epoch.

    Of a weight's broken part, 0.5 of 2.5, every epoch draws anew which windows it takes once more.

    Args:
        windows: training examples by index.
        recipe: makes tensors of them.
        batch_size: of all processes together.
        device: where the tensors go.
        process, processes: this process's place among those that share every batch.
        weights: (windows,) above 0; all 1 when None.
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
        weights: np.ndarray | None = None,
    ) -> None:
        self._windows = windows
        self._recipe = recipe
        self._batch_size = batch_size
        self._seed = seed
        self._device = device
        self._process, self._processes = process, processes
        self._groups = [] if weights is None else _groups(weights)
        self._length = sum(whole * len(rows) + rest for rows, whole, rest in self._groups) or len(windows)
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        """The normalised batch of an optimiser step; batches run across the borders of epochs."""
        positions = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, offsets = np.divmod(positions, self._length)
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
            rng = np.random.default_rng([self._seed, _ORDER, epoch])
            taken = [part for group in self._groups for part in _taken(group, rng)]
            self._order = rng.permutation(np.concatenate(taken) if taken else self._length)
            self._epoch = epoch
        return self._order


Group = tuple[np.ndarray, int, int]
"""Windows of one weight, how often all are taken, and how many of them once more."""


def _groups(weights: np.ndarray) -> list[Group]:
    groups = []
    for weight in np.unique(weights):
        rows, whole = np.flatnonzero(weights == weight), int(weight)
        groups.append((rows, whole, max(round((weight - whole) * len(rows)), int(whole == 0))))
    return groups


def _taken(group: Group, rng: np.random.Generator) -> list[np.ndarray]:
    rows, whole, rest = group
    return [*[rows] * whole, rng.permutation(rows)[:rest]]
