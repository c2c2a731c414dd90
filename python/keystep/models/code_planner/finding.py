"""What is where in a picture, told in the planner's own words: how a small planner sees.

Each cell of a map says whether an object has its centre there, which, and where in the picture; a detector
without anchors, as CenterNet's (Zhou et al. 2019, arXiv:1904.07850). The surest objects become tokens: the
words of their names, their column and their row, as embeddings of these words, so that a decoder that reads
texts reads them too. Free tokens of the same encoder were never read: after a thousand steps replies were
those of a blind planner.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.models.code_planner.config import CodePlannerConfig

FOCUS = 2.0
"""Exponent of the focal loss (Lin et al. 2017, arXiv:1708.02002): empty cells are soon easy."""
PLACE_WEIGHT = 0.5
"""Of the loss of where, beside those of whether and what."""
RARE = -4.0
"""Logit that something is in a cell, before anything is learned."""
PRESENT, SHARP = -0.4, 4.0
"""Logit at which a cell is told by half, and how steep that is: the focal loss leaves things unsure."""


class Found(NamedTuple):
    """What each of the C cells shows, as logits.

    Attributes:
        there: [N, C], that something has its centre in it; names: [N, C, names]; places: [N, C, 2, grid + 1],
            column and row.
    """

    there: Tensor
    names: Tensor
    places: Tensor


class Finder(nn.Module):
    """A map [N, channels, h, w] -> `Found`, cell by cell; a name is as likely as its words together."""

    made: Tensor

    def __init__(self, channels: int, names: dict[str, tuple[int, ...]], places: int) -> None:
        super().__init__()
        words = sorted({word for ids in names.values() for word in ids})
        made = torch.tensor([[float(word in ids) for word in words] for ids in names.values()])
        self.register_buffer("made", made, persistent=False)  # [names, words]
        self.there, self.word = nn.Linear(channels, 1), nn.Linear(channels, len(words))
        self.place = nn.Linear(channels, 2 * places)
        nn.init.constant_(self.there.bias, RARE)

    def forward(self, cells: Tensor) -> Found:
        flat = cells.flatten(2).transpose(1, 2)
        names = self.word(flat) @ self.made.T
        return Found(self.there(flat)[..., 0], names, self.place(flat).unflatten(-1, (2, -1)))

    def loss(self, cells: Tensor, boxes: Tensor, named: Tensor) -> Tensor:
        """Focal loss of whether, per object in view, and cross-entropies of what and where.

        Args:
            cells: a map.
            boxes: [N, objects, 4], left, top, right, bottom as fractions of the picture.
            named: [N, objects] int64, each one's name; -1: none, or out of view.
        """
        there, names, places = (logits.float() for logits in self(cells))
        picture, thing = (named >= 0).nonzero(as_tuple=True)
        wanted, count = torch.zeros_like(there), max(len(picture), 1)
        centre = (boxes[picture, thing, :2] + boxes[picture, thing, 2:]) / 2
        cell = _cells(centre, *cells.shape[2:])
        wanted[picture, cell] = 1.0
        missed = functional.binary_cross_entropy_with_logits(there, wanted, reduction="none")
        whether = (missed * (there.sigmoid() - wanted).abs().pow(FOCUS)).sum() / count
        if not len(picture):
            return whether
        grid = places.shape[-1] - 1
        at = (centre * grid).round().long().clamp(0, grid)
        what = functional.cross_entropy(names[picture, cell], named[picture, thing])
        where = functional.cross_entropy(places[picture, cell].flatten(0, 1), at.flatten())
        return whether + what + PLACE_WEIGHT * where


class FoundTokens(nn.Module):
    """The surest objects as tokens, row by row: words of the name, column, row.

    Where nothing is, a token is `nothing`; of what is unsure it has shares of both, and of all words that may
    be meant. Nothing else is in them: a decoder normalises what it reads, so what is faint is as loud as a
    word, and a learned addition of the map's features was soon fifty times as large as the words it drowned.
    """

    ids: Tensor
    numbers: Tensor

    def __init__(self, config: CodePlannerConfig) -> None:
        super().__init__()
        each = config.tokens_of_an_object
        self.objects = config.image_tokens // each
        ids = [[*words, *[config.pad_id] * (each - 2 - len(words))] for words in config.names.values()]
        self.register_buffer("ids", torch.tensor(ids).T, persistent=False)  # [words, names]
        self.register_buffer("numbers", torch.tensor(config.numbers), persistent=False)
        self.nothing = nn.Parameter(0.02 * torch.randn(config.width))

    def forward(self, found: Found, embeddings: Tensor) -> Tensor:
        """What is found in a map, and the decoder's embeddings [V, D] -> [N, K, D]."""
        surest = _in_order(found.there, self.objects)
        there, names, places = (_chosen(values, surest) for values in found)
        what = torch.einsum("nmk,wkd->nmwd", names.softmax(-1), embeddings[self.ids])
        where = places.softmax(-1) @ embeddings[self.numbers]  # [N, M, 2, D]
        words = torch.cat([what, where], dim=2)
        present = (SHARP * (there - PRESENT)).sigmoid()[..., None, None]
        tokens: Tensor = self.nothing + present * (words - self.nothing)
        return tokens.flatten(1, 2)


def _in_order(there: Tensor, count: int) -> Tensor:
    """[N, count]: the surest cells row by row; those with nothing in them come last."""
    logits, cells = there.topk(count, dim=1)
    order = (cells + there.shape[1] * (logits < PRESENT)).sort(dim=1).indices
    return cells.gather(1, order)


def _chosen(values: Tensor, cells: Tensor) -> Tensor:
    """Of values [N, C, ...] those of cells [N, M]."""
    places = cells.reshape(*cells.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, places)


def _cells(centres: Tensor, height: Any, width: Any) -> Tensor:
    """Of centres [n, 2], right and down as fractions, the numbers of their cells, row by row."""
    column, row = (centres * centres.new_tensor([width, height])).long().unbind(dim=1)
    return row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
