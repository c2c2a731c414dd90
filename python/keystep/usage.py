"""What tyro says about a command line that it cannot parse, as one line instead of a box of them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SKIPPED = ("Argument helptext", "For full helptext", "Got errors", "Arguments are applied")
_WIDE = "10000"  # columns: no line is broken


@contextlib.contextmanager
def one_line_errors(program: str, arguments: Sequence[str]) -> Iterator[None]:
    """Inside, tyro's error goes to stderr as one line; its SystemExit passes, and so does its help."""
    if {"-h", "--help"} & set(arguments):
        yield
        return
    said = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDE
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit:
        print(f"error: {one_line(said.getvalue())}; see {program} --help", file=sys.stderr)
        raise
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def one_line(box: str) -> str:
    """The paragraphs of a box of tyro's without its frame; of the options it proposes only the names."""
    lines = [line.strip("│╰╯ ") for line in _COLOUR.sub("", box).splitlines()[1:]]  # below the title
    paragraphs = "\n".join("" if set(line) <= set("─-") else line for line in lines)
    parts = []
    for title, *rest in (part.splitlines() for part in re.split(r"\n{2,}", paragraphs.strip())):
        if title.startswith("Perhaps you meant"):
            rest = [line for line in rest if line.startswith("-")]
        if not title.startswith(_SKIPPED):
            parts.append(" ".join([title, *rest]))
    return "; ".join(parts).removeprefix("Error parsing config: ").removeprefix("Error parsing ")
