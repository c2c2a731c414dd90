"""layout.VERSION tells apart simulated worlds: whoever changes the world must raise it.

The digest below is of what makes the world and can be read without the simulator: the scenes of every task
for a few seeds, the constants of layout.py, and the numbers that stand in the modules of the physics and of
the predicates. When it differs, recorded episodes will hardly replay. The failing test prints the new digest.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.objects import Body
from keystep.suites.tabletop.tasks import TASKS

WORLD = (1, "5f7c478f9305b7166d6089e9442140b6169425468c53a402e45b7c4730769f9a")
"""layout.VERSION and its digest."""

SEEDS = range(5)
DECIMALS = 9
PHYSICS = (
    "robot.py",
    "tabletop/simulation.py",
    "tabletop/environment.py",
    "tabletop/scale.py",
    "tabletop/contacts.py",
    "tabletop/conditions.py",
    "tabletop/predicates.py",
    "tabletop/world.py",
)
SUITES = Path(layout.__file__).parent.parent


def plain(value: Any) -> Any:
    """JSON for scene descriptions and constants; numbers rounded, so that no platform's last bit counts."""
    if isinstance(value, Body):
        thing = value.thing
        what = [thing.shape, thing.colour, thing.size_m, thing.kind, thing.label, thing.density_kg_m3]
        return plain([what, value.position_m, value.yaw_rad])
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, bool | str | int | None):
        return value
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0  # no -0.0
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    raise TypeError(f"world: expected what JSON can tell, got {value!r}")


def scenes(task: str, seed: int) -> Any:
    found = TASKS[task].build(np.random.default_rng(seed))
    return plain([found.bodies, dict(found.roles), found.prompt, dict(found.parameters), found.scale])


def layout_constants() -> Any:
    told = ("VERSION", "ACTION_LAW")  # words about the world, which do not make it
    names = [name for name in vars(layout) if name.isupper() and name not in told]
    return plain({name: getattr(layout, name) for name in names})


def numbers_in(source: str) -> list[str]:
    """Assignments of constants, in a module or class, in whose value a digit occurs, without comments."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for statement in getattr(node, "body", []) if isinstance(node, ast.Module | ast.ClassDef) else []:
            if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
                continue
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            named = all(isinstance(target, ast.Name) and target.id.isupper() for target in targets)
            if named and re.search(r"\d", ast.unparse(statement.value)):
                found.append(ast.unparse(statement))
    return sorted(found)


def digest() -> str:
    world = {
        "scenes": {f"{task} {seed}": scenes(task, seed) for task in TASKS for seed in SEEDS},
        "max_steps": {name: task.max_steps for name, task in TASKS.items()},
        "layout": layout_constants(),
        "physics": {name: numbers_in((SUITES / name).read_text(encoding="utf-8")) for name in PHYSICS},
    }
    return hashlib.sha256(json.dumps(world, sort_keys=True).encode()).hexdigest()


def test_the_world_is_that_of_its_version() -> None:
    found = digest()
    assert (layout.VERSION, found) == WORLD, (
        f"the world changed: raise layout.VERSION and write down the new digest {found}"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("FRICTION", 0.9), ("START_JOINTS_RAD", np.zeros(9)), ("CAMERAS", ("base",)), ("NEW_M", 1.0)],
)
def test_a_constant_of_the_layout_counts(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    before = layout_constants()
    monkeypatch.setattr(layout, name, value, raising=False)
    assert layout_constants() != before


def test_a_last_bit_does_not_count() -> None:
    assert plain([0.1 + 0.2, -0.0, np.float64(1 / 3)]) == plain([0.3, 0.0, 1 / 3 + 1e-13])
    assert plain(0.3) != plain(0.3 + 1e-8)


def test_numbers_are_read_from_source_without_running_it() -> None:
    source = """
import no_such_simulator
STEPS = 2  # a comment
NAMES = ("a", "b")
OFFSET = "0 0 0.105"
WEIGHTS = no_such_simulator.array([0.0, -1.5])
LIMIT: float = 3 * STEPS
lower = 7
class World(no_such_simulator.Base):
    FRICTION = 0.5
    def step(self):
        INSIDE = 4
"""
    assert numbers_in(source) == [
        "FRICTION = 0.5",
        "LIMIT: float = 3 * STEPS",
        "OFFSET = '0 0 0.105'",
        "STEPS = 2",
        "WEIGHTS = no_such_simulator.array([0.0, -1.5])",
    ]
    assert numbers_in(source.replace("# a comment", "").replace("0.0,", "0.00,")) == numbers_in(source)
    assert numbers_in(source.replace("-1.5", "1.5")) != numbers_in(source)


def test_every_module_of_the_physics_is_there() -> None:
    physics = numbers_in((SUITES / "tabletop/simulation.py").read_text(encoding="utf-8"))
    assert any(line.startswith("FINGER_DRIVE = ") for line in physics)
    assert all((SUITES / name).exists() for name in PHYSICS)
