"""Whole episodes of a planner that writes code: its graphs in ONNX Runtime write what torch writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from onnx_writer import OnnxWriter
from taught_code import CALLS, EPISODE, LESSONS, TASK, observed, taught_checkpoint, wanted

from keystep.code.prompt import Prompt
from keystep.code.trace import Memory
from keystep.export.bundle import export_bundle
from keystep.export.code_bundle import export_code_bundle, load_code_planning
from keystep.export.code_golden import seen_and_felt
from keystep.models.code_planner.writing import WAYS, ReplyWriter

LIMIT = 48
STEPS = (*EPISODE, 100, 101, 3)
"""Behind the episode some steps that the planner has never seen."""


@pytest.fixture(scope="module", params=["micro", "micro-state"])
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught_checkpoint(tmp_path_factory.mktemp("taught"), request.param)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    return export_code_bundle(checkpoint, checkpoint / "it.keystep", reply_tokens=LIMIT)


@pytest.fixture(scope="module")
def by_torch(checkpoint: Path) -> list[tuple[tuple[int, ...], bool]]:
    """Greedy replies of the episode."""
    planning = load_code_planning(checkpoint, LIMIT)
    writer = ReplyWriter(planning.model, planning.language.tokenizer, LIMIT)
    maker, memory, found = planning.language.maker(planning.config), Memory(), []
    for step in STEPS:
        prompt = _prompt(maker, memory)
        written = writer.write(prompt, *seen_and_felt(planning, observed(planning, step)))
        found.append((written.ids, written.ended))
        if written.ended:
            memory.update(written.text)
    return found


def _prompt(maker: Any, memory: Memory) -> list[int]:
    chunks = maker.question(Prompt(TASK, tuple(memory.instructions)), episode=0)
    return [token for chunk in chunks for token in chunk.tokens]


def episode(checkpoint: Path, bundle: Path, way: str) -> tuple[list[tuple[tuple[int, ...], bool]], list[int]]:
    """Replies by the graphs, and passes of each."""
    planning, writer = load_code_planning(checkpoint, LIMIT), OnnxWriter(bundle)
    memory, found, passes = Memory(), [], []
    for step in STEPS:
        number = len(memory.instructions)
        drafts = CALLS[number : number + 1]
        prompt = writer.prompt(TASK, memory.instructions)
        ids, ended = writer.write(prompt, observed(planning, step), way, memory, drafts)
        found.append((tuple(ids), ended))
        passes.append(writer.passes)
        if ended:
            memory.update(writer.tokenizer.decode(ids))
    return found, passes


def test_torch_knows_the_episode(checkpoint: Path, by_torch: list) -> None:
    words = load_code_planning(checkpoint, LIMIT).language.tokenizer
    assert [words.decode(ids) for ids, _ in by_torch[: len(EPISODE)]] == [wanted(step) for step in EPISODE]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_writes_the_same_text(checkpoint: Path, bundle: Path, by_torch: list, way: str) -> None:
    found, passes = episode(checkpoint, bundle, way)
    assert found == by_torch
    tokens = [len(ids) + 1 for ids, _ in by_torch]
    if way == "greedy":
        assert passes[: len(EPISODE)] == tokens[: len(EPISODE)]
    if way == "draft":  # a key-step takes one more, over the second draft; before the first is no other
        assert passes[: len(EPISODE)] == [1 if LESSONS[step][1] or step == 0 else 2 for step in EPISODE]


def test_eight_bits_know_the_episode(checkpoint: Path) -> None:
    """What was learned by heart has margins wider than their rounding."""
    bundle = export_bundle(checkpoint, checkpoint / "int8.keystep", precision="int8")
    words = OnnxWriter(bundle).tokenizer
    for way in WAYS:
        found, _ = episode(checkpoint, bundle, way)
        assert [words.decode(ids) for ids, _ in found[: len(EPISODE)]] == [wanted(step) for step in EPISODE]


def test_what_is_cached_changes_nothing(checkpoint: Path, bundle: Path) -> None:
    """A writer that forgets all, and one whose cache holds another episode."""
    planning, kept, fresh = load_code_planning(checkpoint, LIMIT), OnnxWriter(bundle), OnnxWriter(bundle)
    rng = np.random.default_rng(0)
    for _ in range(8):
        step, count = int(rng.integers(6)), int(rng.integers(len(CALLS)))
        memory = Memory(list(CALLS[:count]))
        asked = kept.prompt(TASK, memory.instructions), observed(planning, step), "greedy", memory
        fresh.known = []
        assert kept.write(*asked) == fresh.write(*asked)
        assert kept.computed <= fresh.computed
