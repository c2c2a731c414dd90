"""A checkpoint of a pretrained LLaVA, with its own tokeniser: to be exported, or trained further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keystep.code.prompt import PAPER, PromptLayout
from keystep.code.spoken import Language
from keystep.export.code_language import LANGUAGE
from keystep.features import Feature
from keystep.files import write_json
from keystep.models.checkpoint import Checkpoint, save_checkpoint
from keystep.models.code_planner.network import CodePlanner
from keystep.models.code_planner.pieces import own_pieces, renumbered
from keystep.models.code_planner.pretrained import END, SOURCE, pretrained_planner

NO_ACTION: dict[str, Any] = {
    "names": [],
    "units": [],
    "min": [],
    "max": [],
    "rate_limit": None,
    "hold": {"mode": "last"},
}
"""It has seen no robot yet."""


def pretrained_checkpoint(
    folder: Path,
    source: str | Path = SOURCE,
    *,
    observation: tuple[Feature, ...],
    grid: int = 10,
    layout: PromptLayout = PAPER,
    stats: dict[str, dict[str, Any]] | None = None,
    control_rate_hz: float = 20.0,
    context: int = 2047,
    end: str = END,
) -> CodePlanner:
    """Writes the checkpoint of a LLaVA whose tokens are renumbered to the runtime's: docs/tokenizer.md.

    Args:
        folder: of the checkpoint.
        source, observation, context, end: as of `pretrained_planner`.
        grid: cells of a side of the picture, in code.
        layout: of prompts.
        stats: of the vector of proprioception, if there is one.

    Returns:
        The planner.

    Raises:
        LlavaError: as of `pretrained_planner`; another kind of tokeniser than Phi-3's.
        ConfigError: it and `observation` do not fit.
    """
    planner, tokenizer = pretrained_planner(source, observation, context, end)
    pieces, order = own_pieces(tokenizer, planner.config)
    planner = renumbered(planner, order)
    config = planner.config
    spoken = Language(pieces, layout, grid)
    spoken.check_ids(config.to_dict())
    checkpoint = Checkpoint(
        config=config,
        stats=stats or {},
        tasks=[],
        action=dict(NO_ACTION),
        control_rate_hz=control_rate_hz,
        provenance={"training": f"none: weights of {source}"},
        normalization={image.key: "identity" for image in config.images},
    )
    save_checkpoint(folder, checkpoint, planner.state_dict())
    write_json(folder / LANGUAGE, spoken.told_to(config))
    return planner
