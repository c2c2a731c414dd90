"""Names of a feature's dimensions, as a bundle needs them: one each, all different."""

from __future__ import annotations

MAX_LENGTH = 200
PRINTABLE = f"that can be printed, of at most {MAX_LENGTH} characters"


def usable_names(names: object, count: int) -> list[str] | None:
    """`names`, if there are `count` different texts that are not empty and can be printed; else None."""
    given = names if isinstance(names, list | tuple) else ()
    found = [name for name in given if name and is_printable(name)]
    return found if len(set(found)) == count == len(given) else None


def is_printable(text: object) -> bool:
    """Text that a line shows as it is: no control or bidi characters, no halves of surrogate pairs."""
    return isinstance(text, str) and len(text) <= MAX_LENGTH and text.isprintable()
