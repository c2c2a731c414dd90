"""Prompt layouts: data in, data out; memory only appends; nothing but slots is replaced."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystep.code.dialogue import human_text
from keystep.code.prompt import DEFAULT, LAYOUTS, PAPER, Prompt, PromptLayout, Special

LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=12)
MEMORY = st.lists(
    st.sampled_from(["pick(get_actor('a'))", "done()", "pose_dict['A'] = x\nmove3d(y)", "{image}"])
)
BOTH = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))


def test_the_default_puts_what_only_grows_first() -> None:
    prompt = Prompt("Pick up the red cube", ("a()", "b()"), request=True)
    assert DEFAULT.text(prompt) == (
        "Pick up the red cube\na()\nb()\n<proprioception><image>Please give a keystep reply\n"
    )
    assert "".join(DEFAULT.reply("b()")) == "b()<end>"
    asked = Prompt("Pick up the red cube", ("a()",), question="What is at (1, 2)?")
    assert DEFAULT.text(asked).endswith("<image>What is at (1, 2)?\n")
    assert DEFAULT.without("proprioception").text(prompt).count("<") == 1


def test_the_papers_is_the_text_of_its_dialogue() -> None:
    memory = ("move3d(get_actor('a'))", "pick(get_actor('a'))")
    for count, request in ((0, False), (1, True), (2, True), (2, False)):
        prompt = Prompt("Pick up the a", memory[:count], request)
        assert PAPER.text(prompt) == human_text("Pick up the a", memory[:count], request) + "\n"
    assert PAPER.text(Prompt("any", memory, question="Where?")) == "<image>\nWhere?\n"


@BOTH
@given(LINE, st.sampled_from(["", "\n", "Robot: ", "}"]))
@settings(max_examples=30, deadline=None)
def test_the_planner_writes_nothing_but_its_reply(layout: PromptLayout, reply: str, before: str) -> None:
    """What a layout puts before the reply stands in the prompt, as nobody can write it at run time."""
    assert layout.reply(reply) == (reply, Special.END)
    layout = replace(layout, templates={**layout.templates, "reply": before + "{reply}{end}"})
    assert layout.reply(reply) == (reply, Special.END)
    for prompt in (Prompt("a", ("b()",), request=True), Prompt("a"), Prompt("a", question="Where?")):
        without = replace(layout, templates={**layout.templates, "reply": "{reply}{end}"})
        assert layout.text(prompt) == without.text(prompt) + before


@BOTH
@given(LINE, MEMORY, st.booleans())
@settings(max_examples=60, deadline=None)
def test_memory_only_appends(layout: PromptLayout, task: str, memory: list[str], request: bool) -> None:
    """Up to where the memory ends, the prompt of m key-steps is the beginning of that of m + 1."""

    def until_memory(count: int) -> list[tuple[object, ...]]:
        sections = list(layout.sections(Prompt(task, tuple(memory[:count]), request)))
        last = max(place for place, (name, _) in enumerate(sections) if name in ("task", "memory"))
        return [pieces for _, pieces in sections[: last + 1]]

    for count in range(len(memory)):
        shorter, longer = until_memory(count), until_memory(count + 1)
        assert longer[: len(shorter)] == shorter and len(longer) == len(shorter) + 1


@BOTH
@given(LINE, MEMORY)
@settings(max_examples=60, deadline=None)
def test_text_that_spells_a_slot_or_a_special_stays_text(
    layout: PromptLayout, task: str, memory: list[str]
) -> None:
    for nasty in (task, "{image}", "<image>", "{task} {end}", "<end>"):
        pieces = layout.pieces(Prompt(nasty, tuple(memory)))
        specials = [piece for piece in pieces if isinstance(piece, Special)]
        assert len(specials) == len({"image", "proprioception"} & set(layout.order))
        assert any(nasty in piece for piece in pieces if not isinstance(piece, Special))


@BOTH
def test_a_layout_comes_back_from_its_json(layout: PromptLayout) -> None:
    found = PromptLayout.from_dict(json.loads(json.dumps(layout.to_dict())))
    assert found == layout and found.to_dict() == layout.to_dict()


@BOTH
def test_a_memory_has_code(layout: PromptLayout) -> None:
    for index in (0, 1):
        with pytest.raises(ValueError, match=r"^keystep: expected code, got ''$"):
            layout.keystep(index, "")


@pytest.mark.parametrize("task", ["", "two\nlines", "a\rb"])
def test_a_task_is_one_line(task: str) -> None:
    with pytest.raises(ValueError, match="task: expected one line of text, got"):
        DEFAULT.pieces(Prompt(task))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"order": ("task", "image")}, "order: expected the reply last"),
        ({"order": ()}, "order: expected the reply last, got none"),
        ({"order": ("task", "task", "reply")}, "order: expected each section once"),
        ({"question_order": ("colour", "reply")}, "question_order: expected some of .*, got 'colour'"),
        ({"templates": {}}, "templates: expected task, keystep"),
        ({"templates": {**DEFAULT.templates, "task": "no slot"}}, "templates.task: expected {task}"),
        ({"templates": {**DEFAULT.templates, "task": "{task}{task}"}}, "templates.task: expected {task}"),
        ({"templates": {**DEFAULT.templates, "between": "{image}"}}, "templates.between: expected no slot"),
        ({"templates": {**DEFAULT.templates, "request": "{ "}}, "templates.request: expected no slot"),
        (
            {"templates": {**DEFAULT.templates, "reply": "{end}{reply}"}},
            "templates.reply: expected {reply}, a",
        ),
        (
            {"templates": {**DEFAULT.templates, "reply": "{reply}{end}\n"}},
            "templates.reply: expected {reply}, a",
        ),
    ],
)
def test_a_bad_layout_names_the_field(changes: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replace(DEFAULT, **changes)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 2}, "version: expected 1, got 2"),
        ({"format": None}, "format: expected 'keystep-prompt', got None"),
        ({"version": True}, "version: expected 1, got True"),
        ({"name": 5}, "name: expected text, got 5"),
        ({"order": 5}, "order: expected a list, got 5"),
        ({"order": "reply"}, "order: expected a list, got 'reply'"),
        ({"question_order": [["reply"]]}, r"question_order\[0\]: expected text, got \['reply'\]"),
        ({"templates": [1]}, r"templates: expected an object, got \[1\]"),
        ({"templates": {**DEFAULT.templates, 5: "a"}}, "templates: expected task, .*, 5"),
        ({"templates": {**DEFAULT.templates, "task": 5}}, "templates.task: expected text, got 5"),
    ],
)
def test_another_format_is_refused(change: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        PromptLayout.from_dict({**DEFAULT.to_dict(), **change})
    with pytest.raises(ValueError, match=r"keystep-prompt: expected an object, got \[\]"):
        PromptLayout.from_dict([])  # type: ignore[arg-type]
    lacking = {key: value for key, value in DEFAULT.to_dict().items() if key != "order"}
    with pytest.raises(ValueError, match="order: expected one, got none"):
        PromptLayout.from_dict(lacking)
