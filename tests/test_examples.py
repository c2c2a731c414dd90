"""Settings of runs in examples/ are ones that `keystep expit` takes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

from keystep.expit import read_config

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read_with_all_its_settings(path: Path) -> None:
    tables = tomllib.loads(path.read_text())
    config = read_config(path)
    assert config.output.resolve() == (path.parent / tables["output"]).resolve()
    for name in ("planner", "controller"):
        for key, value in tables.get(name, {}).items():
            if key not in ("kind", "finetune"):
                stored = getattr(getattr(config, name).training, key)
                assert stored == (tuple(value) if isinstance(value, list) else value)


def test_the_shipped_policies_have_an_example_each() -> None:
    assert {path.stem for path in EXAMPLES} >= {"shipped-state", "shipped-rgb", "expit", "curves"}
