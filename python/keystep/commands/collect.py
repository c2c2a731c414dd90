"""keystep collect"""

from __future__ import annotations

from keystep.data.collect import collect as main

__all__ = ["main"]
