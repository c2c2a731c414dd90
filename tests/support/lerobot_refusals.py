"""What tests of checkpoints that are not converted have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lerobot_checkpoints import edit

from keystep.export.convert.lerobot.convert import convert_lerobot
from keystep.export.manifest import ExportError

ENVIRONMENT = {"observation.environment_state": {"type": "ENV", "shape": [2]}}
STATE = {"observation.state": {"type": "STATE", "shape": [3]}}
VECTORS = {"input_features": {**STATE, **ENVIRONMENT}}


def refused(checkpoint: Path | str, *parts: str, **options: Any) -> None:
    """The error says all `parts`, and nothing is written."""
    output = Path(checkpoint).parent / "new.keystep"
    with pytest.raises(ExportError) as error:
        convert_lerobot(str(checkpoint), output, **options)
    told = str(error.value)
    assert all(part in told for part in (*parts, "expected", "got")), told
    assert not list(output.parent.glob("*new.keystep*"))


def changed(folder: Path, **changes: Any) -> Path:
    edit(folder, **changes)
    return folder


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda weights: weights.pop(name)
