"""Settings of the training of a planner that writes code. Importing this module needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keystep.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class CodePlannerTraining(TrainConfig):
    """Training of a planner that writes code: first from programs as text, then from demonstrations."""

    dataset: Path | tuple[Path, ...] = ()
    """Of stage `pictures`: LeRobotDataset v3.0 folder of demonstrations with code, or several."""
    stage: Literal["text", "pictures"] = "pictures"
    """`text`: programs of the suite's tasks, without a simulation, in which nothing is seen; `pictures`:
    demonstrations. The second takes the first's `--weights`."""
    suite: str = "tabletop"
    """Of stage `text`: whose tasks."""
    programs: int = 20_000
    """Of stage `text`: how many, all tasks alike."""
    preset: str = "tiny"
    """Size of the network, a key of keystep.models.CODE_PLANNER_PRESETS."""
    image_size: int = 128
    """Height and width in pixels of what it sees; blocks are 8 px wide at 128."""
    proprioception: bool = True
    """One token of it, from which it learns when a call ends."""
    batch_size: int = 8
    """Packed rows per step."""
    row_tokens: int = 768
    """Most tokens of a row, in which steps of an episode share what they begin with."""
    learning_rate: float = 5e-4
    """Peak rate of AdamW."""
    val_windows: int = 64
    """Rows of the held-out episodes used for the validation loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("programs", "image_size", "row_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.stage == "pictures" and self.dataset == ():
            raise ValueError(
                "dataset: expected a folder of demonstrations, got none (--stage text needs none)"
            )
        if self.stage == "text" and self.dataset != ():
            raise ValueError(f"dataset: expected none with --stage text, got {self.dataset}")
