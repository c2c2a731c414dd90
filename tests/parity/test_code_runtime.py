"""Whole episodes of a planner that writes code: C++ writes, remembers and finds key-steps as torch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from taught_code import CALLS, EPISODE, TASK, observed, taught_checkpoint, wanted

import keystep
from keystep.code.constraint import Constraint
from keystep.code.grammar import parse
from keystep.code.prompt import Prompt
from keystep.code.trace import Memory, comment, extract_memory_info, is_keystep
from keystep.export.code_bundle import export_code_bundle, load_code_planning
from keystep.export.code_golden import CodePlanning, seen_and_felt
from keystep.models.code_planner.writing import WAYS, ReplyWriter

LIMIT = 48
STEPS = (*EPISODE, 100, 101, 3, 0, 5)
"""Behind the episode some steps that the planner has never seen, or not there."""
Step = tuple[str | None, tuple[str, ...]]
"""A reply, None where it has no end, and the memory behind it."""


@pytest.fixture(scope="module", params=["micro", "micro-state", "pieces"])
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught_checkpoint(tmp_path_factory.mktemp("taught"), request.param)


@pytest.fixture(scope="module")
def planning(checkpoint: Path) -> CodePlanning:
    return load_code_planning(checkpoint, LIMIT)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    return export_code_bundle(checkpoint, checkpoint / "runs.keystep", reply_tokens=LIMIT)


def by_torch(
    planning: CodePlanning, way: str, every: int, requests: set[int], constrained: bool = False
) -> list[Step]:
    maker, memory, words = planning.language.maker(planning.config), Memory(), planning.language.tokenizer
    constraint = Constraint(words, planning.language.grid) if constrained else None
    writer = ReplyWriter(planning.model, words, LIMIT, constraint=constraint)
    found: list[Step] = []
    due = 0
    for number, step in enumerate(STEPS):
        last = comment(memory.last) if memory.last else ""
        if memory.last and number < due and number not in requests:
            found.append((last, tuple(memory.instructions)))
            continue
        prompt = Prompt(TASK, tuple(memory.instructions), request=number in requests)
        ids = [token for chunk in maker.question(prompt, episode=0) for token in chunk.tokens]
        seen = seen_and_felt(planning, observed(planning, step))
        reply = writer.write(ids, *seen, way="early_stop" if way == "early_stop" else "greedy", last=last)
        if reply.ended:
            memory.update(reply.text)
        due = number + (every if reply.ended else 0)
        found.append((reply.text if reply.ended else None, tuple(memory.instructions)))
    return found


def by_runtime(
    planner: keystep.CodeRuntime, planning: CodePlanning, requests: set[int], prepares: bool = False
) -> list[Step]:
    planner.reset(TASK)
    found: list[Step] = []
    for number, step in enumerate(STEPS):
        try:
            reply = planner.ask(observed(planning, step), request=number in requests)
        except keystep.PolicyError as error:
            assert error.status == "rejected_plan" and "reply: expected at most" in str(error)
            found.append((None, planner.memory()))
            continue
        found.append((reply.text, planner.memory()))
        assert reply.key_step == (reply.asked and is_keystep(reply.text)) and reply.ended
        assert planner.code() == (planner.memory()[-1] if planner.memory() else "")
        assert planner.info() == extract_memory_info(planner.memory())
        if prepares:
            planner.prepare()
    return found


@pytest.mark.parametrize("prepares", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_torch_s(planning: CodePlanning, bundle: Path, way: str, prepares: bool) -> None:
    with keystep.load(bundle, way=way, threads=1) as planner:
        for requests in (set(), {3, 7, 12}):
            planner.reset_latency()  # the process's first call starts a thread for signals
            assert by_runtime(planner, planning, requests, prepares) == by_torch(planning, way, 1, requests)
        assert planner.latency().allocations == 0


@pytest.mark.parametrize("way", WAYS)
def test_replies_that_can_only_be_code(planning: CodePlanning, bundle: Path, way: str) -> None:
    """Also where it has never learned what to say, as behind the taught episode."""
    with keystep.load(bundle, way=way, constrained=True, threads=1) as planner:
        assert planner.bundle.code.constrained
        by_runtime(planner, planning, set())
        planner.reset_latency()  # the process's first call starts a thread for signals
        found = by_runtime(planner, planning, {3, 7}, prepares=True)
        assert found == by_torch(planning, way, 1, {3, 7}, constrained=True)
        assert planner.latency().allocations == 0
    for text, _ in found:
        assert text is not None  # every reply ends
        parse(text)


@pytest.mark.parametrize("every", [2, 3])
def test_steps_between_questions(planning: CodePlanning, bundle: Path, every: int) -> None:
    with keystep.load(bundle, every=every, threads=1) as planner:
        assert by_runtime(planner, planning, {4}) == by_torch(planning, "draft", every, {4})
        assert planner.telemetry().replies < planner.telemetry().steps == len(STEPS)


def test_it_knows_the_episode_in_eight_bits(checkpoint: Path, planning: CodePlanning) -> None:
    bundle = export_code_bundle(checkpoint, checkpoint / "int8.keystep", precision="int8", reply_tokens=LIMIT)
    for way in WAYS:
        with keystep.load(bundle, way=way, threads=1) as planner:
            replies = [text for text, _ in by_runtime(planner, planning, set(), True)]
            assert replies[: len(EPISODE)] == [wanted(step) for step in EPISODE]


def test_a_prepared_key_step_takes_two_passes(planning: CodePlanning, bundle: Path) -> None:
    with keystep.load(bundle, threads=1) as planner:
        planner.reset(TASK)
        passes = []
        for step in EPISODE:
            passes.append(planner.ask(observed(planning, step)).passes)
            planner.prepare()
        going_on = [count for count, step in zip(passes, EPISODE, strict=True) if wanted(step)[0] == "#"]
        assert going_on == [1] * len(going_on)
        assert planner.memory() == CALLS
        assert [(event.kind, event.step, event.text) for event in planner.events()] == [
            ("key_step", step, call) for step, call in zip((0, 4, 7), CALLS, strict=True)
        ]


def test_sessions_share_weights_and_nothing_else(planning: CodePlanning, bundle: Path) -> None:
    with keystep.load(bundle, threads=1) as one, one.session() as other:
        alone = by_runtime(one, planning, set())
        one.reset(TASK)
        other.reset(TASK)
        other.ask(observed(planning, 100), request=True)
        together = []
        for number in range(len(EPISODE)):
            together.append(one.ask(observed(planning, STEPS[number])).text)
            other.ask(observed(planning, EPISODE[-1 - number]))
            other.prepare()
        assert together == [text for text, _ in alone[: len(EPISODE)]]
        one.close()
        assert other.ask(observed(planning, 0), request=True).asked
