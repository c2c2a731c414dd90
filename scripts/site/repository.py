"""A hook of mkdocs: the repository's Markdown, as it is, is the site.

Pages link to each other as GitHub wants it, also out of docs/: to results of benchmarks, sources, README.md.
Whatever is linked comes along, under repository/, and links are turned to where it is. README.md is the home.
A link to nothing stays as it is, and the strict build refuses it.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

BEGINNINGS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)((?:#[^)\s]*)?\))")
SERVED = {".png", ".gif", ".svg", ".json"}
"""Given as they are; other files that are not Markdown become a page that shows them."""
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    repository = Repository(config)
    for path in repository.linked_files():
        files.append(repository.file(path, config))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    repository, uri = Repository(config), page.file.src_uri
    here = written_at(uri)
    if uri.endswith(".ipynb.md"):
        here = here.removesuffix(".md")
    if not (repository.root / here).is_file():  # made for the site alone
        return markdown

    def turned(link: re.Match[str]) -> str:
        target = repository.site_uri(resolved(here, link[2]))
        if files.get_file_from_path(target) is None:
            return link[0]
        return link[1] + posixpath.relpath(target, posixpath.dirname(uri)) + link[3]

    return LINK.sub(turned, markdown)


def resolved(page: str, link: str) -> str:
    """Path of what a page links to; both of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def written_at(uri: str) -> str:
    """Inverse of `Repository.site_uri`, of pages that are Markdown in the repository."""
    if uri == "index.md":
        return "README.md"
    return uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"


def notebook(path: Path) -> str:
    """Its cells; they are kept without outputs."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = ["".join(cell["source"]) for cell in cells]
    shown = [
        part if cell["cell_type"] == "markdown" else f"```python\n{part}\n```"
        for cell, part in zip(cells, parts, strict=True)
    ]
    return "\n\n".join(shown) + "\n"


class Repository:
    """Its paths are relative to the folder of mkdocs.yml, with slashes."""

    def __init__(self, config: MkDocsConfig) -> None:
        self.root = Path(config.config_file_path).parent

    def linked_files(self) -> list[str]:
        """All that the site takes from outside docs/: what its pages link to, and these in turn."""
        docs = [path.relative_to(self.root).as_posix() for path in (self.root / "docs").rglob("*.md")]
        found, unread = set(BEGINNINGS), docs + list(BEGINNINGS)
        while unread:
            for target in self._targets(unread.pop()):
                if target not in found and not target.startswith("docs/"):
                    found.add(target)
                    unread += [target] if target.endswith(".md") else []
        return sorted(found)

    def site_uri(self, path: str) -> str:
        if path == "README.md":
            return "index.md"
        if path.startswith("docs/"):
            return path.removeprefix("docs/")
        if (self.root / path).is_dir():
            return f"repository/{path}/index.md"
        return f"repository/{path}" + ("" if Path(path).suffix in {".md", *SERVED} else ".md")

    def file(self, path: str, config: MkDocsConfig) -> File:
        uri, there = self.site_uri(path), self.root / path
        if there.is_dir():
            names = sorted(each.name for each in there.iterdir() if each.is_file())
            lines = "\n".join(f"- [{name}]({name})" for name in names)
            return File.generated(config, uri, content=f"{UNSEARCHED}# {path}\n\n{lines}\n")
        if there.suffix in {".md", *SERVED}:
            return File.generated(config, uri, abs_src_path=str(there))
        if there.suffix == ".ipynb":
            return File.generated(config, uri, content=notebook(there))
        language = {".hpp": "cpp", ".txt": "cmake"}.get(there.suffix, there.suffix[1:])
        text = there.read_text(encoding="utf-8")
        return File.generated(config, uri, content=f"{UNSEARCHED}# {path}\n\n````{language}\n{text}````\n")

    def _targets(self, page: str) -> Iterator[str]:
        """What is there of what a page links to; of a folder also what is in it."""
        for _, link, _ in LINK.findall((self.root / page).read_text(encoding="utf-8")):
            target = resolved(page, link)
            if target.startswith("..") or not (self.root / target).exists():
                continue
            yield target
            if (self.root / target).is_dir():
                yield from (
                    f"{target}/{each.name}" for each in (self.root / target).iterdir() if each.is_file()
                )
