"""keystep run: what a terminal shows, and what goes wrong, each in one line."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from run_command import SEED, TASK, Run, Texts, player
from said import Said
from truth import Truth

from keystep import cli
from keystep.code.executor import Result
from keystep.code.grammar import CodeError
from keystep.code.outcome import Outcome
from keystep.code.trace import comment
from keystep.commands import run_episodes
from keystep.commands.oracle_episode import read_code
from keystep.commands.run_record import EpisodeRecord, KeyStepRun
from keystep.commands.run_view import LiveView, ended_text, memory_text


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth((TASK,), range(SEED, SEED + 2))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return player(monkeypatch, capsys)


# ---- what is printed


def test_without_a_terminal_the_lines_are_a_file_that_keystep_oracle_runs(
    run: Run, truth: Truth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(truth)
    assert (status, err) == (0, "") and out.startswith(f"# {TASK}, seed {SEED}: ") and "\x1b" not in out
    assert re.search(r"(?m)^# step 0, written in [0-9.]+ ms, 1 pass$", out)
    assert "# replies: " in out and "# memory: " in out
    (tmp_path / "code.txt").write_text(out)
    assert [step.code.splitlines()[0] for step in read_code(tmp_path / "code.txt")][-1] == "done()"
    code = str(tmp_path / "code.txt")
    assert cli.run(["oracle", "--tasks", TASK, "--seed", str(SEED), "--code", code]) == 0
    last = out.strip().splitlines()[-1]
    assert last.startswith("# solved after ") and last in capsys.readouterr().out


def test_the_lines_of_any_code_run_again_as_their_header_says(
    run: Run, truth: Truth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blank lines inside a key-step; cells of another grid than the command's own."""
    held = "get_actor('blue cylinder', actor_pos=(5, 5))"
    planner = Texts(
        f"\nx = {held}\n  \n\npick(x)\n", "# go on\n\nmove3d(free_space(\n\nx))".replace("x))", f"{held}))")
    )
    planner.texts += ("done()\n",)
    planner.grid = 10  # type: ignore[misc]
    status, out, _ = run(planner)
    file = tmp_path / "code.txt"
    file.write_text(out)
    again = f"# again: keystep oracle --tasks {TASK} --seed {SEED} --grid 10 --code FILE\n"
    assert status == 0 and again in out
    assert [step.code.split("\n")[0] for step in read_code(file)] == [f"x = {held}", "# go on", "done()"]
    arguments = again.removeprefix("# again: keystep ").replace("FILE", str(file)).split()
    assert cli.run(arguments) == 0
    last = out.strip().splitlines()[-1]
    assert last.startswith("# not solved after ") and "2 calls" in last and last in capsys.readouterr().out


def test_no_show_tells_only_how_episodes_end(run: Run, truth: Truth) -> None:
    status, out, _ = run(truth, "--no-show", "--episodes", 2)
    assert status == 0
    first, second = out.splitlines()
    assert first.startswith(f"# {TASK}, seed {SEED}: solved after ")
    assert second.startswith(f"# {TASK}, seed {SEED + 1}: solved after ")


