"""Who may import whom: the rooms of the design, read from the source."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest
from source_tree import modules

MODULES = modules()

# What the rest sees of a simulated world.
SUITE = {"keystep.suites", "keystep.suites.base"}
# Of this project; `keystep` is the root with the compiled core behind it.
ALLOWED = {
    "models": {"keystep", "keystep.features", "keystep.files", "keystep.lazy", "keystep.code"},
    "data": {"keystep", "keystep.files", "keystep.lazy", "keystep.code"},
    "record": {
        "keystep",
        "keystep.bars",
        "keystep.features",
        "keystep.files",
        "keystep.processes",
        "keystep.data",
        "keystep.evaluate.environments",  # as evaluations make and read them
        "keystep.evaluate.worlds",
        "keystep.suites.states",
        *SUITE,
    },
    # export: its rehearsal; expit: by its name, `keystep.train.expit`
    "train": {
        "keystep.expit",
        "keystep.bars",
        "keystep.features",
        "keystep.files",
        "keystep.lazy",
        "keystep.provenance",
        "keystep.code",
        "keystep.data",
        "keystep.record.interrupts",
        "keystep.record.plans_tried",
        "keystep.models",
        "keystep.export",
        *SUITE,
    },
    # Drives the others through their public functions.
    "expit": {
        "keystep",
        "keystep.bars",
        "keystep.files",
        "keystep.lazy",
        "keystep.machine",
        "keystep.notebook",
        "keystep.table_writer",
        "keystep.uncertainty",
        "keystep.data",
        "keystep.models.presets",
        "keystep.train",
        "keystep.record",
        "keystep.export",
        "keystep.evaluate",
        *SUITE,
    },
    "suites": {
        "keystep",
        "keystep.bars",
        "keystep.files",
        "keystep.processes",
        "keystep.table_writer",
        "keystep.uncertainty",
        "keystep.data",
        "keystep.code",
    },
    "code": set(),
    "client": set(),  # goes to robots alone
    "serve": {"keystep", "keystep.client", "keystep.continuation", "keystep.features", "keystep.lazy"},
    "evaluate": {
        "keystep",
        "keystep.runtime",
        "keystep.run_report",
        "keystep.features",
        "keystep.latency",
        "keystep.machine",
        "keystep.notebook",
        "keystep.processes",
        "keystep.provenance",
        "keystep.table_writer",
        "keystep.telemetry",
        "keystep.uncertainty",
        "keystep.data",
        *SUITE,
    },
    "export": {
        "keystep",
        "keystep._core",
        "keystep.features",
        "keystep.files",
        "keystep.lazy",
        "keystep.manifests",
        "keystep.notebook",
        "keystep.provenance",
        "keystep.code",
        "keystep.models",
    },
}
CORE_USERS = {
    "export": {"verify.py", "answers.py", "golden_file.py", "onnx_policy.py", "manifest.py", "upgrade.py"}
    | {"code_reading.py", "onnx_planner.py"},
    "models": {"reference.py"},
}
WITHOUT_TORCH = {"data", "record", "suites", "evaluate", "code", "expit", "client", "serve"}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            whole = node.module == "keystep"
            names |= inside if whole else {name if name in MODULES else node.module for name in inside}
    return names


def sources(room: str) -> list[Path]:
    spec = importlib.util.find_spec(f"keystep.{room}")
    assert spec is not None and spec.origin is not None
    found = sorted(Path(spec.origin).parent.rglob("*.py"))
    assert found
    return found


def is_allowed(name: str, allowed: set[str]) -> bool:
    """A module of `allowed`, or inside one; of `keystep` and `keystep.suites` themselves no more."""
    alone = {"keystep", "keystep.suites"}
    parents = [name.rsplit(".", level)[0] for level in range(name.count(".") + 1)]
    return name in allowed or any(parent in allowed - alone for parent in parents)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_knows_only_its_neighbours(room: str) -> None:
    for path in sources(room):
        allowed: set[str] = ALLOWED[room] | {f"keystep.{room}"}
        if room in CORE_USERS and path.name not in CORE_USERS[room]:
            allowed -= {"keystep", "keystep._core"}
        for name in imports(path):
            package = name.partition(".")[0]
            assert package != "torch" or room not in WITHOUT_TORCH, f"{room}/{path.name} imports {name}"
            if package == "keystep":
                own = f"{name}.".startswith(f"keystep.{room}.")
                assert own or is_allowed(name, allowed), f"{room}/{path.name} imports {name}"


def test_a_module_is_known_however_it_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "any.py"
    path.write_text("from keystep.suites import suite_named, tabletop\nfrom keystep import noise\n")
    assert imports(path) == {"keystep.suites", "keystep.suites.tabletop", "keystep.noise"}
    assert not is_allowed("keystep.suites.tabletop", ALLOWED["record"])
