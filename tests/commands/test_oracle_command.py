"""`keystep oracle`: tables, files, one episode printed, code from a file, a video."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("scipy", reason="needs the extra 'sim'")

from hypothesis import given
from hypothesis import strategies as st

from keystep import cli
from keystep.code.trace import check_trace
from keystep.commands import oracle_episode, oracle_tables
from keystep.commands.oracle_episode import KeyStep, perform, read_code, texts, views
from keystep.suites.tabletop import TASKS
from keystep.suites.tabletop.oracle import report as oracle_report
from keystep.suites.tabletop.oracle.episodes import play
from keystep.suites.tabletop.oracle.results import OracleReport, OracleResult, Trial

needs_simulator = pytest.mark.usefixtures("simulator")


@pytest.fixture
def simulator() -> None:
    pytest.importorskip("mani_skill", reason="needs the extra 'sim'")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = cli.run(["oracle", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def made_up(*tasks: str, failed: int = 0, played: int = 4) -> OracleReport:
    rows = [
        OracleResult.of(task, [Trial(task, seed, seed >= failed, 3, 40, 9.0, "slipped") for seed in range(4)])
        for task in tasks
    ]
    return OracleReport(tuple(rows), 0, 4, 1, 1.5, played, 4)


# ---- tables


def test_a_row_has_ours_and_the_papers_figures() -> None:
    rows = oracle_tables.rows(made_up("Pick", "PushToTarget", failed=1))
    assert rows[0] == ["Pick", "0", "3/4", "30.1-95.4", "3.0", "40", "9", "99", "2"]
    assert rows[1][-2:] == ["75.3", "-"]
    names = ["Pick", "PushToTarget", "mean of level 0", "mean of level 1", "mean of all"]
    assert [row[0] for row in rows] == names
    assert rows[2][2:] == ["75.0", "30.1-95.4", "3.0", "", "", "99.0", "2.0"]
    assert all(len(row) == len(oracle_tables.HEADER) for row in rows)


def test_a_task_never_solved_has_no_calls() -> None:
    row = oracle_tables.rows(made_up("Swap", failed=4))[0]
    assert row == ["Swap", "1", "0/4", "0.0-49.0", "-", "-", "9", "84", "11.2"]


def test_the_whole_table_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    oracle_tables.print_report(made_up(*TASKS, failed=1))
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    for row in oracle_tables.rows(made_up(*TASKS, failed=1))[: len(TASKS)]:
        assert lines[row[0]] == row
    assert "SwapByPushing: slipped (1 x, first seed 0)" in out


def test_markdown_needs_no_more_than_the_json_file(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(oracle_report, "evaluate_oracle", lambda *_, **__: made_up(*TASKS, failed=1))
    status, out, _ = run(capsys, "--json", tmp_path / "o.json", "--markdown", tmp_path / "o.md")
    assert status == 0 and "mean of level 0 at least 95%: not reached (75.0%)" in out
    results = json.loads((tmp_path / "o.json").read_text())
    text = (tmp_path / "o.md").read_text()
    assert oracle_tables.report_markdown(results) == text
    assert {"machine", "versions", "world_version", "seed", "episodes"} <= set(results)
    assert "| Swap | 1 | 3/4 |" in text and "- Swap: slipped (1 x, first seed 0)" in text
    assert "- every task above 50%: reached (lowest: Pick 75.0%)" in text
    assert str(results["machine"]["cpu"]) in text


def test_an_interrupted_evaluation_says_so_and_exits_with_130(capsys, monkeypatch, tmp_path) -> None:
    file = tmp_path / "o.json"
    monkeypatch.setattr(oracle_report, "evaluate_oracle", lambda *_, **__: made_up("Pick", played=3))
    status, out, _ = run(capsys, "--json", file)
    assert status == 130 and "interrupted after 3 of 4 episodes" in out and "Pick" in out
    assert json.loads(file.read_text())["played"] == 3
    before = file.read_bytes()
    monkeypatch.setattr(oracle_report, "evaluate_oracle", lambda *_, **__: made_up(played=0))
    status, out, _ = run(capsys, "--json", file)
    assert status == 130 and "interrupted after 0 of 4 episodes" in out and file.read_bytes() == before


def test_an_error_leaves_the_episodes_that_were_played(capsys, monkeypatch, tmp_path) -> None:
    def play(task: str, seed: int, grid: int) -> Trial:
        if (task, seed) == ("Touch", 1):
            raise RuntimeError("the simulator died")
        return Trial(task, seed, True, 3, 40, 9.0)

    monkeypatch.setattr(oracle_report, "play_episode", play)
    files = ["--json", tmp_path / "o.json", "--markdown", tmp_path / "o.md"]
    status, out, err = run(capsys, "--tasks", "Pick", "Touch", "Swap", "--episodes", 2, *files)
    assert (status, err) == (2, "error: the simulator died\n") and "interrupted after 3 of 6 episodes" in out
    found = json.loads((tmp_path / "o.json").read_text())
    assert [(row["task"], row["successes"]) for row in found["tasks"]] == [("Pick", 2)]
    assert [(row["task"], row["episodes"]) for row in found["begun"]] == [("Touch", 1)]
    text = (tmp_path / "o.md").read_text()
    assert "| Pick | 0 | 2/2 |" in text and "| Touch | 0 | 1/1 |" in text and "Swap" not in text
    assert "| mean of all |  | 100.0 | 34.2-100.0 |" in text, "of what was finished"


@needs_simulator
def test_an_evaluation_in_the_simulator(capsys, tmp_path) -> None:
    file = tmp_path / "o.json"
    status, out, _ = run(capsys, "--tasks", "Pick", "--episodes", 2, "--seed", 4, "--json", file)
    assert status == 0 and "mean of level 0" in out
    (row,) = json.loads(file.read_text())["tasks"]
    assert (row["task"], row["episodes"]) == ("Pick", 2) and row["median_ms"] > 0


def test_the_list_has_every_task_with_a_prompt(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = run(capsys, "--list")
    assert status == 0
    for name, task in TASKS.items():
        assert f"\n{name} " in out
        assert task.build(np.random.default_rng(0)).prompt[:60] in out
        assert task.differs[:60] in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--show"], "tasks: expected exactly one for one episode, got 0"),
        (["--tasks", "Pick", "Swap", "--video", "v.mp4"], "got 2"),
        (["--tasks", "Pick", "--show", "--questions"], "options: expected one of"),
        (["--list", "--questions"], "options: expected one of"),
        (["--tasks", "Pick", "--show", "--json", "o.json"], "json, markdown: expected an evaluation"),
        (["--list", "--markdown", "o.md"], "json, markdown: expected an evaluation"),
        (["--tasks", "Pickk"], "task: expected Pick"),
        (["--tasks", "Pickk", "--show"], "task: expected Pick"),
        (["--episodes", "0"], "episodes: expected at least 1, got 0"),
        (["--tasks", "Pick", "--code", "no/such.txt"], "no/such.txt"),
    ],
)
def test_bad_options_are_refused(capsys, arguments, words) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "") and words in err and err.count("\n") == 1


# ---- code files

TEXT = st.text(st.sampled_from("ab #()'\n\n"), max_size=80)


@given(TEXT)
def test_texts_are_what_stands_between_blank_lines(text: str) -> None:
    lines = text.split("\n")
    found = list(texts(text))
    kept = [line for one in found for line in one.code.split("\n")]
    assert kept == [line for line in lines if line.strip()]
    for one in found:
        count = one.code.count("\n") + 1
        assert lines[one.line - 1 : one.line - 1 + count] == one.code.split("\n")
        for outside in (one.line - 2, one.line - 1 + count):
            assert not 0 <= outside < len(lines) or not lines[outside].strip()


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_remarks_are_no_key_steps(tmp_path) -> None:
    file = write(tmp_path / "c.txt", "# a remark", "", "# first", "done()  # now", "", "  ", "done()")
    assert read_code(file) == [KeyStep("# first\ndone()  # now", 3), KeyStep("done()", 7)]
    with pytest.raises(ValueError, match="code: expected at least one line that is not a comment, got none"):
        read_code(write(tmp_path / "empty.txt", "", "# nothing"))


def test_refused_code_runs_nothing_and_says_where(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(oracle_episode, "open_env", lambda *_, **__: pytest.fail("simulated"))
    lines = ["# remark", "", "move3d(get_actor('red cube'))", "", "", "pick(", "  eval('1'))"]
    status, out, err = run(capsys, "--tasks", "Pick", "--code", write(tmp_path / "c.txt", *lines))
    assert (status, out) == (2, "")
    assert err.startswith("error: line 7, column 3: expected one of get_actor,") and "got eval" in err


@needs_simulator
def test_what_is_printed_runs_as_code_to_the_same_end(capsys, tmp_path) -> None:
    status, shown, _ = run(capsys, "--tasks", "PlaceNextTo", "--seed", 2, "--show")
    assert status == 0 and shown.startswith("# PlaceNextTo, seed 2: ")
    file = write(tmp_path / "c.txt", shown)
    status, again, _ = run(capsys, "--tasks", "PlaceNextTo", "--seed", 2, "--code", file)
    assert status == 0
    assert again.splitlines()[-1] == shown.splitlines()[-1]
    assert "control steps" in shown.splitlines()[-1]


@needs_simulator
def test_code_that_fails_says_at_which_line_of_the_file_and_why(capsys, tmp_path) -> None:
    lines = ["# remark", "", "move3d(get_actor('{0}'))", "", "pose_dict['T'] = get_pose(get_actor('{0}'))",
             "place(get_actor('{0}'), pose_dict['T'])", "", "done()"]  # fmt: skip
    name = names("Pick", 0)[0]
    file = write(tmp_path / "c.txt", *(line.format(name) for line in lines))
    status, out, _ = run(capsys, "--tasks", "Pick", "--code", file)
    assert status == 0 and "done()" not in out
    last = out.splitlines()[-1]
    assert last.startswith("# not solved after ") and " s), 2 calls; " in last
    assert f"; failure at {file}, line 6, column 1: place: gripper: expected {name}, got nothing" in last


@needs_simulator
def test_a_value_that_cannot_be_had_is_a_failure_too(capsys, tmp_path) -> None:
    file = write(tmp_path / "c.txt", "", "pick(get_actor('pink cube'))")
    status, out, _ = run(capsys, "--tasks", "Pick", "--code", file)
    assert status == 0
    assert f"0 control steps (0.0 s), 0 calls; failure at {file}, line 2, column 6: get_actor: name:" in out


@functools.cache
def names(task: str, seed: int) -> list[str]:
    return [body.thing.name for body in TASKS[task].build(np.random.default_rng(seed)).bodies]


# ---- episodes


@needs_simulator
@pytest.mark.parametrize("task", ["Pick", "SortByTexture", "SwapByPushing"])
def test_an_episode_shown_is_the_one_that_is_evaluated(task, capsys) -> None:
    env = oracle_episode.open_env(task)
    try:
        expected = play(env, 7)
        found, actions = perform(env, env.reset(seed=7)[0])
        assert found.trace.codes == expected.trace.codes and found.trace.keysteps == expected.trace.keysteps
        assert (found.success, found.calls, found.steps) == (expected.success, expected.calls, len(actions))
    finally:
        env.close()


@needs_simulator
def test_key_steps_without_control_steps_stand_in_front_of_the_next(capsys) -> None:
    env = oracle_episode.open_env("Pick")
    try:
        observation, _ = env.reset(seed=0)
        actor = f"get_actor({names_of(env)[0]!r})"
        parts = [f"pose_dict['T'] = get_pose({actor})", f"move3d({actor})", f"a = {actor}", f"pick({actor})"]
        found, actions = perform(env, observation, [KeyStep(part) for part in parts])
        trace = found.trace
        shown = [code for code, starts in zip(trace.codes, trace.keysteps, strict=True) if starts]
        assert shown == ["\n".join(parts[:2]), "\n".join(parts[2:])]
        assert len(trace.codes) == len(actions) and not found.reason
        check_trace(trace.codes, trace.keysteps)
    finally:
        env.close()


def names_of(env) -> list[str]:
    return [body.thing.name for body in env.scenario.bodies]


@needs_simulator
def test_the_video_sees_the_same_episode_again(monkeypatch, capsys) -> None:
    env = oracle_episode.open_env("PlaceOnTop")
    try:
        found, actions = perform(env, env.reset(seed=1)[0])
        poses = env.poses()
        monkeypatch.setattr(env, "render", lambda: env.elapsed_steps)
        assert list(views(env, 1, actions)) == list(range(len(actions)))
        np.testing.assert_array_equal(env.poses(), poses)
        assert env.success == found.success
    finally:
        env.close()


@needs_simulator
def test_questions_are_about_the_first_picture(capsys) -> None:
    status, out, _ = run(capsys, "--tasks", "Pick", "--seed", 3, "--questions")
    assert status == 0 and out.startswith("Pick, seed 3: ")
    for name in names("Pick", 3):
        assert f"Where is the {name}? " in out


@needs_simulator
def test_a_video_shows_every_control_step(capsys, tmp_path) -> None:
    from keystep.suites.headless import missing_driver

    if missing_driver() is not None:
        pytest.skip(f"no graphics driver: {missing_driver()}")
    av = pytest.importorskip("av")
    file = tmp_path / "pick.mp4"
    status, out, _ = run(capsys, "--tasks", "Pick", "--seed", 1, "--video", file)
    assert status == 0
    steps = int(out.splitlines()[-1].partition("after ")[2].split()[0])
    with av.open(str(file)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == round(1.5 * steps) and pictures[0].shape == (768, 512, 3)
    assert np.abs(pictures[0].astype(int) - pictures[-1]).mean() > 1


@needs_simulator
def test_a_video_of_nothing_is_refused(capsys, tmp_path, monkeypatch) -> None:
    real = oracle_episode.open_env
    monkeypatch.setattr(oracle_episode, "open_env", lambda task, visible: real(task))
    file = write(tmp_path / "c.txt", "pick(get_actor('pink cube'))")
    status, _, err = run(capsys, "--tasks", "Pick", "--code", file, "--video", tmp_path / "v.mp4")
    assert status == 2 and "video: expected at least one control step to show, got none" in err
    assert not (tmp_path / "v.mp4").exists()
