"""The text of code: one tokeniser for both checks, limits that are tested first, and no endless programs."""

from __future__ import annotations

import ast
import io
import random
import tokenize
import warnings
from itertools import repeat
from pathlib import Path

import pytest
from code_attacks import ATTACKS
from code_programs import Program, Spy, programs
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep.code import characters
from keystep.code.characters import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_LINES,
)
from keystep.code.executor import IDLE_CALLS, Executor
from keystep.code.grammar import CodeError, Statement, format_statements, parse
from keystep.code.outcome import Outcome
from keystep.commands import oracle_episode
from keystep.data import DatasetError
from keystep.suites.tabletop import replay

# ---- whatever is accepted is what it seems to be


def check_accepted(text: str, statements: tuple[Statement, ...]) -> None:
    """What every reader of code may rely on, found out by other means than those of the parser."""
    assert len(text) <= MAX_LENGTH and text.count("\n") < MAX_LINES
    assert all(character == "\n" or " " <= character <= "~" for character in text)
    lines = [statement.line for statement in statements]
    assert lines == sorted(set(lines)), "two statements on a line"
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            assert "\\" not in token.string
        if token.type == tokenize.STRING:
            assert "\n" not in token.string and token.string[0] in "'\""
        if token.type == tokenize.OP:
            depth += (token.string in "([") - (token.string in ")]")
            assert depth <= MAX_DEPTH and token.string in "()[],=-"
    canonical = format_statements(statements)
    assert canonical.count("\n") + 1 == max(len(statements), 1) and len(canonical) <= MAX_CHARACTERS
    assert parse(canonical) == statements and format_statements(parse(canonical)) == canonical
    assert len(ast.parse(text).body) == len(ast.parse(canonical).body) == len(statements)


def check(text: str) -> bool:
    """Whether it is accepted; nothing but CodeError comes out, and no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            statements = parse(text)
        except CodeError as error:
            assert 1 <= error.line <= max(text.count("\n") + 1, MAX_LINES + 1) and error.column >= 1
            return False
    check_accepted(text, statements)
    return True


@given(programs())
@settings(max_examples=200, deadline=None)
def test_valid_programs_round_trip(program: Program) -> None:
    assert check(program.text)


PIECES = [
    *("'", '"', "'''", '"""', "''", "#", "\\", ";", "\n", " ", "\\\n", "\t", "\r", "\f", "\v", "\0"),
    *("(", ")", "[", "]", "{", "}", ",", "=", "==", "-", "+", ".", ":", ":=", "*", "@", "!", "$", "?", "`"),
    *("0", "1", "1.5", "1e5", "1e400", "0x1", "1_0", "1j", "07", "x", "r", "b", "f", "u", "rb", "not", "if"),
    *("done()", "pick(", "get_actor(", "'a'", "pose_dict['k'] = ", "x = ", "get_pose(get_actor('a'))"),
    *("\ufeff", "\u2028", "\u00e9", "\ud800", "# -*- coding: utf-7 -*-", "True", "lambda", "None", "..."),
]


@given(st.lists(st.sampled_from(PIECES), max_size=14))
@settings(max_examples=1500, deadline=None)
def test_pieces_of_code_are_refused_or_are_what_they_seem(pieces: list[str]) -> None:
    check("".join(pieces))


def test_damaged_programs_are_refused_or_are_what_they_seem() -> None:
    """6,000 damaged texts, the same in every run; some are still code."""
    rng = random.Random(0)
    sound = [
        "pose_dict['T'] = free_space_next_to(get_actor('red cube'), get_actor('b', (3, -4)), 'left')\n",
        "touch(get_actor('''red cube'''), topple=True)  # then\n",
        'a = get_actor("it\'s")\nb = [a, get_actor("x" \'y\')]\ntopple_structure(b)\nrotate(a, -30.5)\n',
        "# pick(get_actor('x'))\n\nx = 1\n",
    ]
    accepted = 0
    for _ in range(6000):
        text = "".join(rng.choices(sound, k=rng.randint(1, 3)))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(["", rng.choice(PIECES)]) + text[at + rng.choice([0, 0, 1, 3]) :]
        accepted += check(text)
    assert accepted > 100


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: repr(text[:40]))
def test_attacks_behind_and_before_code(text: str) -> None:
    """Next to code that is sound they are refused, too, unless only their size was wrong."""
    for whole in (f"done()\n{text}", f"{text}\ndone()"):
        check(whole)


