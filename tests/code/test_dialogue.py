"""The planner's training texts: what is asked, what is answered, and that both can be read back."""

from __future__ import annotations

import pytest
from code_programs import programs
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep.code.dialogue import (
    KEYSTEP_REQUEST,
    human_text,
    parse_human,
    parse_reply,
    planner_examples,
)
from keystep.code.grammar import CodeError, parse
from keystep.code.trace import Memory, Segment, codes_from_segments, comment, is_keystep

PROMPT = "Place the red cube left of the blue hexagon"
PICK = "pick(get_actor('red cube'))"
STORE = "pose_dict['T'] = free_space(get_actor('red cube'))\nmove3d(pose_dict['T'])"
TRICKY = [
    "pick(get_actor('a; b'))",
    "pick(get_actor('; '))\n# ; done(); \\; \\",
    "done()\n",
    "\n\ndone()\n\n# Past actions:",
    "done()  # Please give a keystep reply",
]
KEYSTEPS = st.sampled_from([PICK, STORE, *TRICKY]) | programs(3).map(lambda made: made.text).filter(
    lambda text: is_keystep(text) and "<image>" not in text
)
WILD = st.text(st.sampled_from("ab;\\ \n#'<>")).filter(is_keystep)
PROMPTS = st.text(min_size=1).filter(lambda text: text.isprintable() and "<image>" not in text)


def trace_of(keysteps: list[tuple[str, int]]) -> tuple[list[str], list[bool]]:
    parts, start = [], 0
    for code, steps in keysteps:
        parts.append(Segment(start, start + steps, code))
        start += steps
    return codes_from_segments(parts)


# ---- what is asked


def test_the_text_of_a_question() -> None:
    assert human_text(PROMPT, []) == f"<image>\n{PROMPT}\nPast actions:\n"
    assert human_text(PROMPT, [PICK, STORE, "done()"], wants_keystep=True) == (
        f"<image>\n{PROMPT}\nPast actions:\n{PICK}; {STORE}; done()\nPlease give a keystep reply"
    )
    assert human_text(PROMPT, ["pick(get_actor('a;b'))"]).endswith("\npick(get_actor('a\\;b'))")


@given(PROMPTS, st.lists(KEYSTEPS | WILD, max_size=5), st.booleans())
@settings(max_examples=300, deadline=None)
def test_questions_are_read_back(prompt: str, memory: list[str], wants_keystep: bool) -> None:
    text = human_text(prompt, memory, wants_keystep)
    assert parse_human(text) == (prompt, tuple(memory), wants_keystep)


@given(st.text(st.sampled_from("a;\\ \n#")), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_two_questions_mean_the_same(past: str, wants_keystep: bool) -> None:
    text = f"<image>\np\nPast actions:\n{past}" + f"\n{KEYSTEP_REQUEST}" * wants_keystep
    try:
        found = parse_human(text)
    except ValueError:
        return
    assert human_text(*found) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<image>",
        f"<image>\n{PROMPT}",
        f"<image>\n{PROMPT}\nPast actions:",
        f"{PROMPT}\nPast actions:\n{PICK}",
        f"<image>\n{PROMPT}\npast actions:\n{PICK}",
        f"<image>\n\nPast actions:\n{PICK}",
        f"<image>\n{PROMPT}\nPast actions:\n{PICK};{PICK}",
        f"<image>\n{PROMPT}\nPast actions:\n{PICK}; ",
        f"<image>\n{PROMPT}\nPast actions:\n; {PICK}",
        f"<image>\n{PROMPT}\nPast actions:\n{PICK}\\",
        f"<image>\n{PROMPT}\nPast actions:\n{PICK}\\n",
        f"<image>\n{PROMPT}\nPast actions:\n# {PICK}",
        f"<image>\n{PROMPT}\nPast actions:\n{KEYSTEP_REQUEST}",
        f"<image>\n{PROMPT}\nPast actions:\n{PICK}\n{KEYSTEP_REQUEST}\n{KEYSTEP_REQUEST}",
    ],
)
def test_other_text_is_no_question(text: str) -> None:
    with pytest.raises(ValueError, match=r"(text|prompt|memory.*): expected"):
        parse_human(text)


def test_what_could_not_be_read_back_is_not_written() -> None:
    for prompt in ("", "two\nlines", "a\rb", "a\tb", "a\x00", "a\u2028b", "\ud800", "a\u202eb"):
        with pytest.raises(ValueError, match="prompt: expected one line of text"):
            human_text(prompt, [])
    for code in ("done()\r", "pick(get_actor('a\tb'))", "done()\n\x1b[2J"):
        with pytest.raises(ValueError, match=r"memory\[1\]: expected one line of text, all of it printable"):
            human_text(PROMPT, [PICK, code])
    for code in ("", "# done()", f"done()\n{KEYSTEP_REQUEST}"):
        with pytest.raises(ValueError, match=r"memory\[1\]: expected the code of a key-step"):
            human_text(PROMPT, [PICK, code])


