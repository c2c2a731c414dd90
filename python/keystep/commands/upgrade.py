"""keystep upgrade"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(bundle: Annotated[Path, tyro.conf.Positional], output: Path | None = None) -> None:
    """Bring a bundle of manifest version 3 or 4 to version 5, the newest form, from its own files.

    Its actions stay the same, bit for bit. Each weight is stored once, and the result is compared with the
    bundle's golden data before it appears.

    Args:
        bundle: the bundle's folder.
        output: write another folder instead of replacing this one.
    """
    from keystep.export.upgrade import upgrade_bundle

    before = size(bundle)
    target = upgrade_bundle(bundle, output)
    print(f"{target}: {before / 1e6:.1f} MB before, {size(target) / 1e6:.1f} MB now")


def size(folder: Path) -> int:
    """Bytes of the files in a folder; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0
