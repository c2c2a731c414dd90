"""No module of keystep needs another that needs it, not even lazily inside a function."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

import pytest
from source_tree import modules

EXPLAINED = {
    # A report shows itself in a notebook, by tables and figures that are made of reports.
    "keystep.evaluate": {
        "chains",
        "cross",
        "measured",
        "planner_speed",
        "plots",
        "protocols",
        "report",
        "tables",
    }
}

Graph = dict[str, set[str]]


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Without what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield node
            yield from nodes(node)


def imports(source: str, known: Iterable[str]) -> set[str]:
    """The modules of `known` that are imported at the top or inside functions."""
    found: set[str] = set()
    for node in nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known or alias.name == "_core" else node.module)
    return found & set(known)


def circles(graph: Graph) -> list[set[str]]:
    """Groups of modules that reach each other."""
    reached: Graph = {}
    for start in graph:
        seen: set[str] = set()
        waiting = [*graph[start]]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += graph.get(name, ())
        reached[start] = seen
    groups = {
        frozenset(other for other in graph if other in reached[name] and name in reached[other])
        for name in graph
    }
    return [set(group) for group in groups if group]


def test_no_circles() -> None:
    known = modules()
    assert len(known) > 150
    graph = {name: imports(path.read_text(), known) - {name} for name, path in known.items()}
    explained = [{f"{room}.{name}" for name in names} for room, names in EXPLAINED.items()]
    assert [sorted(circle) for circle in circles(graph) if circle not in explained] == []
    assert all(circle in circles(graph) for circle in explained), "one is no circle any more"


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"a": "import b", "b": "def f():\n    from a import x"}, [{"a", "b"}]),
        ({"a": "import b", "b": "import c", "c": "if x:\n    import a"}, [{"a", "b", "c"}]),
        ({"a": "import b", "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a"}, []),
        ({"a": "import b, c", "b": "import c", "c": ""}, []),
    ],
)
def test_what_a_circle_is(sources: dict[str, str], expected: list[set[str]]) -> None:
    graph = {name: imports(source, sources) for name, source in sources.items()}
    assert circles(graph) == expected
