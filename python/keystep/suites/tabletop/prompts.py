"""How tasks are put in words. The first phrasing of each is that of ClevrSkills, with names for its pictures.

`{A}` is the name of the body in role A. Of a role of several, `{S}` gives "x, y, z" and `{S_stack}` gives
"y on x, z on y".
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from keystep.suites.tabletop.scenario import Scenario

_PLACE = ("{A} {where} {B}", "the {A} {where} the {B}", "the {A} so that it is {where} the {B}")
_STACK = ("Stack {S_stack}", "Build a stack: {S_stack}", "From bottom to top, pile up {S}")
_ROTATE = (
    "Rotate {A} {degrees} degrees {turn}",
    "Turn the {A} {turn} by {degrees} degrees",
    "Give the {A} a {turn} turn of {degrees} degrees",
)
_FOLLOW = ("Put {A} on {S[0]} then on {S[1]}", "Move the {A} first to the {S[0]}, then to the {S[1]}")
_SWAP = ("Swap positions of {A} and {B}", "Let the {A} and the {B} change places",
         "Move the {A} to where the {B} is and the {B} to where the {A} is")  # fmt: skip
_KINDS = "a {one} {example} is {adjective} than a {two} {example}"

PHRASINGS: dict[str, tuple[str, ...]] = {
    "Pick": ("Pick up the {A}", "Grab the {A}", "Lift the {A}"),
    "PlaceOnTop": ("Place {A} on {B}", "Put the {A} on top of the {B}", "Set the {A} down on the {B}"),
    "PlaceNextTo": tuple("Place " + phrase for phrase in _PLACE),
    "Rotate": _ROTATE,
    "ThrowAt": (
        "Throw the {A} to the {B}",
        "Hit the {B} with the {A}",
        "Throw the {A} so that it hits the {B}",
    ),
    "ThrowToTopple": (
        "Throw the {A} to the {B} such that the {B} falls over",
        "Hit the {B} with the {A} such that the {B} falls over",
        "Knock the {B} over by throwing the {A}",
    ),
    "Touch": ("Touch {A}", "Touch the {A} without moving it", "Put the hand on the {A}"),
    "Push": ("Touch and push {A}", "Push the {A} away", "Shove the {A} without lifting it"),
    "Topple": ("Touch and topple {A}", "Topple the {A}", "Knock the {A} over"),
    "PickPlaceOnTop": (
        "Pick and place {A} on {B}", "Pick up the {A} and put it on the {B}", "Move the {A} onto the {B}",
    ),
    "PickPlaceNextTo": tuple("Pick and place " + phrase for phrase in _PLACE),
    "FollowOrder": _FOLLOW,
    "FollowOrderRestore": (
        *(phrase + " and then restore" for phrase in _FOLLOW),
        "Bring the {A} to the {S[0]}, to the {S[1]} and back to where it was",
    ),
    "Neighbour": (
        "First put {A} in {B} and then put the object that was at its {side} in the same {B}",
        "Put the {A} in the {B}, then add the block that stood {where} it",
        "Into the {B} go the {A} and after it what was {where} it",
    ),
    "NovelAdjective": (
        _KINDS + ". Put the {adjective} {A} on {B}",
        _KINDS + ". Which {A} is {adjective}? Place it on the {B}",
    ),
    "NovelNoun": (
        "{A} is {noun} and {B} is {place}. Put {noun} on {place}",
        "The {A} is called a {noun}, the {B} a {place}. Place the {noun} on the {place}",
    ),
    "NovelNounAdjective": (
        "This is a {noun}: {A}, this is a {place}: {B}, and " + _KINDS + ". "
        "Put the {adjective} {noun} on {place}",
        "A {A} is a {noun}, the {B} is a {place}, and " + _KINDS + ". "
        "Place the {adjective} {noun} on the {place}",
    ),
    "RotateRestore": tuple(phrase + " and then restore" for phrase in _ROTATE),
    "RotateSymmetry": (
        "Rotate objects with {colour} texture {degrees} degrees {turn}",
        "Rotate identically textured objects {degrees} degrees {turn}",
        "Turn both {colour} blocks {turn} by {degrees} degrees",
    ),
    "SingleStack": _STACK,
    "ReverseStack": (
        "Stack {S} in the reversed order",
        "Pile up {S} the other way round, so that the last is the lowest",
        "In reversed order, make a stack of {S}",
    ),
    "SortByTexture": (
        "Place the objects in the identically textured areas",
        "Put every block in the area of its colour",
        "Sort the blocks into the areas by colour",
    ),
    "Swap": _SWAP,
    "ThrowOnto": (
        "Throw the {A} to the {B}", "Throw the {A} onto the {B}", "Toss the {A} so that it flies to the {B}",
    ),
    "PushToTarget": (
        "Push {A} towards {B}",
        "Without lifting it, bring the {A} closer to the {B}",
        "Shove the {A} towards the {B}",
    ),
    "BalanceScale": (
        "Place all the {name}s on the scale while keeping it in balance",
        "Put every {name} on the scale so that it stays level",
        "Share out the {name}s between the two plates until they balance",
    ),
    "StackSorted": (
        "Stack identically textured objects",
        "Place identically textured objects on top of each other",
        "Make one stack of the blocks of each colour",
    ),
    "StackTopple": tuple(phrase + " and then topple the stack" for phrase in _STACK),
    "SwapByPushing": tuple(phrase + " by pushing" for phrase in _SWAP),
    "SwapRotate": tuple(phrase + " while rotating them by {degrees} degrees {turn}" for phrase in _SWAP),
    "ThrowSort": (
        "Place the objects in the identically textured areas by throwing",
        "Throw every block to the area of its colour",
        "Sort the blocks by colour, throwing each to its area",
    ),
}  # fmt: skip


def prompt(task: str, rng: np.random.Generator, scenario: Scenario, words: Mapping[str, object]) -> str:
    """One of the task's phrasings, filled in from the roles and `words`."""
    phrasings = PHRASINGS[task]
    text = phrasings[int(rng.integers(len(phrasings)))]
    names: dict[str, object] = dict(words)
    for role, bodies in scenario.roles.items():
        if isinstance(bodies, int):
            names[role] = scenario.name(bodies)
            continue
        several = [scenario.name(body) for body in bodies]
        names[role] = Names(several)
        names[role + "_stack"] = ", ".join(f"{upper} on {lower}" for lower, upper in pairwise(several))
    filled = text.format(**names)
    return filled[0].upper() + filled[1:]


class Names(list[str]):
    """Prints as "x, y, z"."""

    def __format__(self, spec: str) -> str:
        return ", ".join(self)