def test_a_question_has_one_picture() -> None:
    with pytest.raises(ValueError, match="prompt: expected text without <image>, got 'Pick the <image> up'"):
        human_text("Pick the <image> up", [])
    with pytest.raises(ValueError, match=r"memory\[1\]: expected text without <image>"):
        human_text(PROMPT, [PICK, "done()\npick(get_actor('<image>'))"])


# ---- what is answered


def test_a_reply_is_a_keystep_or_goes_on() -> None:
    reply = parse_reply(STORE)
    assert (reply.code, reply.keystep, reply.statements) == (STORE, True, parse(STORE))
    reply = parse_reply(comment(STORE))
    assert (reply.code, reply.keystep, reply.statements) == (comment(STORE), False, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: expected code, got an empty reply"),
        (" \n", "line 1, column 1: expected code, got an empty reply"),
        ("I would pick up the cube.", "line 1, column 25: expected names"),
        (f"{PICK}\nfly()", "line 2, column 1: expected one of get_actor"),
        ("pick(get_actor('red cu", "line 1, column 16: expected a string that ends in its line"),
        ("# pick\t", "line 1, column 7: expected printable ASCII"),
    ],
)
def test_a_reply_that_is_no_code_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(CodeError) as caught:
        parse_reply(text)
    assert message in str(caught.value)


LONGEST = [  # at the limit of 2000 characters, on few and on as many lines as there may be
    "done()".ljust(2000),
    "\n".join(["done()"] * 31) + "\n#" + "x" * (2000 - 31 * 7 - 1),
    "done()" + "\n" * 31 + " " * (2000 - 6 - 31),
]


@pytest.mark.parametrize("code", LONGEST)
def test_what_may_begin_may_go_on(code: str) -> None:
    assert len(code) == 2000 and parse_reply(code).keystep
    assert not parse_reply(comment(code)).keystep
    for text in (code + "x", comment(code + "x")):
        with pytest.raises(CodeError, match="expected at most 2000 characters, got 2001"):
            parse_reply(text)


@given(programs(3).map(lambda made: made.text), st.integers(1990, 2010))
@settings(max_examples=60, deadline=None)
def test_a_reply_and_its_comment_have_the_same_limit(code: str, size: int) -> None:
    code = f"{code}\n#".ljust(size, "x")

    def is_allowed(text: str) -> bool:
        try:
            parse_reply(text)
        except CodeError:
            return False
        return True

    if is_keystep(code):
        assert is_allowed(code) == is_allowed(comment(code)) == (len(code) <= 2000)


# ---- whole traces


def test_the_training_texts_of_a_trace() -> None:
    codes, keysteps = trace_of([(STORE, 2), (PICK, 1)])
    found = [
        (example.step, example.human, example.assistant, example.keystep)
        for example in planner_examples(PROMPT, codes, keysteps, keystep_requests=True)
    ]
    assert found == [
        (0, human_text(PROMPT, []), STORE, True),
        (0, human_text(PROMPT, [], True), STORE, True),
        (1, human_text(PROMPT, [STORE]), comment(STORE), False),
        (2, human_text(PROMPT, [STORE]), PICK, True),
        (2, human_text(PROMPT, [STORE], True), PICK, True),
    ]


@given(PROMPTS, st.lists(st.tuples(KEYSTEPS, st.integers(1, 4)), max_size=6), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_trace_can_be_rebuilt_from_its_training_texts(
    prompt: str, made: list[tuple[str, int]], requests: bool
) -> None:
    codes, keysteps = trace_of(made)
    examples = planner_examples(prompt, codes, keysteps, requests)
    plain = [example for example in examples if not parse_human(example.human).wants_keystep]
    asked = [example for example in examples if parse_human(example.human).wants_keystep]
    assert [example.step for example in plain] == list(range(len(codes)))
    memory = Memory()
    replayed = []
    for example in plain:
        assert parse_human(example.human) == (prompt, tuple(memory.instructions), False)
        reply = parse_reply(example.assistant)
        assert reply.keystep == example.keystep == memory.update(reply.code)
        replayed.append((reply.code, reply.keystep))
    assert replayed == list(zip(codes, keysteps, strict=True))
    assert memory.instructions == [code for code, _ in made]
    steps = [step for step, keystep in enumerate(keysteps) if keystep]
    assert [example.step for example in asked] == (steps if requests else [])
    for index, example in enumerate(asked):  # the key-step mode alone knows all key-steps, too
        assert parse_human(example.human).memory == tuple(memory.instructions[:index])
        assert example.keystep and example.assistant == memory.instructions[index]


def test_what_is_no_trace_has_no_training_texts() -> None:
    with pytest.raises(ValueError, match=r"codes\[1\]: expected '# done"):
        planner_examples(PROMPT, ["done()", "# pick()"], [True, False], False)
    assert planner_examples(PROMPT, [], [], True) == []
