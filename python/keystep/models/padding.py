"""Rows of chunks that do not count in a loss: the episode ended before them."""

from __future__ import annotations

from torch import Tensor


def unpadded(rows: Tensor, padding: Tensor | None) -> Tensor:
    """[B, H, A] -> [N, A], the rows that padding [B, H] does not mark; all, [B, H, A], where it is None."""
    return rows if padding is None else rows[~padding]
