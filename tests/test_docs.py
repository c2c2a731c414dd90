"""Every link of the documentation leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ELSEWHERE = [
    ROOT / each / "README.md"
    for each in ("benchmarks", "examples/robot", "examples/fleet", "integrations/lerobot")
]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ELSEWHERE])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        found = page.parent / target if target else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(found), f"{page.name} links to {target}#{anchor}"


def test_pages_have_links() -> None:
    """So that the test above tests something."""
    assert sum(len(LINK.findall(page.read_text(encoding="utf-8"))) for page in PAGES) > 50
