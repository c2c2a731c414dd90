"""A hook of mkdocs: a page for each package of Python that users import, of all names in its `__all__`.

mkdocstrings reads the sources; nothing is imported, and nothing compiled is needed.
"""

from __future__ import annotations

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "keystep": "python/keystep",
    "keystep.client": "python/keystep/client",
    "keystep.export": "export",
    "keystep.evaluate": "python/keystep/evaluate",
    "keystep.data": "python/keystep/data",
    "keystep.models": "python/keystep/models",
    "keystep.train": "python/keystep/train",
    "keystep.expit": "python/keystep/expit",
    "keystep.serve": "python/keystep/serve",
}
FIRST = ("load", "Runtime")
LINKED = "build/site-python/keystep"
"""The package as it is installed, with export in it."""


def on_startup(**_: object) -> None:
    """mkdocstrings looks which packages there are before it configures anything else."""
    (ROOT / LINKED).mkdir(parents=True, exist_ok=True)
    sources = [path for path in (ROOT / "python/keystep").iterdir() if path.name != "__pycache__"]
    for path in [*sources, ROOT / "export"]:
        there = ROOT / LINKED / path.name
        there.unlink(missing_ok=True)
        there.symlink_to(path)


def on_config(config: MkDocsConfig) -> None:
    reference = next(section["Reference"] for section in config.nav if "Reference" in section)
    reference.append({"Python": [{package: uri(package)} for package in PACKAGES]})


def on_files(files: Files, config: MkDocsConfig) -> None:
    for package, folder in PACKAGES.items():
        source = ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8"))
        files.append(File.generated(config, uri(package), content=page(package, source)))


def uri(package: str) -> str:
    return f"api/python/{package}.md"


def page(package: str, source: ast.Module) -> str:
    lines = [f"# {package}", "", ast.get_docstring(source) or "", ""]
    for name in sorted(exported(source), key=lambda name: name not in FIRST):
        if not name.startswith("__") and f"{package}.{name}" != "keystep.train.expit":  # of keystep.expit
            lines += [f"::: {package}.{name}", ""]
    return "\n".join(lines)


def exported(source: ast.Module) -> list[str]:
    for node in source.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    raise ValueError("__all__: expected a list in the package, got none")