def test_a_terminal_of_80_columns_shows_the_code_live(
    run: Run, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = run(truth)
    assert (status, err) == (0, "") and "\x1b[?25l" in out and out.count("\x1b[?25h") == 1
    lines = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", out).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= 80
    shown = "\n".join(lines)
    prompt = next(one for one in truth.known if one in shown)
    for code in truth.known[prompt]:
        assert code.splitlines()[0][:70] in shown
    assert "solved after " in shown and "replies: " in shown and "memory: " in shown


def test_what_runs_stands_out_below_what_has_ended() -> None:
    from rich.console import Console

    record, file = EpisodeRecord(TASK, 1), io.StringIO()
    view = LiveView(record, Console(file=file, force_terminal=True, width=80, highlight=False))
    record.replied(
        Said("pose_dict['A'] = get_pose(get_actor('red cube'))\npick(get_actor('red cube'))"), 5.25
    )
    view._console.print(view._now())
    shown = file.getvalue()
    assert "\x1b[1;30;43m> pose_dict['A']" in shown, "a new key-step has a background"
    assert "running" in shown and "written in 5.2 ms, 1 pass" in shown and "poses" not in shown
    for _ in range(30):
        record.stepped(np.zeros(7, np.float32))
    view._console.print(view._now())
    assert "\x1b[1;33m> pose_dict['A']" in file.getvalue() and "step 30 (1.5 s)" in file.getvalue()
    record.ended(Result(Outcome.SUCCESS, calls=("pick",), steps=30, stored=("A",)))
    assert memory_text(record) == "memory: 1 key-step; poses A"


def test_a_pose_is_remembered_once_it_is_stored(run: Run) -> None:
    stores = "pose_dict['{}'] = get_pose(get_actor('{}'))"
    texts = [
        stores.format("A", "purple cube"),
        "\n".join([stores.format("A", "purple cube"), stores.format("B", "pink cube")]),
    ]
    _, out, _ = run(Texts(*texts))
    assert "# memory: 2 key-steps; poses A\n" in out, "there is no pink cube"
    _, out, _ = run(Texts(stores.format("B", "pink cube")))
    assert "# memory: 1 key-step\n" in out


def test_a_key_step_that_comes_early_is_told_after_the_end_of_the_one_before(run: Run, truth: Truth) -> None:
    texts = next(iter(truth.known.values()))
    going_on = comment(texts[0])
    status, out, _ = run(Texts(texts[0], going_on, going_on, "done()", "# done()"), "--every-step")
    assert status == 0
    told = [line for line in out.splitlines() if line and not line.startswith("# step")]
    assert told.index("# interrupted after 3 steps") < told.index("done()")
    assert "# not solved after " in out


def test_a_key_step_that_comes_within_a_text_of_several_actions_is_run(
    run: Run, truth: Truth, tmp_path: Path
) -> None:
    first = next(iter(truth.known.values()))[1]
    held = first[first.index("get_actor") : -1]
    two, one = f"pick({held})\nplace_on({held}, get_actor('purple cube'))", f"pick({held})"
    texts = Texts(two, comment(two), comment(two), one, comment(one))
    status, out, _ = run(texts, "--every-step", "--json", tmp_path / "o.json")
    (episode,) = json.loads((tmp_path / "o.json").read_text())["episodes"]
    assert status == 0 and "# interrupted after 3 steps" in out
    told = [(step["code"], step["outcome"], step["steps"]) for step in episode["key_steps"]]
    assert told[0] == (two, "interrupted", 3) and told[1][:2] == (one, "success") and told[1][2] > 3
    assert "expected a key-step within" in episode["reason"] and episode["calls"] == 2


# ---- replies that cannot be run


@pytest.mark.parametrize(
    ("planner", "reason", "refused"),
    [
        (Texts("once upon a time"), "reply: ", "once upon a time"),
        (Texts("fly(get_actor('red cube'))"), "reply: ", "fly(get_actor('red cube'))"),
        (Texts("\x1b[2J\x00 import"), "reply: ", "\x1b[2J\x00 import"),
        (Texts(""), "reply: expected code, got an empty reply", ""),
        (Texts("# pick(get_actor('red cube'))"), "reply: expected a key-step, got a comment", "# pick("),
        (
            Texts("pick(", ended=False),
            "reply: expected its end within the limit of tokens, got none",
            "pick(",
        ),
        (Texts("move3d(get_actor('pink cube'))"), "line 1, column 8: get_actor: name: expected one of", None),
        (Texts("move3d(pose_dict['Z'])"), "line 1, column 8: pose_dict: expected no key, got 'Z'", None),
        (Texts(CodeError(1, 1, "logits: expected finite numbers, got NaN")), "reply: logits: ", None),
    ],
)
@pytest.mark.parametrize("way", ["--no-every-step", "--every-step"])
def test_a_reply_that_cannot_be_run_ends_the_episode_and_is_told(
    run: Run, tmp_path: Path, planner: Texts, reason: str, refused: str | None, way: str
) -> None:
    status, out, err = run(planner, way, "--json", tmp_path / "o.json")
    (episode,) = json.loads((tmp_path / "o.json").read_text())["episodes"]
    if way == "--every-step":
        reason = reason.replace("a key-step, got a comment", "a key-step first, got a comment")
    assert (status, err) == (0, "") and not episode["success"] and episode["reason"].startswith(reason)
    assert "\x1b" not in out and "\x00" not in out, "nothing speaks to the terminal"
    if refused is None:
        assert episode["refused_reply"] is None
    else:
        assert episode["refused_reply"].startswith(refused) and "# refused: " in out
    assert "# not solved after 0 control steps" in out
    known = not isinstance(planner.texts[0], CodeError)
    assert episode["replies"]["count"] == 1 and episode["replies"]["max_ms"] > 0
    assert episode["replies"]["median_passes"] == (3 if known else None)
    assert f"passes of the decoder {'3 (median)' if known else 'not known'}\n" in out


def test_a_planner_that_never_ends_is_stopped(
    run: Run, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keystep.suites.tabletop.oracle.replies.MOST_KEYSTEPS", 3)
    first = next(iter(truth.known.values()))[0]
    status, out, _ = run(Texts(first))
    assert status == 0 and "reply: expected done() within 3 key-steps, got none" in out


# ---- options


def test_bad_options_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Path(__file__).parents[2] / "bundles" / "franka3blocks-state.keystep"
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "policy.json").write_text("{}")
    for arguments, words in (
        ([tmp_path, "--task", "Pickk"], "task: expected Pick, got 'Pickk'"),
        ([tmp_path, "--task", "Pick", "--episodes", 0], "episodes: expected at least 1, got 0"),
        ([tmp_path, "--task", "Pick", "--seed", -1], "seed: expected 0 to 2^63 - 1, got -1"),
        ([tmp_path, "--task", "Pick", "--seed", 2**63], "seed: expected 0 to 2^63 - 1, got 92"),
        ([tmp_path, "--task", "Pick"], "planner: expected a folder with a bundle (manifest.json) or a"),
        ([tmp_path / "bad", "--task", "Pick"], "manifest.json"),
        ([tmp_path / "half", "--task", "Pick"], "policy.json"),
        ([shipped, "--task", "Pick"], "planner: expected family code, got 'subgoal'"),
        ([tmp_path], "--task"),
    ):
        try:
            status = cli.run(["run", *map(str, arguments)])
        except SystemExit as stop:  # what cannot be parsed
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        assert (status, captured.out) == (2, "") and captured.err.count("\n") == 1
        assert captured.err.startswith("error: ") and words in captured.err


@pytest.mark.parametrize("option", ["--json", "--video"])
def test_a_file_that_cannot_be_written_is_known_before_anything_is_opened(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["run", "no planner", "--task", TASK, option, str(tmp_path)]) == 2
    words = f"{option[2:]}: expected a file that can be written, got {tmp_path}: it is a folder"
    assert capsys.readouterr().err == f"error: {words}\n"


def test_what_can_be_written_at_the_end_is(
    run: Run, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_episodes, "require_driver", lambda: None)
    written: list[Path] = []
    monkeypatch.setattr(run_episodes.PlannerEpisodes, "film", lambda self, path: written.append(path))

    def full(*what: Any) -> None:
        raise OSError(28, "No space left on device", "o.json")

    monkeypatch.setattr(run_episodes, "write_json", full)
    status, _, err = run(truth, "--json", tmp_path / "o.json", "--video", tmp_path / "v.mp4")
    assert status == 2 and "No space left on device: 'o.json'" in err and written == [tmp_path / "v.mp4"]


def test_an_episode_that_never_began_leaves_an_earlier_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*what: Any) -> None:
        raise RuntimeError("the simulator died")

    monkeypatch.setattr(run_episodes, "play_replies", died)
    (tmp_path / "o.json").write_text("of an earlier run")
    assert run(Texts("done()"), "--json", tmp_path / "o.json")[0] == 2
    assert (tmp_path / "o.json").read_text() == "of an earlier run"


def test_pictures_need_a_driver(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("keystep.suites.headless.missing_driver", lambda: "no ICD")
    status, out, err = run(Texts("done()"), "--video", tmp_path / "v.mp4")
    assert (status, out) == (2, "") and "rendering: expected a Vulkan driver, got none (no ICD)" in err
    seeing = Texts("done()")
    seeing.image_size = 64
    status, out, err = run(seeing)
    assert (status, out) == (2, "") and "expected a Vulkan driver" in err and err.count("\n") == 1


def test_how_a_key_step_ended_is_one_line() -> None:
    assert ended_text(KeyStepRun(0, "pick(a)", 1.0, 1, "success", "", 1)) == "success after 1 step"
    failed = KeyStepRun(0, "pick(a)", 1.0, 1, "failure", "pick: empty", 9)
    assert ended_text(failed) == "failure after 9 steps: pick: empty"
