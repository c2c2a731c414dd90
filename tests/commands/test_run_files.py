"""keystep run: what a file gets, whatever becomes of the episode."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from run_command import SEED, TASK, Run, Texts, player
from truth import Truth

from keystep import cli
from keystep.code.trace import comment
from keystep.commands import run_episodes
from keystep.commands.run_record import KeyStepRun
from keystep.suites.headless import missing_driver


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth((TASK,), range(SEED, SEED + 2))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return player(monkeypatch, capsys)


FIELDS = {
    "version", "planner", "checkpoint", "weights_sha256", "machine", "world_version", "grid", "asked",
    "interrupted", "replies", "episodes",
}  # fmt: skip
EPISODE = {
    "task", "seed", "instruction", "success", "interrupted", "reason", "refused_reply", "steps", "seconds",
    "calls", "key_steps", "replies",
}  # fmt: skip
TIMES = {"count", "median_ms", "p99_ms", "max_ms", "median_passes"}


def check_fields(found: dict[str, Any]) -> None:
    """Whoever adds or renames one raises VERSION."""
    assert found["version"] == 1 and set(found) == FIELDS
    for episode in found["episodes"]:
        assert set(episode) == EPISODE and set(episode["replies"]) == TIMES == set(found["replies"])
        for one in episode["key_steps"]:
            assert set(one) == {field.name for field in dataclasses.fields(KeyStepRun)}
            assert set(one) == {"step", "code", "ms", "passes", "outcome", "reason", "steps"}


def test_the_file_says_what_was_written_when_and_what_came_of_it(
    run: Run, truth: Truth, tmp_path: Path
) -> None:
    status, _, _ = run(truth, "--episodes", 2, "--json", tmp_path / "a" / "o.json")
    found = json.loads((tmp_path / "a" / "o.json").read_text())
    check_fields(found)
    assert status == 0 and found["asked"] == "after calls" and not found["interrupted"]
    assert [episode["seed"] for episode in found["episodes"]] == [SEED, SEED + 1]
    for episode in found["episodes"]:
        assert episode["success"] and not episode["reason"] and not episode["interrupted"]
        steps = [one["steps"] for one in episode["key_steps"]]
        assert [one["step"] for one in episode["key_steps"]] == [sum(steps[:n]) for n in range(len(steps))]
        assert sum(steps) == episode["steps"] and episode["key_steps"][-1]["code"] == "done()"
        assert episode["calls"] == len(steps) - 1 and episode["replies"]["count"] == len(steps)
        assert [one["code"] for one in episode["key_steps"]] == truth.known[episode["instruction"]]
    assert found["replies"]["count"] == sum(one["replies"]["count"] for one in found["episodes"])


def test_an_interrupt_leaves_what_was_played_and_no_half_a_video(
    run: Run, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_episodes, "require_driver", lambda: None)
    code = next(iter(truth.known.values()))
    files = ["--json", tmp_path / "o.json", "--video", tmp_path / "v.mp4"]
    status, out, _ = run(Texts(*code[:2], KeyboardInterrupt()), *files, "--episodes", 3)
    found = json.loads((tmp_path / "o.json").read_text())
    check_fields(found)
    assert status == 130 and found["interrupted"] and len(found["episodes"]) == 1
    (episode,) = found["episodes"]
    assert episode["interrupted"] and episode["steps"] > 0 and len(episode["key_steps"]) == 2
    assert "# interrupted after " in out and list(tmp_path.iterdir()) == [tmp_path / "o.json"]


def test_an_error_leaves_what_was_played_and_is_one_line(run: Run, tmp_path: Path) -> None:
    planner = Texts("import os", RuntimeError("the device is lost"))
    begin, planner.begin = planner.begin, lambda task: None  # type: ignore[method-assign]
    begin("")
    status, _, err = run(planner, "--episodes", 3, "--json", tmp_path / "o.json")
    found = json.loads((tmp_path / "o.json").read_text())
    check_fields(found)
    assert status == 2 and err == "error: the device is lost\n" and found["interrupted"]
    assert [episode["interrupted"] for episode in found["episodes"]] == [False, True]


def test_a_live_view_gives_the_terminal_back_after_an_interrupt(
    run: Run, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    code = next(iter(truth.known.values()))
    planner = Texts(code[0], comment(code[0]), KeyboardInterrupt())
    status, out, _ = run(planner, "--every-step")
    assert status == 130 and out.rindex("\x1b[?25h") > out.rindex("\x1b[?25l")
    assert "interrupted after 2 control steps" in out.split("\x1b[?25h")[-1]
    assert code[0].splitlines()[0] in out.split("\x1b[?25h")[-1], "what ran is still to be seen"


def test_a_video_has_every_episode(run: Run, truth: Truth, tmp_path: Path) -> None:
    if missing_driver() is not None:
        pytest.skip(f"no graphics driver: {missing_driver()}")
    av = pytest.importorskip("av")
    file = tmp_path / "v.mp4"
    status, out, _ = run(truth, "--no-show", "--episodes", 2, "--video", file)
    steps = [int(line.partition("after ")[2].split()[0]) for line in out.splitlines()]
    with av.open(str(file)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert status == 0 and len(pictures) == sum(round(1.5 * count) for count in steps)
    assert pictures[0].shape == (768, 512, 3)


def test_a_video_of_nothing_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_episodes, "require_driver", lambda: None)
    status, _, err = run(Texts("import os"), "--video", tmp_path / "v.mp4")
    assert status == 2 and "video: expected at least one control step to show, got none" in err
    assert not (tmp_path / "v.mp4").exists()


def test_a_checkpoint_as_it_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="training packages are not installed")
    pytest.importorskip("transformers")
    from code_checkpoints import code_checkpoint

    folder = code_checkpoint(tmp_path / "writer", "micro-state")
    status = cli.run(["run", str(folder), "--task", TASK, "--json", str(tmp_path / "o.json")])
    captured = capsys.readouterr()
    assert status == 0 and "Traceback" not in captured.err
    found = json.loads((tmp_path / "o.json").read_text())
    check_fields(found)
    assert found["checkpoint"] == "writer" and len(found["weights_sha256"]) == 64
    (episode,) = found["episodes"]
    assert not episode["success"] and episode["reason"].startswith("reply: "), "its weights are random"
