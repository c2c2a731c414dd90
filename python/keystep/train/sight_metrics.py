"""Whether a planner that writes code sees: its answers with a picture beside those without one. No torch.

An answer is judged token by token, each after the right ones before it; so one that is wholly right is also
what the planner writes by itself. Differences have intervals over episodes, of which pictures are no
independent draws.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from keystep.code.questions import KINDS, SCENE

KEYSTEP = "keystep"
ASKED = (*KINDS, SCENE, KEYSTEP)
LEVEL = 0.998
"""Of intervals: so sure that of all figures of a report together one in twenty reports has a false one."""
FEWEST_EPISODES = 10
"""With fewer, not even differences that all have the same sign are as sure as that (2 ** -9 = 0.002)."""
_RESAMPLES = 5000
_LESS_IS_BETTER = {"cell_error"}
_DECIDING: dict[str, re.Pattern[str]] = {
    "where": re.compile(r"^\w+|\d+"),
    "what": re.compile(r"^.*(?= (?:is|are) at )"),
    "is_at": re.compile(r"^Yes|^No, .*(?= (?:is|are) at )|\d+(?= .* at )"),
    "visible": re.compile(r"^\w+|\d+"),
    "count": re.compile(r"^\w+"),
    SCENE: re.compile(r"^N|(?<=[Aa] )[^,]+?(?= is at)|(?<=[Aa]n )[^,]+?(?= is at)|\d+"),
    KEYSTEP: re.compile(r"^[\s\S]*"),
}
"""By kind the parts of an answer that neither the question nor the form of answers has."""
_PLACES = {
    "where": (_CELL := re.compile(r"\((\d+), (\d+)\)")),
    SCENE: _CELL,
    KEYSTEP: re.compile(r"(?:actor_pos|near)=\((\d+), ?(\d+)\)"),
}
"""The numbers of cells, by kind of what has them."""
_ONE_THING = re.compile(r"^An? (.+) is at \(")
_COLOUR_AND_SHAPE = re.compile(r"(\S+) (\S+)")
BETTER, LIKELIER, WORSE = "better with them", "only likelier", "worse with them"
SAME = "they change nothing about"
Side = Literal["seen", "blind"]


@dataclass(frozen=True)
class TokenReply:
    """What a planner answers, each token after the wanted ones before it.

    Attributes:
        texts: by token, the end included, text of the likeliest; of the end "".
        right: by token, whether the likeliest is the wanted one.
        likelihoods: by token, log of the wanted one's probability.
    """

    texts: tuple[str, ...]
    right: tuple[bool, ...]
    likelihoods: tuple[float, ...]


@dataclass(frozen=True)
class SightReply:
    """One question, asked twice.

    Attributes:
        kind: one of `ASKED`.
        episode: number.
        wanted: the right answer.
        spans: by token, which of its characters that is, (start, stop); of the end none.
        seen, blind: with its own picture, and with the mean of all.
    """

    kind: str
    episode: int
    wanted: str
    spans: tuple[tuple[int, int], ...]
    seen: TokenReply
    blind: TokenReply

    def tokens(self, parts: Iterable[tuple[int, int]]) -> list[int]:
        """Numbers of the tokens that have a character of some parts of the wanted answer."""
        ends = list(parts)
        return [
            number
            for number, (start, stop) in enumerate(self.spans)
            if any(start < last and first < stop for first, last in ends)
        ]


def sight_metrics(replies: Sequence[SightReply]) -> dict[str, Any]:
    """JSON values: "episodes", how many; "kinds", by kind and figure; "told", in words.

    A figure is {"seen", "blind": means or None, "seen_of", "blind_of": of how many, "difference": seen -
    blind, "interval": its ends at `LEVEL`, a bootstrap over episodes, or None}. Of every kind: exact, the
    share of answers that are wholly right; log_likelihood, in nats an answer, of the tokens that decide:
    those that neither the question nor the form of answers has; of a key-step all.
    where (of objects in view), scene and keystep: cell_exact, cell_near, cell_error, of answers that give
    cells: the shares of right ones, and of those at most one beside, and the mean distance, in cells, larger
    of both directions. what, of places with one thing whose name is a colour and a
    shape: colour, shape, the shares of right ones; name: of things with other names, the share that is right.
    """
    episodes = sorted({reply.episode for reply in replies})
    resample = _Bootstrap(episodes)
    kinds: dict[str, dict[str, Any]] = {}
    for kind in ASKED:
        values = _values_by_figure([reply for reply in replies if reply.kind == kind])
        if values:
            kinds[kind] = {name: _figure(sides, resample) for name, sides in values.items()}
    return {"episodes": len(episodes), "kinds": kinds, "told": told(kinds, len(episodes))}


Values = dict[Side, list[tuple[int, float]]]


def _values_by_figure(replies: Iterable[SightReply]) -> dict[str, Values]:
    """Figures by name; of each side (episode, value) of every answer that has one."""
    found: dict[str, Values] = defaultdict(lambda: {"seen": [], "blind": []})
    for reply in replies:
        sides: dict[Side, TokenReply] = {"seen": reply.seen, "blind": reply.blind}
        for side, given in sides.items():
            for name, value in _values(reply, given):
                found[name][side].append((reply.episode, float(value)))
    return found


def _values(reply: SightReply, given: TokenReply) -> Iterator[tuple[str, float]]:
    yield "exact", all(given.right)
    parts = (match.span() for match in _DECIDING[reply.kind].finditer(reply.wanted))
    yield "log_likelihood", sum(given.likelihoods[token] for token in reply.tokens(parts))
    if reply.kind in _PLACES:
        for distance in _distances(reply, given):
            yield "cell_exact", distance == 0
            yield "cell_near", distance <= 1
            yield "cell_error", distance
    elif reply.kind == "what" and (thing := _ONE_THING.match(reply.wanted)):
        for name, part in _name_parts(thing[1], thing.start(1)).items():
            yield name, all(given.right[token] for token in reply.tokens([part]))


def _distances(reply: SightReply, given: TokenReply) -> Iterator[int]:
    """Of each cell in the wanted answer, how far the one is that was given in its place, if one was."""
    if reply.kind in ("where", SCENE) and not given.right[0]:
        return  # it says that nothing is in view
    for place in _PLACES[reply.kind].finditer(reply.wanted):
        away = []
        for number in (1, 2):
            tokens = reply.tokens([place.span(number)])
            written = "".join(given.texts[token] for token in tokens).strip()
            if written.isdecimal():
                away.append(abs(int(written) - int(place[number])))
        if len(away) == 2:
            yield max(away)


def _name_parts(name: str, start: int) -> dict[str, tuple[int, int]]:
    """Colour and shape, or the whole name: where they stand in an answer that has it at `start`."""
    if both := _COLOUR_AND_SHAPE.fullmatch(name):
        spans = {"colour": both.span(1), "shape": both.span(2)}
        return {part: (start + first, start + last) for part, (first, last) in spans.items()}
    return {"name": (start, start + len(name))}


# ---- differences ------------------------------------------------------------------------------------------


class _Bootstrap:
    """Episodes drawn again and again, the same draws for every figure."""

    def __init__(self, episodes: Sequence[int]) -> None:
        self._rows = {episode: row for row, episode in enumerate(episodes)}
        count = len(episodes)
        self._times: np.ndarray | None = None  # (resamples, episodes): how often each is drawn
        if count >= FEWEST_EPISODES:
            rng = np.random.default_rng(0)
            self._times = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)

    def interval(self, values: Values) -> list[float] | None:
        """Of mean seen - mean blind: percentiles; None of too few episodes."""
        used = {episode for side in values.values() for episode, _ in side}
        if self._times is None or len(used) < FEWEST_EPISODES:
            return None
        seen, blind = (self._means(values[side]) for side in ("seen", "blind"))
        found = (seen - blind)[np.isfinite(seen - blind)]
        if not len(found):  # one side has no answer at all
            return None
        ends = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return [float(end) for end in ends]

    def _means(self, values: Iterable[tuple[int, float]]) -> np.ndarray:
        assert self._times is not None
        sums, counts = np.zeros(len(self._rows)), np.zeros(len(self._rows))
        for episode, value in values:
            sums[self._rows[episode]] += value
            counts[self._rows[episode]] += 1
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self._times @ sums) / (self._times @ counts)


def _figure(values: Values, resample: _Bootstrap) -> dict[str, Any]:
    seen, blind = (_mean(values[side]) for side in ("seen", "blind"))
    return {
        "seen": seen,
        "blind": blind,
        "seen_of": len(values["seen"]),
        "blind_of": len(values["blind"]),
        "difference": seen - blind if seen is not None and blind is not None else None,
        "interval": resample.interval(values),
    }


def _mean(values: Sequence[tuple[int, float]]) -> float | None:
    return float(np.mean([value for _, value in values])) if values else None


# ---- in words ---------------------------------------------------------------------------------------------


def told(kinds: Mapping[str, Mapping[str, Any]], episodes: int) -> list[str]:
    """Whether pictures matter, and which parts of them are seen. Figures as of `sight_metrics`."""
    if episodes < FEWEST_EPISODES:
        return [
            f"Whether pictures matter is not known: of {FEWEST_EPISODES} episodes or more it would be,"
            f" these are {episodes}."
        ]
    signs = {
        kind: {name: _sign(name, figure) for name, figure in figures.items()}
        for kind, figures in kinds.items()
    }
    return [_whole(signs, episodes), *_parts(kinds, signs)]


def _whole(signs: Mapping[str, Mapping[str, int]], episodes: int) -> str:
    sure = f"({LEVEL:.1%}, over {episodes} episodes)"
    said: dict[str, list[str]] = {words: [] for words in (BETTER, LIKELIER, WORSE, SAME)}
    for kind, by_name in signs.items():
        shares = [sign for name, sign in by_name.items() if name != "log_likelihood"]
        said[_words(shares, by_name["log_likelihood"])].append(kind)
    if len(said[SAME]) == len(signs):
        return f"Pictures change nothing: seen and blind differ by no more than the intervals {sure}."
    return f"Pictures matter {sure}: {_listed(said)}."


def _words(shares: Sequence[int], likelihood: int) -> str:
    if 1 in shares:
        return BETTER
    if -1 in shares or likelihood < 0:
        return WORSE
    return LIKELIER if likelihood > 0 else SAME


def _parts(kinds: Mapping[str, Mapping[str, Any]], signs: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Which of cell, colour and shape are seen, where they were asked about."""
    looked_at = {
        "cell": ("where", ("cell_exact", "cell_near", "cell_error")),
        "colour": ("what", ("colour",)),
        "shape": ("what", ("shape",)),
    }
    said: dict[str, list[str]] = {"seen": [], "no better than blind": [], "not known": []}
    for part, (kind, names) in looked_at.items():
        figures = kinds.get(kind, {})
        known = [name for name in names if name in figures and figures[name]["interval"] is not None]
        if any(name in figures for name in names):
            better = any(signs[kind][name] > 0 for name in known)
            said["seen" if better else "no better than blind" if known else "not known"].append(part)
    if any(said.values()):
        yield f"Parts: {_listed(said)}."


def _sign(name: str, figure: Mapping[str, Any]) -> int:
    """1: better with the picture, -1: worse, 0: no difference beyond the interval."""
    if figure["interval"] is None:
        return 0
    low, high = figure["interval"]
    sign = int(low > 0) - int(high < 0)
    return -sign if name in _LESS_IS_BETTER else sign


def _listed(said: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{words}: {', '.join(names)}" for words, names in said.items() if names)