def test_a_string_may_have_three_quotes_in_its_line() -> None:
    assert parse("pick(get_actor('''red cube'''))") == parse('pick(get_actor("""red""" \'\' " cube"))')


# ---- sizes


@pytest.mark.parametrize("text", ["# a\n" * 10**6, "\n" * 10**6, "x" * 10**7, "'''\n" * 10**6, "(" * 10**6])
def test_length_is_tested_before_anything_else(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def looked_at(*_: object) -> None:
        raise AssertionError("the text was looked at")

    for name in ("_without_marks", "_check_characters", "_check_tokens"):
        monkeypatch.setattr(characters, name, looked_at)
    with pytest.raises(CodeError, match=f"expected at most 2000 characters, got {len(text)}"):
        parse(text)


def test_a_file_of_code_has_a_limit(tmp_path: Path) -> None:
    file = tmp_path / "code.txt"
    file.write_text("# a\n\n" * 300_000)
    with pytest.raises(ValueError, match="code: expected a file of at most 1048576 bytes, got more"):
        oracle_episode.read_code(file)
    file.write_bytes(b"done()\n\xff")
    with pytest.raises(ValueError, match=r"code: expected UTF-8 text in .*code\.txt"):
        oracle_episode.read_code(file)
    file.write_bytes(b"# a\r\n\r\ndone()\r\n")
    assert oracle_episode.read_code(file) == [oracle_episode.KeyStep("done()", 3)]


def test_recorded_code_has_a_limit() -> None:
    replay._require_code("d", ["done()", "# " + "x" * 2000])
    with pytest.raises(DatasetError, match="d: code: frame 1: expected at most 2000 characters, got 5000"):
        replay._require_code("d", ["done()", "x" * 5000])


# ---- programs that never move


STORE = "pose_dict['T'] = get_pose(get_actor('red cube'))"


@pytest.mark.parametrize(
    ("text", "texts", "line"),
    [
        (STORE, IDLE_CALLS // 3, 1),
        ("x = 1", IDLE_CALLS, 1),
        ("", IDLE_CALLS, 1),
        ("# " + STORE, IDLE_CALLS, 1),
        ("\n".join([STORE] * 30), IDLE_CALLS // 61, 13),
    ],
)
def test_texts_that_never_move_the_robot_come_to_an_end(text: str, texts: int, line: int) -> None:
    spy = Spy()
    executor = Executor(spy)
    for _ in range(texts):
        assert executor.run(text).outcome is Outcome.SUCCESS
    for _ in range(2):
        result = executor.run(text)
        assert result.outcome is Outcome.TIMEOUT and result.steps == 0
        assert f"expected a control step within {IDLE_CALLS} calls, got none" in result.reason
    assert len(spy.log) <= IDLE_CALLS


def test_a_control_step_renews_the_budget() -> None:
    executor = Executor(Spy())
    for _ in range(3 * IDLE_CALLS):
        assert executor.run(STORE).outcome is Outcome.SUCCESS
        assert executor.run("done()").outcome is Outcome.SUCCESS


def test_the_longest_text_is_within_the_budget() -> None:
    actors = ",".join(["get_actor('a')"] * 120)
    spy = Spy()
    assert Executor(spy).run(f"topple_structure([{actors}])").outcome is Outcome.SUCCESS
    assert len(spy.log) == 121


def test_an_episode_of_such_texts_ends() -> None:
    pytest.importorskip("mani_skill", reason="ManiSkill is not installed")
    from keystep.suites.tabletop.oracle.episodes import run

    env = oracle_episode.open_env("Pick")
    observation, _ = env.reset(seed=0)
    name = env.scenario.bodies[0].thing.name
    code = f"pose_dict['T'] = free_space(get_actor({name!r}))"
    episode = run(env, observation, lambda oracle: repeat(code))
    assert episode.result.outcome is Outcome.TIMEOUT and "control step within" in episode.reason
    assert (episode.success, episode.steps, episode.trace.codes) == (False, 0, [])
    env.close()
