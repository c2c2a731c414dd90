"""A bundle of the family code writes in an episode what its checkpoint writes, and remembers the same."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("torch", reason="training packages are not installed")
pytest.importorskip("transformers")

from code_checkpoints import code_checkpoint
from taught_code import CALLS, LESSONS, TASK, observed, taught_checkpoint

import keystep
from keystep import cli
from keystep.code.grammar import CodeError
from keystep.commands.code_planners import code_planner_at
from keystep.export.code_bundle import export_code_bundle, load_code_planning
from keystep.suites.headless import missing_driver
from keystep.suites.tabletop.oracle.bundle_planner import BundlePlanner
from keystep.suites.tabletop.oracle.replies import ENDLESS, Endless
from keystep.train.code_acting import CheckpointPlanner

LIMIT = 48


@pytest.fixture(scope="module", params=["micro", "micro-state"])
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught_checkpoint(tmp_path_factory.mktemp("taught"), request.param)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    return export_code_bundle(checkpoint, checkpoint / "it.keystep", reply_tokens=LIMIT)


def test_it_writes_what_the_checkpoint_writes(checkpoint: Path, bundle: Path) -> None:
    planning = load_code_planning(checkpoint, LIMIT)
    first, second = CheckpointPlanner(checkpoint), BundlePlanner(bundle)
    assert (second.image_size, second.grid) == (first.image_size, first.grid)
    for _ in range(2):  # an episode leaves nothing to the next
        first.begin(TASK)
        second.begin(TASK)
        written = []
        for lesson in range(len(LESSONS)):
            seen = {**observed(planning, lesson), "more": np.zeros(3)}
            replies = [planner.write(seen, request=False) for planner in (first, second)]
            second.prepare()
            assert replies[0].text == replies[1].text and replies[1].ended and replies[1].passes > 0
            written.append(replies[1].text)
        assert tuple(text for text in written if not text.startswith("#")) == CALLS


def test_a_mean_picture_and_other_floats_are_given_as_the_bundle_wants_them(
    checkpoint: Path, bundle: Path
) -> None:
    planning, planner = load_code_planning(checkpoint, LIMIT), BundlePlanner(bundle)
    planner.begin(TASK)
    seen = {key: value.astype(np.float64) for key, value in observed(planning, 0).items()}
    if planner.image_size is not None:
        seen["observation.images.base"] += 0.3
    assert planner.write(seen, request=False).text == CALLS[0]


def test_what_it_cannot_be_told_or_write_ends_the_episode_not_the_program(
    checkpoint: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner, seen = BundlePlanner(bundle), observed(load_code_planning(checkpoint, LIMIT), 0)

    def fails(*given: Any, **how: Any) -> None:
        raise keystep.PolicyError("reply: expected finite logits, got NaN")

    monkeypatch.setattr(planner._planner, "ask", fails)
    with pytest.raises(CodeError) as told:
        planner.write(seen)
    assert told.value.problem == "expected finite logits, got NaN", "who asked says of what"
    monkeypatch.setattr(planner._planner, "reset", fails)
    with pytest.raises(CodeError, match="expected finite logits, got NaN"):
        planner.begin(TASK)


def test_a_reply_without_an_end_is_told_as_that_of_the_checkpoint(tmp_path: Path) -> None:
    folder = code_checkpoint(tmp_path / "random", "micro-state")
    made = export_code_bundle(folder, tmp_path / "random.keystep", reply_tokens=LIMIT)
    first, second = CheckpointPlanner(folder), BundlePlanner(made)
    seen = observed(load_code_planning(folder, LIMIT), 0)
    for planner in (first, second):
        planner.begin(TASK)
    written = first.write(seen)
    assert not written.ended
    with pytest.raises(Endless) as told:
        second.write(seen)
    assert told.value.problem == ENDLESS and not ENDLESS.startswith("reply: ")
    assert told.value.text and written.text.startswith(told.value.text)  # that one has a wider limit
    for planner in (first, second):
        planner.begin(TASK)
    with pytest.raises(CodeError, match=r"finite numbers, got NaN or Inf$") as torch_s:
        first.write({key: np.full_like(value, np.nan) for key, value in seen.items()})
    with pytest.raises(CodeError) as bundle_s:
        second.write({key: np.full_like(value, np.nan) for key, value in seen.items()})
    assert bundle_s.value.problem and torch_s.value.problem.startswith("logits: ")


def test_a_command_opens_it_in_every_process_and_names_its_digest(bundle: Path, checkpoint: Path) -> None:
    source, other = code_planner_at(bundle), code_planner_at(checkpoint)
    assert str(source).startswith("bundle it.keystep, sha256 ") and str(other).startswith("checkpoint ")
    assert source.about == {"planner": "bundle", "bundle": "it.keystep", "bundle_sha256": source.sha256}
    assert set(other.about) == {"planner", "checkpoint", "weights_sha256"}
    again = pickle.loads(pickle.dumps(source.open))
    assert again().grid == source.open().grid == 32


def test_eval_plays_a_bundle_with_sight_and_without(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mani_skill", reason="needs the extra 'sim'")
    if missing_driver() is not None:
        pytest.skip("no Vulkan driver")
    from keystep.commands import eval_oracle

    monkeypatch.setattr(eval_oracle, "MEAN_SCENES", 1)
    monkeypatch.setattr(eval_oracle, "TASKS", {"Pick": eval_oracle.TASKS["Pick"]})
    what = ["--suite", "tabletop", "--act", "oracle", "--blind", "--tasks", "Pick", "--episodes", "1"]
    file, table = tmp_path / "a.json", tmp_path / "a.md"
    status = cli.run(["eval", str(bundle), *what, "--json", str(file), "--markdown", str(table)])
    out = capsys.readouterr().out
    assert status == 0 and "bundle it.keystep, sha256" in out
    found = json.loads(file.read_text())
    assert found["planner"] == "bundle" and found["bundle_sha256"] == code_planner_at(bundle).sha256
    assert found["sighted"]["played"] == found["blind"]["played"] == 1
    assert table.read_text().startswith("bundle it.keystep, sha256")
