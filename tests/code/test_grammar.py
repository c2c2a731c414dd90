"""The code language: what it accepts, what it refuses and where."""

from __future__ import annotations

import copy
import inspect
import re
import subprocess
import sys
import warnings

import pytest
from code_attacks import ATTACKS
from code_programs import PARAMETERS, Program, programs
from hypothesis import given, settings

from keystep.code import characters, grammar
from keystep.code.executor import Api
from keystep.code.grammar import API, CodeError, format_statements, parse
from keystep.code.language import ActorList, AssignLocal, AssignPose, Call, Literal, Name, PoseRef

CUBE = "get_actor('red cube')"
ACTOR = Call("get_actor", (("name", Literal("red cube")),))
VALUES = {
    "actor": CUBE,
    "pose": f"get_pose({CUBE})",
    "number": "-30.5",
    "string": "'red cube'",
    "direction": "'left'",
    "bool": "True",
    "position": "(3, -1)",
    "actors": f"[{CUBE}]",
}


def refusal(text: str) -> CodeError:
    with pytest.raises(CodeError) as caught:
        parse(text)
    error = caught.value
    assert str(error) == f"line {error.line}, column {error.column}: {error.problem}"
    assert 1 <= error.line <= text.count("\n") + 1 and error.column >= 1
    return error


def outcome(text: str) -> tuple | CodeError:
    try:
        return parse(text)
    except CodeError as error:
        return error


# ---- the table


def test_the_table_is_the_interface_that_the_executor_calls() -> None:
    assert set(API) == set(PARAMETERS)
    for name, function in API.items():
        signature = inspect.signature(getattr(Api, name))
        parameters = list(signature.parameters.values())[1:]
        assert [parameter.name for parameter in parameters] == [of.name for of in function.parameters]
        for parameter, of in zip(parameters, function.parameters, strict=True):
            assert (parameter.default is inspect.Parameter.empty) == of.required
            assert of.required or parameter.default == of.default
        assert (signature.return_annotation == "CallResult") == function.is_action


def test_every_parameter_accepts_its_types_and_no_other() -> None:
    for function, parameters in PARAMETERS.items():
        for name, kinds in parameters.items():
            fitting = kinds.rstrip("?").split("|")
            for kind, value in VALUES.items():
                given = {other: VALUES[of.split("|")[0]] for other, of in parameters.items() if of[-1] != "?"}
                given[name] = value
                call = f"{function}({', '.join(f'{key}={text}' for key, text in given.items())})"
                text = call if API[function].is_action else f"x = {call}"
                fits = kind in fitting or (kind, fitting) == ("direction", ["string"])
                assert isinstance(outcome(text), tuple) == fits, text


def test_only_poses_are_stored_and_anything_is_named() -> None:
    for kind, value in VALUES.items():
        assert isinstance(outcome(f"pose_dict['k'] = {value}"), tuple) == (kind == "pose")
        assert parse(f"x = {value}")


# ---- what is read


def test_the_tree_of_a_keystep() -> None:
    text = "pose_dict['T'] = rotate_z(get_pose(get_actor('red cube')), -90)\n\nmove3d(pose_dict['T'])  # go"
    store, move = parse(text)
    pose = Call("get_pose", (("actor", ACTOR),))
    assert store == AssignPose("T", Call("rotate_z", (("pose", pose), ("angle", Literal(-90)))))
    assert move == Call("move3d", (("target", PoseRef("T")),))
    assert (store.line, store.column, move.line, move.column) == (1, 1, 3, 1)
    assert isinstance(move, Call) and (move.arguments[0][1].line, move.arguments[0][1].column) == (3, 8)


def test_spelling_does_not_matter() -> None:
    same = [
        "touch(get_actor('red cube', (3, -1)), topple=True)",
        'touch(topple=True, actor=get_actor(actor_pos=(3, - 1), name="red cube"))',
        "\n\n# a comment\ntouch(\n  get_actor('red ' 'cube', (3, -1,)),\n  topple = True,\n)\n",
        "touch((get_actor('''red cube''', ((3), -1))), topple=(True))",
    ]
    assert len({format_statements(parse(text)) for text in same}) == 1
    assert all(parse(text) == parse(same[0]) for text in same)
    assert format_statements(parse(same[1])) == "touch(get_actor('red cube', actor_pos=(3, -1)), topple=True)"


