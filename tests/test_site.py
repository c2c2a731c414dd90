"""The documentation as a site: links, anchors and pages are there; nothing is asked from the internet."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keystep
from keystep import _core

pytest.importorskip("material", reason="the extra docs is not installed")

ROOT = Path(__file__).parents[1]
ASKED = re.compile(
    r"<(?:script|link|img|iframe|video|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//", re.I
)
PARSED = ("<p>| ", "<p>- ", "<p>```", "\n- <", "\n| ")
"""What a table, a list or a block of code looks like that was not read as one."""


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder, *options]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_page_of_the_documentation_is_built(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert (site / name).exists() or (site / name.with_name("index.html")).exists(), name
    assert "compiled hierarchical robot policies" in (site / "index.html").read_text()


def test_pages_ask_nothing_from_the_internet(site: Path) -> None:
    for page in pages(site):
        assert not ASKED.search(page.read_text()), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", sheet.read_text()), sheet


def test_markdown_was_understood(site: Path) -> None:
    for page in pages(site):
        prose = re.sub(r"(?s)<pre.*?</pre>", "", page.read_text())
        for mark in PARSED:
            assert mark not in prose, f"{page.name}: {prose[prose.index(mark) :][:100]}"


def test_every_public_name_and_header_has_its_words(site: Path) -> None:
    python = (site / "api/python/keystep.html").read_text()
    for name in keystep.__all__:
        assert name.startswith("__") or f'id="keystep.{name}"' in python, name
    for header in (ROOT / "cpp/include/keystep").glob("*.hpp"):
        assert header.stem == "keystep" or (site / f"api/cpp/{header.stem}.html").exists(), header
    runtime = (site / "api/cpp/runtime.html").read_text()
    for words in ("Starts an episode. Throws ArgumentError", "denoise steps of a chunk; 0: as the manifest"):
        assert words in re.sub(r"<[^>]+>", "", runtime), words
    assert "impl_" not in runtime, "what is private is nobody's business"


def test_the_stub_says_what_the_bindings_say() -> None:
    """Sites and editors read _core.pyi, Python's help the bindings."""
    stub = ast.parse((ROOT / "python/keystep/_core.pyi").read_text())
    told = [node for node in stub.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    told = [node for node in told if getattr(keystep, node.name, None) is getattr(_core, node.name)]
    assert len(told) >= 8
    for node in told:
        words = " ".join((ast.get_docstring(node) or "none").split())
        assert words in " ".join(getattr(keystep, node.name).__doc__.split()), node.name


@pytest.mark.parametrize(
    "broken",
    ["[x](nowhere.md)", "[x](bundle.md#nowhere)", "[x](../benchmarks/results/nowhere.md)", "[x](../nowhere)"],
)
def test_a_broken_link_ends_the_build(broken: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "bundle.md").write_text("# Bundle\n")
    (docs / "page.md").write_text(f"# Page\n\n{broken}\n")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).write_text("# A page\n")
    settings = (ROOT / "mkdocs.yml").read_text()
    hooks = f"hooks:\n  - {ROOT}/scripts/site/repository.py\n"
    settings = re.sub(r"(?s)nav:\n.*?\nvalidation:", "validation:", settings)
    (tmp_path / "mkdocs.yml").write_text(re.sub(r"hooks:\n(?:  - .*\n)+", hooks, settings))
    built = build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert built.returncode != 0 and "nowhere" in built.stderr + built.stdout
