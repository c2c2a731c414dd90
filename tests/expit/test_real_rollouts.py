"""The loop with its own rollouts: what they start from, what is kept, kills in them, tasks without any."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import expit_killer
import pytest
from expit_runs import FILE
from safetensors.numpy import load_file

from keystep.data import DatasetError, DatasetReader
from keystep.data.check import check_dataset
from keystep.expit import ExpitConfig, expit, read_config
from keystep.expit.status import status_text
from keystep.record.plans_tried import read_plans

LINE = (
    FILE.replace('"moon.suite"', '"moon.line"').replace("iterations = 2", "iterations = 1")
    + """
max_steps = 40
min_steps = 5
success_frames = 0
trials = 5
max_contexts = 12
"""
)
Make = Callable[..., ExpitConfig]


@pytest.fixture(autouse=True)
def fakes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In place of the fake rollouts: none."""
    monkeypatch.setenv("KEYSTEP_CACHE", str(cache))
    yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("line")
    (folder / "run.toml").write_text(LINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYSTEP_CACHE", str(cache))
        assert not expit(read_config(folder / "run.toml")).interrupted
    return folder / "run"


@pytest.fixture
def make(tmp_path: Path, whole: Path) -> Make:
    """Settings of a run in `tmp_path/run` that has the finished iteration 0 of `whole`."""
    shutil.copytree(whole.parent / "d0", tmp_path / "d0")
    shutil.copytree(whole / "iteration-0", tmp_path / "run" / "iteration-0")
    shutil.copyfile(whole / "expit.json", tmp_path / "run" / "expit.json")

    def config(text: str = LINE, **changes: Any) -> ExpitConfig:
        (tmp_path / "run.toml").write_text(text)
        return read_config(tmp_path / "run.toml", **changes)

    return config


def rollouts_of(run: Path, number: int) -> dict[str, Any]:
    return json.loads((run / f"iteration-{number}" / "iteration.json").read_text())["done"]["rollouts"]


def test_what_rollouts_start_from_and_what_is_kept(make: Make, whole: Path) -> None:
    config = make(iterations=2, without_success="demonstrations")
    assert len(expit(config).success) == 3
    digests = [{DatasetReader(config.dataset).sha256()}]
    for number in (1, 2):
        place, facts = config.output / f"iteration-{number}", rollouts_of(config.output, number)
        assert check_dataset(place / "rollouts") == []
        episodes = list(DatasetReader(place / "rollouts").episodes())
        found = Counter((episode.task, episode.extras["context"]["kind"]) for episode in episodes)
        assert {kind for _, kind in found} == {"reset", "replayed"}
        assert all(count == found[row["task"], row["kind"]] for row in facts["counts"]
                   for count in [row["successes"]])  # fmt: skip
        sources = [episode.extras["context"]["source"] for episode in episodes]
        assert {source["dataset"] for source in sources if source} <= digests[-1]
        assert len(read_plans(place / "tried")) == sum(row["trials"] for row in facts["counts"])
        learned = {facts["dataset_sha256"]}
        learned |= {facts["demonstrations"]["dataset_sha256"]} if "demonstrations" in facts else set()
        digests.append(learned)
    text = status_text(config.output)
    assert "| Left | replayed |" in text and "finished" in text


def test_killed_in_rollouts_and_evaluation_nothing_is_lost(whole: Path, make: Make, tmp_path: Path) -> None:
    config = make()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LINE_SECONDS": "0.004", "KEYSTEP_TEST_FAKES": ""}
    command = [sys.executable, expit_killer.__file__, str(tmp_path / "run.toml"), str(config.output)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    killed = {tuple(place) for place in json.loads(done.stdout.splitlines()[-1])}
    assert {("iteration-1", "rollouts"), ("iteration-1", "evaluation")} <= killed
    mine, theirs = (run / "iteration-1" for run in (config.output, whole))
    assert DatasetReader(mine / "rollouts").sha256() == DatasetReader(theirs / "rollouts").sha256()
    kept, known = (read_plans(place / "tried") for place in (mine, theirs))
    assert sorted(
        zip(kept.tasks, kept.contexts, kept.trials.tolist(), kept.success.tolist(), strict=True)
    ) == (
        sorted(zip(known.tasks, known.contexts, known.trials.tolist(), known.success.tolist(), strict=True))
    )
    for network in ("planner", "controller"):
        a, b = (load_file(place / network / "model.safetensors") for place in (mine, theirs))
        assert a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)
    reports = [json.loads((place / "evaluation.json").read_text()) for place in (mine, theirs)]
    assert reports[0]["total"] == reports[1]["total"]


def test_without_any_success_more_contexts_go_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINE_FAILING", "Left,Right")
    few = LINE.replace("max_contexts = 12", "max_contexts = 2")
    with pytest.raises(
        DatasetError, match=r"expected successful rollouts .*got none of Left, Right in 8 contexts; raise "
        r"rollouts\.max_contexts and run again"
    ):  # fmt: skip
        expit(make(few))
    monkeypatch.delenv("LINE_FAILING")
    config = make()
    assert len(expit(config).success) == 2
    contexts = {
        (row["task"], row["kind"]): row["contexts"] for row in rollouts_of(config.output, 1)["counts"]
    }
    assert min(contexts.values()) > 2, "those that were tried count"


def test_a_task_without_success_has_its_demonstrations(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINE_FAILING", "Left")
    with pytest.raises(DatasetError, match=r"got none of Left in .*set without_success to something else"):
        expit(make(without_success="refuse"))
    config = make()
    expit(config)
    facts = rollouts_of(config.output, 1)
    assert facts["without_success"] == facts["demonstrations"]["tasks"] == ["Left"]
    copies = config.output / "iteration-1" / "demonstrations"
    assert check_dataset(copies) == []
    first, copied = DatasetReader(config.dataset), DatasetReader(copies)
    originals = [episode for episode in first.episodes() if episode.task == "Left"]
    for episode, copy in zip(originals, copied.episodes(), strict=True):
        a, b = first.read_episode(episode), copied.read_episode(copy)
        assert all((a[key] == b[key]).all() for key in ("observation.state", "action"))
        assert (copy.task, copy.seed, copy.extras) == (episode.task, episode.seed, episode.extras)
    record = json.loads((config.output / "iteration-1" / "iteration.json").read_text())
    wanted = [facts["dataset_sha256"], facts["demonstrations"]["dataset_sha256"]]
    assert record["done"]["planner"]["datasets_sha256"] == wanted
    trained = json.loads((config.output / "iteration-1" / "planner" / "policy.json").read_text())
    assert trained["provenance"]["datasets_sha256"] == wanted
    shutil.rmtree(copies)
    with pytest.raises(DatasetError, match="demonstrations: expected what this run made"):
        expit(config)


def test_leave_out_is_the_algorithm_as_it_is_written(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINE_FAILING", "Left")
    config = make(without_success="leave_out")
    assert len(expit(config).success) == 2
    facts = rollouts_of(config.output, 1)
    assert facts["without_success"] == ["Left"] and "demonstrations" not in facts
    assert {episode.task for episode in DatasetReader(config.output / "iteration-1/rollouts").episodes()} == {
        "Right"
    }
