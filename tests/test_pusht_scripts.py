"""examples/pusht/*.sh and compare.py, without gym-pusht and LeRobot: what they refuse, and what they keep."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[1] / "examples/pusht"
FAKE = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$CALLS"
for argument in "$@"; do
  case "$argument" in --output_dir=*/training)
    last="${argument#*=}/checkpoints/last/pretrained_model"
    mkdir -p "$last" && touch "$last/train_config.json" ;;
  esac
done
[[ "$*" != *"${FAILING:-nothing fails}"* ]]
"""


@pytest.fixture
def shell(tmp_path: Path) -> Any:
    """Runs a script with programs that only note how they were called: returns its process, and the calls."""
    for name in ("python", "keystep", "theirs"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(FAKE)
        program.chmod(0o755)
    (tmp_path / "data/meta").mkdir(parents=True)
    (tmp_path / "data/meta/info.json").touch()

    def run(
        script: str, *arguments: object, **more: str
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        kept = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls)}
        found = subprocess.run(
            [shutil.which("bash"), str(EXAMPLE / script), *map(str, arguments)],
            env=kept | {"THEIRS": str(tmp_path / "bin/theirs")} | more,
            capture_output=True,
            text=True,
        )
        return found, calls.read_text().splitlines() if calls.exists() else []

    return run


def test_training_deletes_nothing_of_others(shell: Any, tmp_path: Path) -> None:
    """OUTPUT by mistake a folder of something else: it is refused, and stays."""
    home = tmp_path / "home"
    (home / "checkpoints").mkdir(parents=True)
    (home / "thesis.tex").touch()
    for output in (home, home / "thesis.tex"):
        found, calls = shell("train.sh", tmp_path / "data", output)
        assert found.returncode == 2 and "train.sh: expected OUTPUT to be new" in found.stderr, found.stderr
        assert (home / "thesis.tex").exists() and not calls
    found, calls = shell("train.sh", tmp_path, tmp_path / "out")
    assert found.returncode == 2 and "expected a dataset" in found.stderr and not calls


def test_training_goes_on_to_the_steps_that_are_asked_for(shell: Any, tmp_path: Path) -> None:
    output = tmp_path / "training"
    (output / "checkpoints/005000/pretrained_model").mkdir(parents=True)  # killed before it was whole
    _, (call,) = shell("train.sh", tmp_path / "data", output, 100)
    assert "--resume" not in call and "--steps=100" in call
    assert not (output / "checkpoints/005000").exists()
    _, (call,) = shell("train.sh", tmp_path / "data", output, 300)
    assert "--resume=true" in call and call.endswith(f"--output_dir={output} --steps=300")


def test_a_run_is_of_one_size(shell: Any, tmp_path: Path) -> None:
    """What was tried small is not taken for the whole."""
    run = tmp_path / "run"
    (run / "demonstrations/meta").mkdir(parents=True)
    (run / "demonstrations/meta/info.json").touch()
    found, first = shell("run.sh", run, EPISODES="8", FAILING="--measure")
    assert found.returncode == 1 and any("--episodes 8" in call for call in first)
    found, calls = shell("run.sh", run)
    assert found.returncode == 2 and not calls and "expected EPISODES=8 STEPS=20000" in found.stderr
    found, again = shell("run.sh", run, EPISODES="8")
    assert found.returncode == 0, found.stderr
    assert [call.split()[1] for call in again if call.startswith("keystep")] == ["verify", "eval"], "the rest"
    assert again[-2].startswith("python") and "compare.py" in again[-2] and "beside.py" in again[-1]


@pytest.mark.parametrize(("arguments", "theirs"), [((), "python"), (("a", "b"), "python"), (("a",), "/none")])
def test_a_run_that_cannot_end_does_not_begin(
    shell: Any, tmp_path: Path, arguments: tuple[str, ...], theirs: str
) -> None:
    found, calls = shell("run.sh", *(tmp_path / each for each in arguments), THEIRS=theirs)
    assert found.returncode == 2 and found.stderr.startswith("run.sh: expected ") and not calls
    assert found.stderr.count("\n") == 1 and not (tmp_path / "a").exists()


def compare() -> Any:
    pytest.importorskip("tyro")
    spec = importlib.util.spec_from_file_location("compare", EXAMPLE / "compare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(**changes: Any) -> dict[str, Any]:
    task = {"solved": [True, False, True], "measured": [0.97, 0.4, 0.96]} | changes
    return {"settings": {"measure": changes.get("measure", "coverage")}, "tasks": [task]}


def theirs(**changes: Any) -> dict[str, Any]:
    return {
        "per_task": [
            {"metrics": {"successes": [True, False, False], "max_rewards": [1.0, 0.5, 0.8]} | changes}
        ]
    }


def written(folder: Path, *values: Any) -> list[Path]:
    paths = [folder / f"{number}.json" for number in range(len(values))]
    for path, value in zip(paths, values, strict=True):
        path.write_text(json.dumps(value))
    return paths


def test_both_evaluations_are_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare().main(*written(tmp_path, ours(), theirs()))
    out = capsys.readouterr().out
    assert "| keystep eval | 66.7 % (20.8 .. 93.9) | 0.767 ±" in out, out
    assert "| lerobot-eval | 33.3 % (6.1 .. 79.2) | 0.728 ±" in out and "+33.3 points" in out
    apart = np.minimum([0.97, 0.4, 0.96], 0.95) - 0.95 * np.array([1.0, 0.5, 0.8])
    assert f"| {apart.mean():.3f} ± {apart.std(ddof=1) / 3**0.5:.3f} |" in out


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (({}, theirs()), "expected one task of `keystep eval --measure coverage`, got KeyError"),
        (([], theirs()), "got TypeError"),
        ((ours(measure="height"), theirs()), "got ValueError: measure height"),
        ((ours(), {"per_task": []}), "expected one task of `lerobot-eval`, got ValueError"),
        ((ours(measured=[0.97, None, 0.96]), theirs()), "a coverage of each of 3 episodes, got 2"),
        ((ours(measured=[0.97]), theirs()), "a coverage of each of 3 episodes, got 1"),
        ((ours(), theirs(successes=[True], max_rewards=[1.0])), "expected 3 episodes as in"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, values: tuple[Any, ...], words: str) -> None:
    with pytest.raises(SystemExit) as error:
        compare().main(*written(tmp_path, *values))
    assert words in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(SystemExit, match="got FileNotFoundError"):
        compare().main(tmp_path / "none.json", tmp_path / "1.json")
