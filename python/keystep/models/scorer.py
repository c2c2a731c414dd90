"""A small network that says which of several plans is most likely to succeed.

It is trained on plans that were tried, with what became of them (Cobbe et al. 2021, arXiv:2110.14168, choose
among samples of a language model by such a verifier). The text is told by the mean of the frozen text
encoder's tokens, not by the planner's own embedding: that changes whenever the planner is trained again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from keystep.models.scorer_config import ScorerConfig


class PlanScorer(nn.Module):
    """An MLP over what is seen, the way from there to every subgoal, and the text."""

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        self.config = config
        (width,) = config.subgoal_shape
        inputs = (config.subgoals + 1) * width + config.text_width
        layers: list[nn.Module] = []
        for features in config.hidden:
            layers += [nn.Linear(inputs, features), nn.ReLU(), nn.Dropout(config.dropout)]
            inputs = features
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, 1))

    def forward(self, observation: Tensor, text: Tensor, plans: Tensor) -> Tensor:
        """Normalised [B, S], [B, D] of `pooled`, normalised [B, M, S] -> logits of success [B]."""
        way = plans - observation.unsqueeze(1)
        return self.layers(torch.cat([observation, way.flatten(1), text], dim=-1)).squeeze(-1)


def pooled(tokens: Tensor) -> Tensor:
    """What the scorer is told of a text: tokens [B, T, D], those of padding zero -> [B, D]."""
    return tokens.mean(dim=1)
