"""The benchmark of planners that write code, at tiny sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("mani_skill")

import keystep
from benchmarks import writing
from benchmarks.writing_episodes import Episode, Timed
from benchmarks.writing_report import Measured, Planner, _growth_row, _row

WAYS = ["draft", "draft, prepared", "early_stop", "greedy"]


def test_every_contender_is_shown_the_same_episode(tmp_path: Path) -> None:
    output = tmp_path / "out" / "writing.json"
    options = writing.Options(
        presets=("micro-state",), rounds=2, threads=(1,), calls=2, teaching=120, reactions=0, output=output
    )
    writing.main(options)
    found = json.loads(output.read_text())["planners"]["micro-state"]
    ours = [f"1, {precision}, {way}" for precision in ("fp32", "int8") for way in WAYS]
    assert list(found) == ["1, fp32, generate", "1, fp32, generate, memory kept", *ours]
    for name, timed in found.items():
        assert [len(steps) for steps in timed["ms"]] == [8, 8], name
        assert min(min(steps) for steps in timed["cpu_ms"]) > 0
        assert len(timed["prepare_ms"]) == (4 if name.endswith("prepared") else 0)
    # What was taught is known: a draft is accepted where a call goes on.
    assert found["1, fp32, draft"]["passes"].count(1) == 6
    assert min(found["1, fp32, greedy"]["passes"]) > 1
    rows = [line.split(" | ") for line in output.with_suffix(".md").read_text().splitlines()]
    texts = {row[0].removeprefix("| "): row[-1] for row in rows if row[0].startswith("| 1, fp32")}
    assert set(texts.values()) <= {"0 |"} | {row[-1] for row in rows if "prepared" in row[0]}


def reply(text: str, passes: int = 1) -> keystep.CodeReply:
    key_step = not text.startswith("#")
    return keystep.CodeReply(text, key_step, True, tokens=3, passes=passes, ended=True)


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    """A call that comes again when the memory is longer, and then takes half as long again."""
    replies = [
        reply("a()", 3),
        reply("# a()"),
        reply("b()", 2),
        reply("# b()", 4),
        reply("a()"),
        reply("# a()"),
    ]
    ms = [9.0, 2.0, 8.0, 5.0, 7.0, 3.0]
    ours = Timed(ms=[ms, ms], cpu_ms=[ms, ms], replies=replies)
    rival = Timed(ms=[[10 * one for one in ms]] * 2, cpu_ms=[[20 * one for one in ms]] * 2, replies=replies)
    timed = {"1, fp32, generate": rival, "1, fp32, draft, prepared": ours}
    monkeypatch.setattr(Measured, "memory", lambda *_: [0, 4, 4, 8, 8, 12])
    return Measured(Planner("some", "given", Episode("go", ()), {"fp32": tmp_path}, None), timed)


def test_a_growing_memory_is_of_the_same_call(measured: Measured) -> None:
    row = _growth_row(measured, "1, fp32, draft, prepared")
    assert row["memory, tokens"] == "4 .. 12"
    assert row["CPU ms"] == "2.00 .. 3.00" and row["grows"].startswith("1.50x")


def test_key_steps_and_steps_that_go_on_are_apart(measured: Measured) -> None:
    row = _row(measured, "1, fp32, draft, prepared")
    assert row["goes on: ms, p99"].startswith("3.00, ") and row["key-step: ms, p99"].startswith("8.00, ")
    assert row["goes on in one pass"] == "67 %" and row["key-step in two"] == "67 %"
    assert row["generate / it"].startswith("10.0 ") and row["generate / it, CPU"].startswith("20.0 ")
    assert row["other texts"] == "0"
