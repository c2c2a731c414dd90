"""The graph `score` of a bundle: which of several plans is most likely to succeed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from keystep.export.text import TOLD
from keystep.models.scorer import PlanScorer
from keystep.models.scorer_config import ScorerConfig

SAMPLE, SCORE = "score.sample", "score.score"
ROW_TENSORS = (SAMPLE, SCORE)


class ScoreGraph(nn.Module):
    """Normalised state [1, S], `pooled` text [R, D], normalised plans [N, M, S] -> logits [N].

    Of the text's rows the first counts: the other is that of no text.
    """

    def __init__(self, scorer: PlanScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, observation: Tensor, text: Tensor, plans: Tensor) -> Tensor:
        count = plans.shape[0]
        return self.scorer(observation.expand(count, -1), text[:1].expand(count, -1), plans)


def score_module(scorer: PlanScorer, guided: bool) -> tuple[nn.Module, dict[str, Tensor], str]:
    """The graph as a torch module, an example of each input by name, and its output's name."""
    config: ScorerConfig = scorer.config
    inputs = {
        f"plan.{config.subgoal}": torch.zeros(1, *config.subgoal_shape),
        TOLD: torch.zeros(2 if guided else 1, config.text_width),
        SAMPLE: torch.zeros(1, config.subgoals, *config.subgoal_shape),
    }
    return ScoreGraph(scorer), inputs, SCORE
