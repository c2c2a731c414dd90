"""Settings of the training of a planner that writes code. Importing this module needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from keystep.code.packing import ROW_TOKENS
from keystep.code.questions import KINDS
from keystep.train.config import TrainConfig

UNUSED = {
    "normalization": "vectors of a planner that writes code are normalised by mean and deviation",
    "statistics": "its statistics are the dataset's, or those of the weights that it starts from",
    "symmetries": "its code and pictures have none",
}
"""Settings of the other networks, and why there are none here."""


@dataclass(frozen=True)
class CodePlannerTraining(TrainConfig):
    """Training of a planner that writes code: from programs as text, then pictures, then both."""

    stage: Literal["text", "sight", "pictures"] = "pictures"
    """`text`: programs of the suite's tasks, not simulated, with `scenes` told or not; `sight`: what is
    where in the pictures of `dataset`; `pictures`: replies about its control steps. Each takes the
    `--weights` of the one before; robot, grid, names and statistics are the dataset's in all."""
    programs: int = 20_000
    """Of stage `text`, and of `texts`: how many, all tasks alike."""
    texts: float = 0.0
    """Of stage `pictures`: programs beside each episode, rounded up in a batch. Without, what stage `text`
    taught is forgotten."""
    scenes: float = 0.0
    """Share of programs that come with their scenes, told in the words of image tokens as a detector of stage
    `sight` would tell them, and with questions: what is read in them is read in pictures."""
    scene_pictures: int = 0
    """Of stage `sight`: how many scenes are drawn, as episodes begin, as many of which are in a batch as
    pictures of demonstrations: these have few scenes, each many times. 50 ms of a core each."""
    layout: str = "default"
    """Of prompts, a key of keystep.code.prompt.LAYOUTS."""
    steps_per_row: int = 16
    """Of stages `sight` and `pictures`: control steps drawn of an episode at a time; in `pictures` key-steps
    and borders more often."""
    questions: float = 0.1
    """Share of these steps, and of key-steps with told scenes, with auxiliary questions."""
    questions_per_step: int = 2
    """How many questions these have beside that about the scene, each of another of the five kinds."""
    cell_weight: float = 1.0
    """Of what is seen or told: what numbers of cells count in the loss, beside 1 of other tokens."""
    requests: bool = True
    """At key-steps, also ask for them, as a runtime does when a call has ended."""
    keystep_weight: float = 8.0
    """How much more often a step at which a call begins is drawn than one at which it goes on."""
    border_weight: float = 3.0
    """The same of a step near one."""
    border_steps: int = 3
    """How near, before and after."""
    preset: str = "tiny"
    """Size of the network, a key of keystep.models.CODE_PLANNER_PRESETS."""
    image_size: int = 128
    """Height and width in pixels of what it sees; blocks are 8 px wide at 128."""
    proprioception: bool = True
    """One token of it, from which it learns when a call ends."""
    batch_size: int = 8
    """Programs, or episodes, per step; short ones share a row."""
    row_tokens: int = ROW_TOKENS
    """Most tokens of a row, in which steps of an episode share what they begin with."""
    learning_rate: float = 5e-4
    """Peak rate of AdamW."""
    val_windows: int = 64
    """Rows of the held-out episodes used for the validation loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("programs", "image_size", "row_tokens", "steps_per_row"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("keystep_weight", "border_weight", "cell_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not 0 <= self.texts < math.inf:
            raise ValueError(f"texts: expected at least 0, got {self.texts}")
        if self.texts and self.stage != "pictures":
            raise ValueError(f"texts: expected 0, as stage {self.stage} has none beside, got {self.texts}")
        if not 0 <= self.scenes <= 1:
            raise ValueError(f"scenes: expected 0 to 1, got {self.scenes}")
        if self.scene_pictures < 0 or (self.scene_pictures and self.stage != "sight"):
            wanted = "at least 0" if self.stage == "sight" else f"0 in stage {self.stage}"
            raise ValueError(f"scene_pictures: expected {wanted}, got {self.scene_pictures}")
        if self.scenes and not (self.stage == "text" or self.texts):
            raise ValueError(f"scenes: expected 0, as there are no programs, got {self.scenes}")
        if self.border_steps < 0:
            raise ValueError(f"border_steps: expected at least 0, got {self.border_steps}")
        if not 1 <= self.questions_per_step <= len(KINDS):
            raise ValueError(f"questions_per_step: expected 1 to {len(KINDS)}, got {self.questions_per_step}")
        for name, reason in UNUSED.items():
            if getattr(self, name):
                raise ValueError(f"{name}: expected none, as {reason}, got {getattr(self, name)}")
        if not 0 <= self.questions <= 1:
            raise ValueError(f"questions: expected 0 to 1, got {self.questions}")
