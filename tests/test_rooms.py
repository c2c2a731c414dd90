"""Who may import whom: the rooms of the design, read from the source."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

# Of this project; `keystep` is the root with the compiled core behind it.
ALLOWED = {
    "models": {"keystep", "keystep.files", "keystep.lazy"},
    "data": {"keystep", "keystep.files", "keystep.lazy", "keystep.record", "keystep.suites"},
    # suites: the sources to collect from; data: the format
    "record": {"keystep", "keystep.files", "keystep.data", "keystep.suites", "keystep.code"},
    # suites: names of tasks; export: its rehearsal
    "train": {
        "keystep.files",
        "keystep.lazy",
        "keystep.data",
        "keystep.record",
        "keystep.models",
        "keystep.suites",
        "keystep.export",
    },
    "suites": {
        "keystep",
        "keystep.files",
        "keystep.data",
        "keystep.record",
        "keystep.evaluate",
        "keystep.code",
    },
    "code": {"keystep.files"},
    "evaluate": {
        "keystep",
        "keystep.runtime",
        "keystep.latency",
        "keystep.notebook",
        "keystep.provenance",
        "keystep.suites",
        "keystep.record",
        "keystep.data",
    },
    "export": {
        "keystep",
        "keystep._core",
        "keystep.files",
        "keystep.notebook",
        "keystep.provenance",
        "keystep.models",
    },
}
CORE_USERS = {
    "export": {"verify.py", "answers.py", "golden_file.py", "onnx_policy.py", "manifest.py", "upgrade.py"},
    "models": {"reference.py"},
}
WITHOUT_TORCH = {"data", "record", "suites", "evaluate", "code"}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "keystep":
            names |= {f"keystep.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def sources(room: str) -> list[Path]:
    spec = importlib.util.find_spec(f"keystep.{room}")
    assert spec is not None and spec.origin is not None
    found = sorted(Path(spec.origin).parent.rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_knows_only_its_neighbours(room: str) -> None:
    for path in sources(room):
        allowed = ALLOWED[room] | {f"keystep.{room}"}
        if room in CORE_USERS and path.name not in CORE_USERS[room]:
            allowed -= {"keystep", "keystep._core"}
        for name in imports(path):
            package = name.partition(".")[0]
            assert package != "torch" or room not in WITHOUT_TORCH, f"{room}/{path.name} imports {name}"
            if package == "keystep":
                assert ".".join(name.split(".")[:2]) in allowed, f"{room}/{path.name} imports {name}"
