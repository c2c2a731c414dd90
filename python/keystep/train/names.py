"""Names of a feature's dimensions, as a bundle needs them: one each, all different."""

from __future__ import annotations

from collections.abc import Sequence


def usable_names(names: Sequence[object] | None, count: int) -> list[str] | None:
    """`names`, if there are `count` different texts that are not empty and can be written; else None."""
    found = [name for name in names or () if isinstance(name, str) and name and _is_unicode(name)]
    return found if len(set(found)) == count == len(names or ()) else None


def numbered(what: str, count: int) -> list[str]:
    return [f"{what}_{number}" for number in range(count)]


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name
