"""Sets of tried plans: written whole or not at all, continued, read as they were written."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from keystep.data.errors import DatasetError
from keystep.files import sha256
from keystep.record import plans_tried
from keystep.record.plan_files import bundle_hash
from keystep.record.plans_tried import PlansWriter, read_plans

M, S = 3, 2
KEY = "observation.state"


def policy(subgoals: int = M, kind: str = "vector", name: str = "first") -> Any:
    feature = {"key": KEY, "kind": kind, "dtype": "float32", "shape": [S], "history": 1, "names": ["x", "y"]}
    if kind == "rgb":
        feature |= {"dtype": "uint8", "shape": [8, 8, 3], "names": []}
    planner = {"subgoal": KEY, "subgoals": subgoals}
    entry = feature | {"normalization": {"mode": "identity"}}
    return SimpleNamespace(
        manifest={"planner": planner, "observation": [entry], "family": "subgoal", "name": name}
    )


def row(number: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    rng = np.random.default_rng(number)
    plan = {KEY: rng.standard_normal((M, S)).astype(np.float32)}
    seen = {KEY: rng.standard_normal(S).astype(np.float32)}
    about = {"task": f"task_{number % 2}", "context": f"reset {number // 4}", "trial": number}
    return plan, seen, about | {"success": number % 3 == 0, "text": "Do it."}


def fill(folder: Path, numbers: range, **options: Any) -> int:
    with PlansWriter(folder, policy().manifest, **options) as writer:
        return sum(writer.add(plan, seen, **about) for plan, seen, about in map(row, numbers))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert fill(tmp_path, range(10), every=4) == 10
    found = read_plans(tmp_path)
    assert len(found) == 10 and found.spec.subgoals == M and found.spec.names == ("x", "y")
    for number in range(10):
        plan, seen, about = row(number)
        np.testing.assert_array_equal(found.plans[number], plan[KEY])
        np.testing.assert_array_equal(found.observations[number], seen[KEY])
        assert (found.tasks[number], found.contexts[number]) == (about["task"], about["context"])
        assert (found.trials[number], bool(found.success[number])) == (number, about["success"])
        assert found.texts[number] == "Do it." and found.bundles[number] == bundle_hash(policy().manifest)
    assert len(list(tmp_path.glob("plans-*.parquet"))) == 3  # 4, 4 and the rest


def test_a_set_is_continued_and_nothing_is_there_twice(tmp_path: Path) -> None:
    fill(tmp_path, range(6))
    assert fill(tmp_path, range(9)) == 3
    assert len(read_plans(tmp_path)) == 9
    assert len(read_plans([tmp_path, tmp_path])) == 18


def test_many_flushes_make_few_files(tmp_path: Path) -> None:
    with PlansWriter(tmp_path, policy().manifest, every=5) as writer:
        for number in range(12):
            plan, seen, about = row(number)
            writer.add(plan, seen, **about)
            writer.flush()
            assert len(read_plans(tmp_path)) == number + 1
    assert len(list(tmp_path.glob("plans-*.parquet"))) == 3
    (tmp_path / "plans-000099.parquet").write_bytes(b"of a run that was killed")
    assert fill(tmp_path, range(14), every=5) == 2
    assert len(list(tmp_path.glob("plans-*.parquet"))) == 3
    assert read_plans(tmp_path).trials.tolist() == list(range(14))


def test_another_policy_has_plans_of_its_own_in_the_same_contexts(tmp_path: Path) -> None:
    fill(tmp_path, range(4))
    with PlansWriter(tmp_path, policy(name="second").manifest) as writer:
        plan, seen, about = row(0)
        assert writer.add(plan, seen, **about) and not writer.add(plan, seen, **about)
    found = read_plans(tmp_path)
    assert len(found) == 5 and len(set(found.bundles)) == 2


def test_a_kill_leaves_what_was_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, range(4))
    before = sha256(tmp_path / "plans.json")

    class KilledError(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    for name in ("pq.write_table", "described"):  # before the rows are on disk, and before they are named
        with monkeypatch.context() as patched:
            target, _, attribute = name.rpartition(".")
            patched.setattr(getattr(plans_tried, target) if target else plans_tried, attribute, killed)
            with pytest.raises(KilledError):
                fill(tmp_path, range(4, 8))
        assert sha256(tmp_path / "plans.json") == before and len(read_plans(tmp_path)) == 4
        assert not list(tmp_path.glob(".*tmp"))
    assert fill(tmp_path, range(8)) == 4 and len(read_plans(tmp_path)) == 8


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        PlansWriter(tmp_path, policy().manifest),
        pytest.raises(DatasetError, match="expected no other writer"),
    ):
        PlansWriter(tmp_path, policy().manifest)
    PlansWriter(tmp_path, policy().manifest).close()


def test_bad_plans_are_refused(tmp_path: Path) -> None:
    plan, seen, about = row(0)
    with PlansWriter(tmp_path, policy().manifest) as writer:
        with pytest.raises(
            DatasetError, match=r"plan: expected one \(policy\.plan\(\) after a tick\), got None"
        ):
            writer.add(None, seen, **about)
        with pytest.raises(DatasetError, match=r"plan: expected \(3, 2\), got \(2, 2\)"):
            writer.add({KEY: plan[KEY][:2]}, seen, **about)
        with pytest.raises(DatasetError, match="observation: expected finite numbers, got NaN or Inf"):
            writer.add(plan, {KEY: np.full(S, np.nan, np.float32)}, **about)
        assert len(writer) == 0
    with pytest.raises(DatasetError, match=r"expected a set of tried plans, got no plans\.json in it"):
        read_plans(tmp_path)
    with pytest.raises(DatasetError, match=r"expected plans of vectors, got rgb"):
        PlansWriter(tmp_path, policy(kind="rgb").manifest)


def test_damage_is_named(tmp_path: Path) -> None:
    fill(tmp_path, range(4))
    with pytest.raises(DatasetError, match=r"expected plans of .*subgoals=4.*, got .*subgoals=3"):
        PlansWriter(tmp_path, policy(subgoals=4).manifest)
    description = json.loads((tmp_path / "plans.json").read_text())
    (tmp_path / "plans.json").write_text(json.dumps(description | {"version": 2}))
    with pytest.raises(DatasetError, match="expected keystep-plans version 1, got keystep-plans version 2"):
        read_plans(tmp_path)
    (tmp_path / "plans.json").write_text(json.dumps({**description, "files": [{"file": "x"}]}))
    with pytest.raises(DatasetError, match="expected a description of tried plans"):
        read_plans(tmp_path)
    (tmp_path / "plans.json").write_text(json.dumps(description))
    with (tmp_path / "plans-000000.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DatasetError, match=r"plans-000000\.parquet: expected sha256"):
        read_plans(tmp_path)
