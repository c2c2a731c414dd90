"""A name of a class means one thing, in all rooms."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from source_tree import modules


def classes() -> dict[str, list[Path]]:
    """Where each public class stands."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(path)
    return found


def test_no_class_name_is_defined_twice() -> None:
    found = classes()
    assert {"Runtime", "Checkpoint", "Suite", "ExportError"} <= set(found)
    twice = {name: paths for name, paths in found.items() if len(paths) > 1}
    assert not twice
