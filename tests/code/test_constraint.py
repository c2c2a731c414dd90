"""What a constrained reply may say: all replies of the suite, and nothing that is no code."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import islice

import pytest
from code_attacks import ATTACKS
from code_programs import Program, programs
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep.code.characters import MAX_CHARACTERS, MAX_LINES
from keystep.code.constraint import Constraint, ReplyPlace
from keystep.code.grammar import CodeError, format_statements, parse
from keystep.code.language import API, Function, Parameter, Type
from keystep.code.tokenizer import Tokenizer
from keystep.code.trace import comment, uncommented
from keystep.suites import suite_named
from keystep.suites.base import texts, tokenizer
from keystep.suites.tabletop.tasks import TASKS

GRID = 32
WORDS = tokenizer(suite_named("tabletop"), GRID)
CONSTRAINT = Constraint(WORDS, GRID)
SNIPPETS = re.findall(
    r"\S+",
    """pick( get_actor(' ') ')) pose_dict[' '] ] [ ( ) , = ' " - 1 0 . 1.50 -0 007 1e5 33 # ; \\ True False
    None done() name= actor_pos=( near= push=True direction='left' 'left' 'up' (-1,-1) (-1,""",
)
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from([*SNIPPETS, " ", "\n", "# "]), max_size=12).map(
    "".join
)


def canonical(text: str) -> bool:
    """By the grammar: as format_statements writes it, but for what docs/constrained.md leaves out."""
    if text.startswith("#"):
        try:
            text = uncommented(text)
        except ValueError:
            return False
    try:
        statements = parse(text)
    except CodeError:
        return False
    if not statements or format_statements(statements) != text:
        return False
    outside = re.sub(r"""'[^']*'|"[^"]*\"""", "''", text)
    if re.search(r"^(?!pose_dict)\w+ = ", outside, re.MULTILINE):
        return False  # local names
    cells = [tuple(map(int, cell)) for cell in re.findall(r"\((-?\d+), (-?\d+)\)", outside)]
    if any(cell != (-1, -1) and not all(0 <= part <= GRID for part in cell) for cell in cells):
        return False
    numbers = re.findall(r"(?<![\w.])-?[\d.]+(?:e[-+]?\d+)?(?![\w.])", outside)
    return all(re.fullmatch(r"-?\d{1,6}(\.\d{1,3})?", number) for number in numbers)


def test_the_suite_s_replies_are_code_in_as_many_tokens_as_they_have() -> None:
    for episode in islice(texts(suite_named("tabletop"), None, GRID), len(TASKS)):
        for code in episode.keysteps:
            for reply in (code, comment(code)):
                ids = WORDS.encode(reply)
                place = CONSTRAINT.start
                for at, token in enumerate(ids):
                    assert CONSTRAINT.allows(place, token, len(ids) + 1 - at), (reply, WORDS.decode(ids[:at]))
                    place = after(place, token)
                assert place.complete and CONSTRAINT.allows(place, WORDS.end, 1)
                assert canonical(reply)


def after(place: ReplyPlace, token: int) -> ReplyPlace:
    found = CONSTRAINT.after(place, token)
    assert found is not None
    return found


def walked(rng: random.Random, limit: int, ends: float = 0.3) -> str:
    """A reply of tokens chosen at random: few kinds of strings, so that it gets somewhere."""
    place, ids = CONSTRAINT.start, list[int]()
    for left in range(limit, 0, -1):
        tokens = rng.sample(range(len(WORDS)), len(WORDS))
        token = next(token for token in tokens if CONSTRAINT.allows(place, token, left))
        if place.complete and rng.random() < ends:
            token = WORDS.end
        if token == WORDS.end:
            return WORDS.decode(ids)
        ids.append(token)
        place = after(place, token)
    raise AssertionError("a reply without an end")


@pytest.mark.parametrize("limit", [2, 3, 9, 20, 45, 96])
def test_any_walk_ends_in_code(limit: int) -> None:
    rng = random.Random(limit)
    for _ in range(12 if limit > 20 else 30):
        text = walked(rng, limit)
        assert canonical(text), text


@pytest.mark.parametrize("seed", range(4))
def test_logits_that_want_something_else_end_in_code(seed: int) -> None:
    """Likeliest is any token, or never the end, or what opens brackets and strings, or what is no text."""
    rng = random.Random(seed)
    liked = [range(len(WORDS)), [WORDS.end], [*map(ord, "([,'\" \n")], range(0x80, 0x100)][seed]
    for limit in (2, 7, 30):
        place, ids = CONSTRAINT.start, list[int]()
        for left in range(limit, 0, -1):
            logits = [rng.gauss(0, 1) for _ in range(len(WORDS))]
            for one in liked:
                logits[one + 4 if seed > 1 else one] += -50 if seed == 1 else 50
            token = CONSTRAINT.likeliest(logits, place, left)
            better = [number for number, logit in enumerate(logits) if logit > logits[token]]
            assert not any(CONSTRAINT.allows(place, number, left) for number in better)
            if token == WORDS.end:
                break
            ids.append(token)
            place = after(place, token)
        assert token == WORDS.end and canonical(WORDS.decode(ids))


def check(text: str) -> bool:
    found = CONSTRAINT.accepts(text)
    assert found == canonical(text), text
    assert CONSTRAINT.accepts(comment(text)) == (found and not text.startswith("#"))
    return found


@given(programs(3))
@settings(max_examples=200, deadline=None)
def test_programs_are_accepted_as_they_are_formatted(program: Program) -> None:
    check(program.text)
    check(format_statements(parse(program.text)))


@given(st.integers(0, 2**32), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_replies_are_accepted_exactly_where_they_are_code(seed: int, data: st.DataObject) -> None:
    text = walked(random.Random(seed), 40)
    tokens = re.findall(r"\w+|\s+|.", text)
    for _ in range(data.draw(st.integers(0, 2))):
        at, removed = data.draw(st.integers(0, len(tokens))), data.draw(st.integers(0, 2))
        pieces = st.sampled_from([*SNIPPETS, " ", "\n", "a"])
        tokens[at : at + removed] = data.draw(st.lists(pieces, max_size=2))
    check("".join(tokens))


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_any_text(text: str) -> None:
    check(text)


def test_attacks() -> None:
    for text in ATTACKS:
        if len(text) < 5000 and not re.search("[\ud800-\udfff]", text):
            assert not check(text)


@pytest.mark.parametrize(
    "number",
    ["0", "7", "-7", "90", "-22.5", "0.0", "-0.0", "0.05", "0.125", "999999", "999999.999", "100000.5"],
)
def test_numbers(number: str) -> None:
    assert check(f"rotate(get_actor('a'), {number})")


@pytest.mark.parametrize(
    "number",
    ["-0", "00", "1.50", "1.", ".5", "1000000", "0.0001", "1e5", "+1", "1_0", "-", "-a", "0.000", "5.00"],
)
def test_no_numbers(number: str) -> None:
    assert not check(f"rotate(get_actor('a'), {number})")


def test_strings() -> None:
    good = ["a", "a" * 64, '"', "red cube", "# a; b", "(["]
    for text, accepted in [*((text, True) for text in good), ("", False), ("a" * 65, False), ("\\", False)]:
        assert check(f"pick(get_actor('{text}'))") == accepted, text
    for text, accepted in [
        ("it's", True),
        ("'", True),
        ("a", False),
        ("'" * 64, True),
        ("a" * 64 + "'", False),
    ]:
        assert check(f'pick(get_actor("{text}"))') == accepted, text


def test_cells_and_brackets() -> None:
    for cell, accepted in [("0, 0", True), ("32, 9", True), ("-1, -1", True)]:
        assert check(f"pick(get_actor('a', actor_pos=({cell})))") == accepted
    for cell in ("33, 0", "-1, 0", "0,0", "00, 1", "0, 0, 0"):
        assert not check(f"pick(get_actor('a', actor_pos=({cell})))")
    turned = "get_pose(get_actor('a'))"
    for _ in range(3):
        turned = f"rotate_z({turned}, 5)"
    assert check(f"move3d({turned})") and not check(f"move3d(rotate_z({turned}, 5))")
    assert not check(f"move3d({turned})".replace("'a'", "'a', actor_pos=(1, 2)"))  # seven inside one another
    assert check("move3d(pose_dict['a'])") and not check("x = 1\nrotate(get_actor('a'), x)")


def test_lines_and_characters() -> None:
    assert check("\n".join(["done()"] * MAX_LINES)) and not check("\n".join(["done()"] * (MAX_LINES + 1)))
    actor = "get_actor('red cube')"
    one = f"topple_structure([{actor}])"
    many = f"topple_structure([{', '.join([actor] * ((MAX_CHARACTERS - len(one)) // (len(actor) + 2) + 1))}])"
    spare = MAX_CHARACTERS - len(many)
    assert 0 < spare < 23 and check(many)
    full = many.replace("red cube", "red cube" + "x" * spare, 1)
    assert check(full) and not check(full.replace("red cubex", "red cubexx", 1))


def test_nothing_is_begun_that_the_tokens_left_cannot_end() -> None:
    """By a slow search in a small table."""
    words = Tokenizer(("done()", "pick(", "get_actor('", "a", "'))", "red"))
    found = Constraint(words, 3)
    place: ReplyPlace | None = found.start
    assert found.shortest == 2
    for token, left in (("pick(", 5), ("get_actor('", 4), ("red", 3), ("'))", 2)):
        ids = words.encode(token) if token != "red" else [words.encode("red")[0]]
        assert place is not None and found.allows(place, ids[0], left)
        assert not found.allows(place, ids[0], left - 1)
        place = found.after(place, ids[0])
    assert place is not None and place.complete


def test_another_api() -> None:
    """It is data: here an action with optional parameters alone, of several types."""
    parameters = (
        Parameter("where", (Type.POSITION, Type.STRING), required=False),
        Parameter("mode", (Type.STRING,), required=False, choices=("slow", "slower")),
        Parameter("how", (Type.BOOL, Type.NUMBER), required=False),
    )
    found = Constraint(WORDS, 3, {"go": Function("go", parameters)})
    for good in (
        "go()",
        "go(where=(3, 0))",
        "go(where='x', how=1.5)",
        "go(mode='slow', how=True)",
        "go(how=0)",
    ):
        assert found.accepts(good) and found.accepts(f"{good}\n{good}"), good
    for bad in (
        "go('x')",
        "go(how=0, where='x')",
        "go(mode='slowest')",
        "go(where=(4, 0))",
        "go(, how=0)",
        "done()",
    ):
        assert not found.accepts(bad), bad


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"^grid: expected 1 to 100 cells, got 0$"):
        Constraint(WORDS, 0)
    first = replace(API["touch"].parameters[1], name="first")
    wrong = {"touch": Function("touch", (first, *API["touch"].parameters))}
    with pytest.raises(ValueError, match=r"^api.touch: expected optional parameters last, got "):
        Constraint(WORDS, GRID, wrong)
