"""What a scorer of plans is made of, as plain frozen configuration. Importing this module needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keystep.features import Feature
from keystep.models.checks import require
from keystep.models.config import build, plain
from keystep.models.observing import Observing, check_observation


@dataclass(frozen=True)
class ScorerConfig(Observing):
    """What is seen, what is to be done and M subgoals to one number: will the plan succeed?

    Attributes:
        observation: the one feature that the planner sees and imagines, a vector of one frame.
        subgoals: M.
        text_tokens, text_width: T and D of the planner's frozen text encoder.
        hidden: widths of the layers.
        dropout: of the hidden values in training.
    """

    observation: tuple[Feature, ...] = ()
    subgoals: int = 8
    text_tokens: int = 24
    text_width: int = 64
    hidden: tuple[int, ...] = (256, 128)
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for name in ("subgoals", "text_tokens", "text_width"):
            require(getattr(self, name) > 0, f"scorer.{name}", "a positive integer", getattr(self, name))
        check_observation("scorer", self.observation)
        keys = [feature.key for feature in self.observation]
        require(len(keys) == 1, "scorer.observation", "exactly one feature", keys)
        kind = self.feature.kind
        require(kind == "vector", "scorer.observation", "a vector (plans of images have density alone)", kind)
        history = self.feature.history
        require(history == 1, f"scorer.observation: {keys[0]}.history", "1 (it sees one frame)", history)
        good = bool(self.hidden) and min(self.hidden) > 0
        require(good, "scorer.hidden", "positive integers, at least one", self.hidden)
        require(0 <= self.dropout < 1, "scorer.dropout", "0 <= p < 1", self.dropout)

    @property
    def feature(self) -> Feature:
        """What it sees, and what a subgoal is."""
        return self.observation[0]

    @property
    def subgoal(self) -> str:
        """The observation key of a subgoal."""
        return self.feature.key

    @property
    def subgoal_shape(self) -> tuple[int, ...]:
        """Of one subgoal: (S,)."""
        return self.feature.network_shape()[1:]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ScorerConfig:
        """Inverse of `to_dict` (through JSON); unknown keys are refused."""
        return build(cls, values, "scorer")
