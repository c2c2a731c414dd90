"""Replies, greedy, stopped early and drafted: one text, whatever is cached."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_writers import CHARACTERS, LESSONS, Characters, looks, small, taught  # noqa: E402

from keystep.models.code_planner.network import CodePlanner  # noqa: E402
from keystep.models.code_planner.writing import WAYS, ReplyWriter, WrittenReply  # noqa: E402


def writer(name: str = "micro", **settings: object) -> ReplyWriter:
    planner = taught(name)
    return ReplyWriter(planner, Characters(planner.config.image_tokens), **{"limit": 24, **settings})


def answer(writing: ReplyWriter, lesson: int, way: str = "greedy", **settings: object) -> WrittenReply:
    prompt, seed, _ = LESSONS[lesson]
    return writing.write(
        writing.tokenizer.encode(prompt), *looks(writing.planner.config, 1, seed), way, **settings
    )


@pytest.mark.parametrize("name", ["micro", "micro-state"])
def test_it_writes_what_it_was_taught(name: str) -> None:
    """Prompts 1 and 2, and 3 and 4, differ in nothing but what is seen."""
    writing = writer(name)
    for lesson, (_, _, reply) in enumerate(LESSONS):
        found = answer(writing, lesson)
        assert (found.text, found.ended) == (reply, True)
        assert found.passes == len(reply) + 1


def test_what_is_cached_changes_nothing_but_the_work() -> None:
    """In any order of the prompts, each shares another beginning with the one before."""
    kept, fresh = writer(), writer(keep=False)
    rng = random.Random(0)
    for _ in range(12):
        lesson, way = rng.randrange(len(LESSONS)), rng.choice(WAYS)
        ways = {"way": way, "last": "#pick(a)", "early_stop": 8}
        ours, theirs = answer(kept, lesson, **ways), answer(fresh, lesson, **ways)
        assert (ours.ids, ours.text, ours.passes) == (theirs.ids, theirs.text, theirs.passes)
        assert ours.computed < theirs.computed or theirs.passes == 1


def test_the_memory_stays_in_the_cache() -> None:
    writing = writer()
    first, second = answer(writing, 1), answer(writing, 2)
    prompt, _, reply = LESSONS[2]
    shared = len("go\npick(a)\n")
    assert second.computed == len(writing.tokenizer.encode(prompt)) + len(reply) - shared
    assert first.text != second.text
    writing.reset()
    assert answer(writing, 2) != second  # computes all of it
    assert answer(writing, 2).text == second.text


@pytest.mark.parametrize("lesson", range(len(LESSONS)))
def test_a_draft_never_changes_the_text(lesson: int) -> None:
    plain = answer(writer(), lesson)
    rng = random.Random(lesson)
    drafts = [reply for _, _, reply in LESSONS]
    for _ in range(8):
        kept = plain.text[: rng.randrange(len(plain.text) + 1)]
        noise = "".join(rng.choices(CHARACTERS, k=rng.randrange(6)))
        found = answer(writer(), lesson, "draft", last=kept + noise, drafts=rng.sample(drafts, 2))
        assert (found.ids, found.text, found.ended) == (plain.ids, plain.text, plain.ended)
        assert found.passes <= plain.passes
    right = answer(writer(), lesson, "draft", last=plain.text)
    assert (right.text, right.passes) == (plain.text, 1)
    second = answer(writer(), lesson, "draft", last="#nothing", drafts=[plain.text])
    assert second.text == plain.text and second.passes <= 2


def test_an_early_stop_takes_the_last_keystep() -> None:
    last = "#place(b)\n#on"
    same = answer(writer(), 3, "early_stop", last=last, early_stop=5)
    assert (same.text, same.ended, same.passes) == (last, True, 5)
    other = answer(writer(), 2, "early_stop", last=last, early_stop=5)
    assert other.text == answer(writer(), 2).text == "place(b)"
    none = answer(writer(), 3, "early_stop", last="", early_stop=5)
    assert none.text == last and none.passes == len(last) + 1


def test_an_early_stop_is_wrong_only_where_another_reply_begins_alike() -> None:
    """The paper's own rule: the first L characters decide."""
    last = "#place(b)\n#on"
    assert answer(writer(), 4, "early_stop", last=last, early_stop=10).text == last
    assert answer(writer(), 4, "early_stop", last=last, early_stop=13).text == "#place(b)\n#off"
    long = answer(writer(), 3, "early_stop", last=last, early_stop=500)
    assert long.text == last and long.ended


