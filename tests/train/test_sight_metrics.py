"""Figures of what is seen, from answers whose mistakes are known."""

from __future__ import annotations

import re

import pytest

from keystep.train.sight_metrics import FEWEST_EPISODES, SightReply, TokenReply, sight_metrics

EPISODES = 12
SURE = "(99.8%, over 12 episodes)"
_TOKEN = re.compile(r" ?\w+|[^\w]")


def given(wanted: str, written: str) -> TokenReply:
    """A token is likely (log -1) where it is right, else unlikely (log -5)."""
    pairs = list(zip(_TOKEN.findall(wanted), _TOKEN.findall(written), strict=True))
    right = tuple(one == other for one, other in pairs)
    likelihoods = tuple(-1.0 if one else -5.0 for one in right)
    return TokenReply((*(other for _, other in pairs), ""), (*right, True), (*likelihoods, -1.0))


def reply(kind: str, wanted: str, seen: str, blind: str, episode: int = 0) -> SightReply:
    spans = [match.span() for match in _TOKEN.finditer(wanted)]
    ends = (len(wanted), len(wanted))
    sides = given(wanted, seen), given(wanted, blind)
    return SightReply(kind, episode, wanted, (*spans, ends), *sides)


def everywhere(*question: str) -> list[SightReply]:
    return [reply(*question, episode) for episode in range(EPISODES)]


def test_cells_of_answers_that_give_some() -> None:
    wanted = "The red cube is at (3, 4)."
    replies = [
        reply("where", wanted, wanted, "The red cube is at (9, 5)."),
        reply("where", wanted, "The red cube is at (4, 3).", "No red cube is at (3, 4)."),
        reply("where", wanted, "The red cube is at (3, is).", "The red cube is at (5, 4)."),
        reply("where", "No red cube is visible.", "No red cube is visible.", "The red cube is visible."),
    ]
    found = sight_metrics(replies)["kinds"]["where"]
    assert (found["exact"]["seen"], found["exact"]["blind"], found["exact"]["seen_of"]) == (0.5, 0.0, 4)
    assert (found["cell_exact"]["seen_of"], found["cell_exact"]["blind_of"]) == (2, 2)
    assert (found["cell_exact"]["seen"], found["cell_exact"]["blind"]) == (0.5, 0.0)
    assert (found["cell_near"]["seen"], found["cell_near"]["blind"]) == (1.0, 0.0)
    assert (found["cell_error"]["seen"], found["cell_error"]["blind"]) == (0.5, (6 + 2) / 2)
    assert found["cell_error"]["difference"] == -3.5
    # The first word and the two numbers; of the last answer the first word alone.
    assert found["log_likelihood"]["seen"] == pytest.approx(-(3 + 11 + 7 + 1) / 4)


def test_of_several_things_each_cell_counts() -> None:
    wanted = "The 2 red cubes are at (3, 4) and (10, 11)."
    written = "The 3 red cubes are at (3, 6) and (10, 11)."
    found = sight_metrics([reply("where", wanted, wanted, written)])["kinds"]["where"]
    assert found["cell_error"] == found["cell_error"] | {"seen_of": 2, "seen": 0.0, "blind": 1.0}
    assert found["log_likelihood"]["seen"] == -6  # The, 2 and four numbers


BIG = "A big red cube is at (3, 4)."


def test_colour_and_shape_apart_and_other_names_as_a_whole() -> None:
    replies = [
        reply("what", "A red cube is at (3, 4).", "A red bowl is at (3, 4).", "A blue cube is at (3, 4)."),
        reply("what", BIG, "A big red bowl is at (3, 4).", BIG),
        reply("what", "Nothing is at (3, 4).", "Nothing is at (3, 4).", "A is at (3, 4)."),
        reply("what", *["A red cube and a blue bowl are at (3, 4)."] * 3),
    ]  # fmt: skip
    found = sight_metrics(replies)["kinds"]["what"]
    assert {name: (one["seen"], one["blind"], one["seen_of"]) for name, one in found.items()} == {
        "exact": (0.5, 0.5, 4),
        "log_likelihood": (-(1 + 1 + 5 + 3 + 5 + 1 + 7) / 4, -(1 + 5 + 1 + 4 + 5 + 7) / 4, 4),
        "colour": (1.0, 0.0, 1),
        "shape": (0.0, 1.0, 1),
        "name": (0.0, 1.0, 1),
    }


