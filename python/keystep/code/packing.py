"""Many samples in one row of numbers, what they begin with in common only once.

A sample is a row of chunks: the task, key-steps of the memory, a picture, a reply. Samples whose first chunks
are the same share them, so a row is a tree: a token sees what is before it in its own sample, and nothing
else, at the position that it has there. So a row gives what its samples give alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np

NO_TARGET = -100
ROW_TOKENS = 768
"""Of a row, unless another number is given."""


class Target(IntEnum):
    """What a token that is to be predicted belongs to."""

    NONE = 0
    KEYSTEP = 1
    GOES_ON = 2
    REQUESTED = 3
    ANSWER = 4


@dataclass(frozen=True)
class Chunk:
    """A part of a sample.

    Attributes:
        key: chunks after the same chunks are the same one if their keys are equal.
        tokens: at least one.
        weights: of the loss, for each token as a target; () where none is one.
        target: what the tokens are as targets.
        shown: what stands at its special tokens, such as ("image", 17); None for text.
    """

    key: Hashable
    tokens: tuple[int, ...]
    weights: tuple[float, ...] = ()
    target: Target = Target.NONE
    shown: Hashable = None

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError(f"tokens: expected at least one, got none in {self.key!r}")
        if len(self.weights) not in (0, len(self.tokens)):
            raise ValueError(f"weights: expected {len(self.tokens)}, got {len(self.weights)} in {self.key!r}")


Sample = Sequence[Chunk]


@dataclass(frozen=True)
class PackedRow:
    """Samples in one row of T tokens; arrays of that length.

    Attributes:
        tokens: int64.
        positions: int64, of each token in its sample, from 0.
        segments: int64, number of its chunk.
        mask: bool (T, T): whether a token (row) sees another (column).
        targets: int64, what comes next in the sample; NO_TARGET where there is no loss.
        weights: float32, of the loss.
        kinds: int8, a `Target` each.
        shown: of the chunks with special tokens, in order.
    """

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    mask: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    kinds: np.ndarray
    shown: tuple[Hashable, ...]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass
class _Node:
    """A chunk in the tree: where it starts in the row, and in its sample."""

    chunk: Chunk
    parent: _Node | None
    start: int
    position: int
    children: dict[Hashable, _Node] = field(default_factory=dict)

    @property
    def stop(self) -> int:
        return self.start + len(self.chunk.tokens)


class RowBuilder:
    """Puts samples into a row, one after the other."""

    def __init__(self) -> None:
        self._roots: dict[Hashable, _Node] = {}
        self._nodes: list[_Node] = []
        self.length = 0

    def growth(self, sample: Sample) -> int:
        """How many tokens longer the row gets by a sample."""
        children, new = self._roots, 0
        for chunk in sample:
            node = children.get(chunk.key)
            new += 0 if node else len(chunk.tokens)
            children = node.children if node else {}
        return new

    def add(self, sample: Sample) -> None:
        """Raises ValueError for a chunk with the key of another that has other tokens."""
        parent, children = None, self._roots
        for chunk in sample:
            node = children.get(chunk.key)
            if node is None:
                position = 0 if parent is None else parent.position + len(parent.chunk.tokens)
                node = children[chunk.key] = _Node(chunk, parent, self.length, position)
                self._nodes.append(node)
                self.length += len(chunk.tokens)
            elif node.chunk != chunk:
                raise ValueError(f"sample: expected {node.chunk} at key {chunk.key!r}, got {chunk}")
            parent, children = node, node.children

    def row(self) -> PackedRow:
        """The row so far. Raises ValueError where two targets follow the same token."""
        length = self.length
        tokens, positions, segments = (np.zeros(length, np.int64) for _ in range(3))
        mask = np.zeros((length, length), bool)
        targets = np.full(length, NO_TARGET, np.int64)
        weights, kinds = np.zeros(length, np.float32), np.zeros(length, np.int8)
        for number, node in enumerate(self._nodes):
            here, count = slice(node.start, node.stop), len(node.chunk.tokens)
            tokens[here] = node.chunk.tokens
            positions[here] = node.position + np.arange(count)
            segments[here] = number
            if node.parent is not None:
                mask[here] = mask[node.parent.stop - 1]  # all that the parent's last token sees
            mask[here, here] = np.tri(count, dtype=bool)
            for index, weight in enumerate(node.chunk.weights):
                before = node.start + index - 1 if index else _last(node)
                if weight == 0:
                    continue
                if targets[before] not in (NO_TARGET, node.chunk.tokens[index]):
                    raise ValueError(
                        f"targets: expected one after a token, got another in {node.chunk.key!r}"
                    )
                targets[before], weights[before] = node.chunk.tokens[index], weight
                kinds[before] = node.chunk.target
        shown = tuple(node.chunk.shown for node in self._nodes if node.chunk.shown is not None)
        return PackedRow(tokens, positions, segments, mask, targets, weights, kinds, shown)


def _last(node: _Node) -> int:
    """Where the token before the first one of a chunk is."""
    if node.parent is None:
        raise ValueError(f"targets: expected a token before them, got none in {node.chunk.key!r}")
    return node.parent.stop - 1


def pack(samples: Iterable[Sample], max_tokens: int) -> Iterator[PackedRow]:
    """Samples, in order, in rows of at most so many tokens.

    Raises:
        ValueError: a sample is longer than that.
    """
    builder = RowBuilder()
    for sample in samples:
        length = sum(len(chunk.tokens) for chunk in sample)
        if length > max_tokens:
            raise ValueError(f"sample: expected at most {max_tokens} tokens, got {length}")
        if builder.length + builder.growth(sample) > max_tokens:
            yield builder.row()
            builder = RowBuilder()
        builder.add(sample)
    if builder.length:
        yield builder.row()


def together(rows: Sequence[PackedRow], max_tokens: int) -> list[PackedRow]:
    """The same rows in fewer of at most so many tokens, behind each other: padding costs as much as text.

    No token sees another row's. The longest rows come first, each where it first fits (first fit decreasing).

    Raises:
        ValueError: a row is longer than that.
    """
    found: list[list[PackedRow]] = []
    for row in sorted(rows, key=len, reverse=True):
        if len(row) > max_tokens:
            raise ValueError(f"row: expected at most {max_tokens} tokens, got {len(row)}")
        fits = (group for group in found if sum(map(len, group)) + len(row) <= max_tokens)
        group = next(fits, None)
        if group is None:
            found.append([row])
        else:
            group.append(row)
    return [_in_a_row(group) for group in found]


def _in_a_row(rows: Sequence[PackedRow]) -> PackedRow:
    names = ("tokens", "positions", "targets", "weights", "kinds")
    arrays = {name: np.concatenate([getattr(row, name) for row in rows]) for name in names}
    segments, mask, start, before = [], np.zeros((len(arrays["tokens"]),) * 2, bool), 0, 0
    for row in rows:
        segments.append(row.segments + before)
        before += int(row.segments.max()) + 1
        here = slice(start, start + len(row))
        mask[here, here] = row.mask
        start += len(row)
    shown = tuple(one for row in rows for one in row.shown)
    return PackedRow(**arrays, segments=np.concatenate(segments), mask=mask, shown=shown)


def batch(rows: Sequence[PackedRow], pad: int = 0) -> dict[str, Any]:
    """What a network learns from: rows as arrays (B, T), a mask (B, T, T), padded to the longest.

    A pad sees itself alone. `shown` are those of all rows in a row. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("rows: expected at least one, got none")
    longest = max(map(len, rows))
    fill = {"tokens": pad, "positions": 0, "targets": NO_TARGET, "weights": 0}
    found: dict[str, Any] = {
        name: np.stack([_padded(getattr(row, name), longest, value) for row in rows])
        for name, value in fill.items()
    }
    found["mask"] = np.tile(np.eye(longest, dtype=bool), (len(rows), 1, 1))
    for number, row in enumerate(rows):
        found["mask"][number, : len(row), : len(row)] = row.mask
    found["shown"] = tuple(one for row in rows for one in row.shown)
    return found


def _padded(values: np.ndarray, length: int, value: int) -> np.ndarray:
    found = np.full(length, value, values.dtype)
    found[: len(values)] = values
    return found