def test_local_names_keep_their_type_and_their_text() -> None:
    text = "side = 'left'\nother = side\na = get_actor('red cube')\nb = [a, a]\n"
    tree = parse(text + "p = free_space_next_to(a, a, other)\ntopple_structure(b)")
    assert tree[0] == AssignLocal("side", Literal("left"))
    assert tree[3] == AssignLocal("b", ActorList((Name("a"), Name("a"))))
    wrong = refusal("side = 'up'\na = get_actor('x')\np = free_space_next_to(a, a, side)")
    assert (wrong.line, wrong.column) == (3, 30) and "got 'up'" in wrong.problem
    assert refusal("a = 'x'\npick(a)").problem == "expected actor as actor of pick, got string"
    assert parse("a = 'x'\na = get_actor(a)\npick(a)")  # the same name for another type


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# pick(get_actor('x'))", "  \n# -*- coding: rot13 -*-\n   # a"]
)
def test_comments_and_blank_lines_are_no_statements(text: str) -> None:
    assert parse(text) == ()


@given(programs())
@settings(max_examples=300, deadline=None)
def test_valid_programs_are_read_and_written_back(program: Program) -> None:
    tree = parse(program.text)
    assert len(tree) == len(program.calls)
    text = format_statements(tree)
    again = parse(text)
    assert again == tree and repr_without_places(again) == repr_without_places(tree)  # 1, 1.0, True differ
    assert format_statements(again) == text
    stored = bool(grammar.POSE_ASSIGNMENT.search(program.text))
    assert stored == any(isinstance(statement, AssignPose) for statement in tree)


def repr_without_places(tree: object) -> str:
    return re.sub(r"(line|column)=\d+(, )?", "", repr(tree))


