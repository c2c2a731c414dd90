"""A model's loss as a module."""

from __future__ import annotations

import torch


class Loss(torch.nn.Module):
    """The loss as `forward`, where data-parallel training hooks in."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        return self.model.loss(batch, generator)  # type: ignore[operator]
