"""The instruction corpus: many ways to say each of the ten tasks, and other ways kept to test with.

A sentence is built from three choices: a *carrier* ("Could you ..?"), a *frame* ("pick the .. up") and
*words* for its slots. No held-out sentence equals a training sentence. A third each of them have

  * a carrier that training lacks, which may have words that training lacks,
  * a frame that training lacks (word order and function words), or
  * a combination of words that is not chosen for the slots of a training sentence. Each word occurs in
    training; some combinations of verb, colour and thing occur, too, in frames that spell out their verb.

Which sentences are taken from the many possible ones is decided by a hash of their text: no random numbers.
Needs no simulator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from heapq import nsmallest
from itertools import product
from string import Formatter

from keystep.suites.franka3blocks import TASKS, BlockTask
from keystep.suites.franka3blocks.layout import CUBES
from keystep.suites.franka3blocks.tasks import FAMILIES

PHRASINGS_PER_TASK = 400
HELD_OUT_PER_KIND = 20
HELD_OUT_KINDS = ("carrier", "frame", "words")

COLOURS = {
    "red": ("red", "crimson", "scarlet", "ruby"),
    "green": ("green", "emerald", "lime", "jade"),
    "blue": ("blue", "azure", "navy", "cobalt"),
}
THINGS = ("block", "cube", "box", "brick", "piece", "object")
VERBS = {
    "lift": ("lift", "raise", "pick up", "hoist", "elevate", "hold up", "lift up", "heave"),
    "push": ("push", "shove", "slide", "move", "nudge", "shift", "drag", "scoot"),
    "stack": ("stack", "put", "place", "set", "pile", "lay"),
}
WHERE = ("to the {}", "{}", "{}wards", "{}ward", "towards the {}", "to the {} side", "a bit to the {}")
ONTO = ("on top of", "on", "onto", "upon", "over")
WHICH = ("one", "any")
OTHER = ("another", "a second", "the other", "a different")
HEAP = ("tower", "stack", "pile")
DERIVED = {"things": "thing", "verb_it": "verb"}  # a slot, and the slot that it is another form of

CARRIERS = (
    "{}.",
    "Please {}.",
    "{}, please.",
    "Could you {}?",
    "Can you {} please?",
    "I want you to {}.",
    "Now {}.",
    "Robot, {}.",
    "Your task is to {}.",
    "Go ahead and {}.",
    "I would like you to {}, thank you.",
    "If you can, {}.",
    "{} now.",
    "{} right now!",
    "{} for me!",
)
HELD_OUT_CARRIERS = (
    "Would you kindly {}?",
    "Next, {}.",
    "I need you to {}!",
    "Try to {}.",
    "Hey, {} right away.",
)
FRAMES = {
    "lift": (
        "{verb} the {colour} {thing}",
        "{verb} the {thing} that is {colour}",
        "pick the {colour} {thing} up",
        "bring the {colour} {thing} up",
        "{verb} the {colour} {thing} off the table",
        "{verb} the {colour} {thing} into the air",
        "grab the {colour} {thing} and {verb_it}",
        "take the {colour} {thing} and {verb_it}",
        "hold the {colour} {thing} in the air",
        "make sure the {colour} {thing} is lifted",
    ),
    "push": (
        "{verb} the {colour} {thing} {where}",
        "{verb} the {thing} that is {colour} {where}",
        "take the {colour} {thing} and {verb_it} {where}",
        "grab the {colour} {thing} and {verb_it} {where}",
        "make the {colour} {thing} go {where}",
        "see that the {colour} {thing} goes {where}",
        "{verb} the {colour} {thing} along the table {where}",
        "let the {colour} {thing} be moved {where}",
    ),
    "stack": (
        "{verb} {which} {thing} {onto} {other} {thing}",
        "{verb} {which} {thing} {onto} {other} one",
        "stack two {things}",
        "stack the {things}",
        "pile the {things} up",
        "build a {heap} of {things}",
        "make a {heap} out of two {things}",
        "{verb} the {things} {onto} each other",
        "take {which} {thing} and {verb_it} {onto} {other} {thing}",
    ),
}
HELD_OUT_FRAMES = {
    "lift": (
        "grab the {colour} {thing}, then {verb_it} off the table",
        "hold the {colour} {thing} up high",
        "take the {thing} that is {colour} and {verb_it}",
        "get the {colour} {thing} up in the air",
    ),
    "push": (
        "grab the {colour} {thing}, then {verb_it} {where}",
        "{verb} {where} the {colour} {thing}",
        "get the {colour} {thing} moved {where}",
        "make sure the {thing} that is {colour} goes {where}",
    ),
    "stack": (
        "grab {which} {thing}, then {verb_it} {onto} {other} one",
        "use two {things} to make a {heap}",
        "make {which} {thing} sit {onto} {other} {thing}",
        "pick up {which} {thing} and {verb_it} down {onto} {other}",
    ),
}


@cache
def phrasings(task: str) -> tuple[str, ...]:
    """Training sentences of a task, its canonical instruction first. Raises KeyError for an unknown task."""
    canonical = TASKS[task].instruction
    others = _chosen(_sentences(TASKS[task], None) - {canonical}, PHRASINGS_PER_TASK - 1)
    return (canonical, *others)


@cache
def held_out(task: str) -> tuple[str, ...]:
    """Sentences of a task that no training sentence equals; their kinds take turns (`HELD_OUT_KINDS`)."""
    taken = list(phrasings(task))
    for kind in HELD_OUT_KINDS:
        taken += _chosen(_sentences(TASKS[task], kind) - set(taken), HELD_OUT_PER_KIND)
    found = taken[PHRASINGS_PER_TASK:]
    turns = (found[first::HELD_OUT_PER_KIND] for first in range(HELD_OUT_PER_KIND))
    return tuple(sentence for turn in turns for sentence in turn)


def meaning(task: str) -> dict[str, int]:
    """What the sentences tell, as numbers; the last colour means none, side 0 means none."""
    told = TASKS[task]
    colour = len(CUBES) if told.cube is None else told.cube
    return {"verb": FAMILIES.index(told.family), "colour": colour, "side": told.direction % 3}


def _chosen(sentences: frozenset[str], count: int) -> list[str]:
    return nsmallest(count, sentences, key=_digest)


def _sentences(task: BlockTask, held_out_kind: str | None) -> frozenset[str]:
    """Every sentence whose choices are all known, or all but the one of `held_out_kind`."""
    carriers = HELD_OUT_CARRIERS if held_out_kind == "carrier" else CARRIERS
    frames = HELD_OUT_FRAMES if held_out_kind == "frame" else FRAMES
    return frozenset(
        _capitalised(carrier.format(frame.format(**words)))
        for frame in frames[task.family]
        for words in _words(task, frame)
        if _is_held_out(words) == (held_out_kind == "words")
        for carrier in carriers
    )


def _words(task: BlockTask, frame: str) -> Iterator[dict[str, str]]:
    """Every way to fill the slots of a frame; slots that the frame lacks have one value."""
    side = "left" if task.direction > 0 else "right"
    choices = {
        "verb": VERBS[task.family],
        "colour": COLOURS[CUBES[task.cube]] if task.cube is not None else ("",),
        "thing": THINGS if task.cube is None else (*THINGS, "one"),
        "where": tuple(where.format(side) for where in WHERE),
        "which": WHICH,
        "onto": ONTO,
        "other": OTHER,
        "heap": HEAP,
    }
    slots = {name for _, name, _, _ in Formatter().parse(frame) if name}
    slots = {DERIVED.get(name, name) for name in slots}
    used = {name: values for name, values in choices.items() if name in slots}
    for values in product(*used.values()):
        words = dict(zip(used, values, strict=True))
        yield words | {"things": _plural(words["thing"]), "verb_it": _with_it(words.get("verb", ""))}


def _is_held_out(words: dict[str, str]) -> bool:
    """A fifth of the triples, but none with the words of the canonical instructions."""
    triple = (words.get("verb", ""), words.get("colour", ""), words["thing"])
    plain = triple[0] in VERBS and triple[1] in (*COLOURS, "") and triple[2] == "block"
    return not plain and _digest("|".join(triple))[0] < 256 // 5


def _plural(thing: str) -> str:
    return thing + ("es" if thing.endswith("x") else "s")


def _with_it(verb: str) -> str:
    """To raise: raise it; to pick up: pick it up."""
    head, *particle = verb.split(" ")
    return " ".join((head, "it", *particle))


def _capitalised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