# ---- what is refused


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("pick('x')", 1, 6, "expected actor as actor of pick, got string"),
        (f"pick({CUBE})\nmove3d(\n  5)", 3, 3, "expected actor or pose as target of move3d, got number"),
        (f"fly({CUBE})", 1, 1, "expected one of get_actor, "),
        (f"place({CUBE})", 1, 1, "expected place with pose, got none"),
        (f"touch({CUBE}, pull=True)", 1, 30, "expected a parameter of touch (actor, push, topple), got pull"),
        (f"touch({CUBE}, True, push=True)", 1, 36, "expected push once, got it again"),
        (f"pick({CUBE}, actor={CUBE})", 1, 29, "expected actor once, got it again"),
        (f"pick(actor={CUBE}, actor={CUBE})", 1, 35, "expected actor once, got it again"),
        (f"pick({CUBE}, {CUBE})", 1, 29, "expected at most 1 arguments of pick, got more"),
        (CUBE, 1, 1, "expected an action call or an assignment, got get_actor(..), whose value is unused"),
        (f"x = pick({CUBE})", 1, 5, "expected a value, got pick(..), an action, which has none"),
        (f"place({CUBE}, pick({CUBE}))", 1, 30, "expected a value, got pick(..)"),
        ("pick(x)", 1, 6, "expected a name that an earlier line assigned, got x"),
        ("x = x", 1, 5, "expected a name that an earlier line assigned, got x"),
        ("pick(pick)", 1, 6, "expected a name that an earlier line assigned, got pick"),
        ("pick(pose_dict)", 1, 6, "expected a name that an earlier line assigned, got pose_dict"),
        ("pose_dict = 3", 1, 1, "expected a name that the language does not use, got pose_dict"),
        ("get_actor = 3", 1, 1, "expected a name that the language does not use, got get_actor"),
        ("a = b = 3", 1, 5, "expected one target, got 2 targets"),
        ("a, b = 1, 2", 1, 1, "expected pose_dict['key'] = .. or name = .., got tuple"),
        ("[a] = 1", 1, 1, "expected pose_dict['key'] = .. or name = .., got list"),
        ("(a) = 1", 1, 2, "expected pose_dict['key'] = .. or name = .., got name"),
        (f"pose_dict[1] = get_pose({CUBE})", 1, 1, "got another target"),
        (f"pose_dict[('a')] = get_pose({CUBE})", 1, 1, "got another target"),
        (f"(pose_dict['a']) = get_pose({CUBE})", 1, 2, "got another target"),
        (f"pose_dict[#\n'a'] = get_pose({CUBE})", 1, 1, "got another target"),
        (f"poses['a'] = get_pose({CUBE})", 1, 1, "got another target"),
        ("move3d(pose_dict[x])", 1, 18, "expected a string as key of pose_dict, got name"),
        ("move3d(pose_dict[0])", 1, 18, "expected a string as key of pose_dict, got constant"),
        ("move3d(poses['a'])", 1, 8, "expected pose_dict['key'], got something else in front of '['"),
        ("topple_structure([])", 1, 18, "expected at least one actor in the list, got none"),
        (f"topple_structure([{CUBE}, 'x'])", 1, 42, "expected actor as item of a list, got string"),
        ("pick(get_actor('x', (1, 2, 3)))", 1, 21, "expected a position: two whole numbers"),
        ("pick(get_actor('x', (1.0, 2)))", 1, 21, "expected a position: two whole numbers"),
        ("pick(get_actor('x', (True, 2)))", 1, 22, "expected number as part of a position, got bool"),
        ("n = 1\npick(get_actor('x', (n, 2)))", 2, 21, "expected a position: two whole numbers"),
        ("pick(get_actor('x', [1, 2]))", 1, 22, "expected actor as item of a list, got number"),
        ("pick(get_actor('x', None))", 1, 21, "expected a value, got NoneType"),
        ("touch(get_actor('x'), 1)", 1, 23, "expected bool as push of touch, got number"),
        ("rotate(get_actor('x'), True)", 1, 24, "expected number as angle of rotate, got bool"),
        ("rotate(get_actor('x'), 1e7)", 1, 24, "expected a number of at most 1e+06, got a larger one"),
        ("rotate(get_actor('x'), -1e999)", 1, 24, "expected a number of at most 1e+06, got a larger one"),
        (f"rotate(get_actor('x'), {'9' * 400})", 1, 24, "expected a number of at most 1e+06"),
        ("n = 3\nm = -n", 2, 5, "expected a number after '-', got -n"),
        ("pick(get_actor(''))", 1, 16, "expected a string of 1 to 64 characters, got 0"),
        (f"pick(get_actor('{'x' * 65}'))", 1, 16, "expected a string of 1 to 64 characters, got 65"),
        ("pick(get_actor(\"it's\"#\n'\"'))", 1, 16, "expected a string with one kind of quotes inside"),
        ("pick(", 1, 5, "expected a complete statement, got '(' was never closed"),
        ("pick(get_actor('x')))", 1, 21, "expected a complete statement, got unmatched ')'"),
        (f" pick({CUBE})", 1, 1, "expected a complete statement, got unexpected indent"),
        (f"done()\n  pick({CUBE})", 2, 2, "expected a complete statement, got unexpected indent"),
        ("done", 1, 1, "expected an action call or an assignment, got name"),
        ("'done()'", 1, 1, "expected an action call or an assignment, got constant"),
        ("done()()", 1, 1, "expected the name of a function, got call"),
    ],
)
def test_refusals_say_where_and_why(text: str, line: int, column: int, problem: str) -> None:
    error = refusal(text)
    assert (error.line, error.column) == (line, column), str(error)
    assert problem in error.problem


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: repr(text[:40]))
def test_whatever_is_more_than_the_language_is_refused(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refusal(text)


def test_what_looks_dangerous_may_stand_in_strings_and_comments() -> None:
    assert parse("pick(get_actor('__import__(os); {0} # x'))  # type: ignore; import os")
    assert parse("# -*- coding: utf-7 -*-\ndone()  # type: (int) -> str") == (Call("done", ()),)


def test_limits_are_met_from_both_sides() -> None:
    assert parse("done()".ljust(characters.MAX_CHARACTERS))
    assert "expected at most 2000 characters" in refusal("done()".ljust(2001)).problem
    assert parse("\n" * 31 + "done()")
    assert "expected at most 32 lines, got 33" in refusal("\n" * 32 + "done()").problem
    assert parse("x = ((((('a')))))") and parse("x = (((((('a'))))))")
    assert refusal("x = ((((((('a')))))))").column == 11
    assert parse("pick(get_actor('((((((((('))  # ((((((((")  # brackets that are no code do not count
    assert parse("x = 1000000\ny = -1e6")
    assert refusal("x = 1000001").column == 5
    assert parse(f"pick(get_actor('{'x' * 64}'))")


@pytest.mark.parametrize("text", [None, b"done()", 3, ["done()"]])
def test_only_text_is_code(text: object) -> None:
    with pytest.raises(CodeError, match=f"expected text, got {type(text).__name__}"):
        parse(text)  # type: ignore[arg-type]


def test_a_refusal_survives_the_way_between_processes() -> None:
    error = copy.copy(refusal("done(1)"))  # by the same means as between processes
    assert (str(error), error.line, error.column) == (str(refusal("done(1)")), 1, 6)


def test_the_language_needs_neither_simulator_nor_torch() -> None:
    modules = ["grammar", "executor", "trace", "dialogue"]
    program = (
        "import sys; "
        + "; ".join(f"import keystep.code.{module}" for module in modules)
        + "; print({'sapien', 'mani_skill', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