@pytest.mark.parametrize(
    ("kind", "wanted", "decide"),
    [
        ("is_at", "Yes, a red cube is at (3, 4).", 1),
        ("is_at", "Yes, 2 red cubes are at (3, 4).", 2),
        ("is_at", "No, nothing is at (3, 4).", 3),  # the comma between them, too
        ("is_at", "No, a red cube is at (3, 4).", 5),
        ("visible", "No, no red cube is visible.", 1),
        ("visible", "Yes, 2 red cubes are visible.", 2),
        ("count", "12 red cubes are visible.", 1),
        ("keystep", "pick(get_actor('red cube'))", 10),
    ],
)
def test_tokens_that_decide(kind: str, wanted: str, decide: int) -> None:
    found = sight_metrics([reply(kind, wanted, wanted, wanted)])["kinds"][kind]
    assert found["log_likelihood"]["seen"] == -decide


def test_cells_of_keysteps() -> None:
    wanted = "pick(get_actor('red cube', actor_pos=(3, 4)))"
    other = "push(get_actor('red cube', actor_pos=(3, 9)))"
    found = sight_metrics([reply("keystep", wanted, wanted, other)])["kinds"]["keystep"]
    assert (found["cell_error"]["seen"], found["cell_error"]["blind"]) == (0.0, 5.0)
    assert (found["exact"]["seen"], found["exact"]["blind"]) == (1.0, 0.0)


WHAT, CELL = "A red cube is at (3, 4).", "The red cube is at (3, 4)."


def test_what_is_read_is_told() -> None:
    replies = [
        *everywhere("what", WHAT, WHAT, "A blue cube is at (3, 4)."),
        *everywhere("where", CELL, "The red cube is at (3, 8).", "The red cube is at (3, 8)."),
    ]
    found = sight_metrics(replies)
    assert found["told"] == [
        f"Pictures matter {SURE}: better with them: what; they change nothing about: where.",
        "Parts: seen: colour; no better than blind: cell, shape.",
    ]
    assert found["kinds"]["what"]["colour"]["interval"] == [1.0, 1.0]
    assert found["kinds"]["what"]["shape"]["interval"] == [0.0, 0.0]


def test_nearer_cells_are_seen_and_farther_ones_are_worse() -> None:
    near, far = "The red cube is at (4, 4).", "The red cube is at (9, 4)."
    assert sight_metrics(everywhere("where", CELL, near, far))["told"][1] == "Parts: seen: cell."
    assert sight_metrics(everywhere("where", CELL, far, near))["told"] == [
        f"Pictures matter {SURE}: worse with them: where.",
        "Parts: no better than blind: cell.",
    ]


def test_pictures_change_nothing_unless_more_than_chance() -> None:
    """Of 12 episodes one is better with its picture, as by chance; then all are."""
    wrong = "A blue cube is at (3, 4)."
    replies = everywhere("what", WHAT, wrong, wrong)
    lucky = [reply("what", WHAT, WHAT, wrong, 3), *(one for one in replies if one.episode != 3)]
    nothing = f"Pictures change nothing: seen and blind differ by no more than the intervals {SURE}."
    for some in (replies, lucky):
        found = sight_metrics(some)
        assert found["told"] == [nothing, "Parts: no better than blind: colour, shape."]
    low, high = sight_metrics(lucky)["kinds"]["what"]["exact"]["interval"]
    assert low == 0 < 1 / 12 < high
    assert "better with them: what" in sight_metrics(everywhere("what", WHAT, WHAT, wrong))["told"][0]


def test_only_likelier_is_said() -> None:
    replies = [
        SightReply("count", episode, "1 cube.", ((0, 1), (1, 7), (7, 7)), *sides)
        for episode in range(EPISODES)
        for sides in [[TokenReply(("2", "", ""), (False, True, True), (log, 0, 0)) for log in (-1.0, -2.0)]]
    ]
    assert sight_metrics(replies)["told"] == [f"Pictures matter {SURE}: only likelier: count."]


def test_few_episodes_say_nothing() -> None:
    replies = everywhere("what", WHAT, WHAT, "A blue cube is at (3, 4).")[: FEWEST_EPISODES - 1]
    found = sight_metrics(replies)
    assert found["told"] == [
        "Whether pictures matter is not known: of 10 episodes or more it would be, these are 9."
    ]
    assert found["kinds"]["what"]["colour"] == {
        "seen": 1.0, "blind": 0.0, "seen_of": 9, "blind_of": 9, "difference": 1.0, "interval": None,
    }  # fmt: skip
    assert sight_metrics([])["kinds"] == {}