@pytest.mark.parametrize("way", WAYS)
def test_an_endless_reply_ends_at_the_limit(way: str) -> None:
    found = answer(writer(limit=4), 0, way, last="pick(a) and on and on")
    assert (found.text, found.ended) == ("pick", False)


def test_refusals() -> None:
    writing = writer()
    seen, felt = looks(writing.planner.config, 1, 0)
    image = writing.tokenizer.encode("go<proprioception><image>")
    with pytest.raises(ValueError, match=r"^way: expected one of greedy, early_stop, draft, got 'beam'$"):
        writing.write(image, seen, felt, "beam")
    with pytest.raises(ValueError, match=r"^early_stop: expected at least 1 character, got 0$"):
        writing.write(image, seen, felt, early_stop=0)
    with pytest.raises(ValueError, match=r"^prompt: expected 1..1000 tokens \(context - limit\), got 1001$"):
        writing.write([4] * 1001)
    with pytest.raises(ValueError, match=r"^prompt: expected 1..1000 tokens .*, got 0$"):
        writing.write([])
    with pytest.raises(ValueError, match=r"^limit: expected at least 1 token, got 0$"):
        writer(limit=0)
    with pytest.raises(ValueError, match=r"^pictures: expected 1 .*, got 0$"):
        writing.write(image, None, felt)
    with pytest.raises(ValueError, match=r"^pictures: expected 0 .*, got 1$"):
        writing.write([4, 5], seen)
    assert answer(writing, 0).text == LESSONS[0][2]  # and goes on


def test_numbers_that_are_not_finite_are_told_and_forgotten() -> None:
    writing = writer()
    seen, felt = looks(writing.planner.config, 1, 0)
    with pytest.raises(FloatingPointError, match=r"^logits: expected finite numbers, got NaN or Inf$"):
        writing.write(writing.tokenizer.encode(LESSONS[0][0]), seen, felt * float("nan"))
    assert answer(writing, 0).text == LESSONS[0][2]


@pytest.mark.parametrize("felt", [True, False], ids=["felt", "no proprioception"])
def test_no_reply_has_a_token_that_is_no_text(felt: bool) -> None:
    """Also of a planner to which a special of its tokeniser means nothing, or with more ids than words."""
    torch.manual_seed(0)
    config = small()
    observation = config.observation if felt else config.observation[:1]
    planner = CodePlanner(replace(config, observation=observation, vocabulary=config.vocabulary + 3))
    words = Characters(config.image_tokens)
    never = set(words.no_text(config.vocabulary + 3)) - {config.end_id}
    raised = torch.zeros(config.vocabulary + 3)
    raised[sorted(never)] = 100.0
    planner.head.register_forward_hook(lambda _module, _given, logits: logits + raised)
    found = ReplyWriter(planner, words, limit=6).write([4, 5, 6])
    assert found.passes and len(never) == 6 and not never & set(found.ids)


def test_a_text_planner_without_any_picture() -> None:
    torch.manual_seed(0)
    config = small()
    writing = ReplyWriter(CodePlanner(config), Characters(config.image_tokens), limit=8)
    prompt = writing.tokenizer.encode("stack a on b")
    plain = writing.write(prompt)
    assert writing.write(prompt, way="draft", last=plain.text).ids == plain.ids
