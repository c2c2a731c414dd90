"""The loop: what each iteration learns from, that it goes on wherever it was stopped, what it refuses."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_rollouts
import pytest
import torch
from expit_runs import FILE
from safetensors.torch import load_file

import keystep
from keystep.data import DatasetError, DatasetReader
from keystep.expit import ExpitConfig, expit
from keystep.expit.folder import STAGES, Iteration, is_locked, locked
from keystep.expit.status import Status, status_text
from keystep.models.checkpoint import read_checkpoint
from keystep.train import expit as public_name

Make = Callable[..., ExpitConfig]
Runs = dict[str, ExpitConfig]
PROGRAM = """
import sys
import fake_rollouts
fake_rollouts.install()
from keystep.cli import main
main(sys.argv[1:])
"""


def record(run: Path, number: int) -> dict[str, Any]:
    return json.loads((run / f"iteration-{number}" / "iteration.json").read_text())


@pytest.mark.parametrize("mode", ["standard", "ft"])
def test_every_iteration_learns_from_what_its_algorithm_says(mode: str, runs: Runs) -> None:
    config = runs[f"{mode}-0"]
    run, d0 = config.output, DatasetReader(config.dataset).sha256()
    collected = [DatasetReader(run / f"iteration-{number}" / "rollouts").sha256() for number in (1, 2)]
    assert collected[0] != collected[1]
    data = {
        "standard": [[d0], [d0, collected[0]], [d0, *collected]],
        "ft": [[d0], *([one] for one in collected)],
    }
    steps = {"standard": [(12, 12), (18, 18), (24, 24)], "ft": [(12, 12), (2, 1), (2, 1)]}
    for number in range(3):
        done = record(run, number)["done"]
        assert list(done) == [stage for stage in STAGES if stage != "scorer"][number == 0 :]
        assert (
            done["planner"]["datasets_sha256"] == done["controller"]["datasets_sha256"] == data[mode][number]
        )
        assert (done["planner"]["steps"], done["controller"]["steps"]) == steps[mode][number]
        for network in ("planner", "controller"):
            before = record(run, number - 1)["done"][network]["weights_sha256"] if number else None
            assert done[network]["from_weights_sha256"] == (before if mode == "ft" else None)
            first, own = (read_checkpoint(run / f"iteration-{n}" / network) for n in (0, number))
            assert own.normalizer().entries == first.normalizer().entries  # D0's stay
    manifest = keystep.read_manifest(run / "iteration-2" / "policy.keystep")
    assert manifest["family"] == "subgoal"
    assert manifest["planner"]["sampler"]["guidance"] == 2.0  # that of the evaluation
    assert "finished" in status_text(run)
    assert public_name is expit


def test_runs_share_d0_and_iteration_0(runs: Runs, make_config: Make, tmp_path: Path) -> None:
    kept, taken = (record(runs[name].output, 0)["done"] for name in ("ft-0", "standard-0"))
    assert taken == kept
    first = runs["ft-0"]
    text = FILE.replace('"d0"', json.dumps(str(first.dataset)))
    other = make_config(text, seed=3, output=str(tmp_path / "other"), start=str(first.output))
    with pytest.raises(DatasetError, match=r"start: .*: seed: expected 0 to go on, got 3"):
        expit(other)
    nowhere = make_config(text, output=str(tmp_path / "more"), start=str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match=r"folder: expected one of keystep expit, got"):
        expit(nowhere)


def test_a_run_waits_while_another_collects_its_d0(
    make_config: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keystep.expit.run.WAIT_SECONDS", 0.05)
    config = make_config(iterations=0)
    (tmp_path / "d0").mkdir()
    holder = os.open(tmp_path / "d0", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    told = []

    def release() -> None:
        while "d0: another process is writing it; waiting" not in "".join(told):
            told.append(capfd.readouterr().out)
            time.sleep(0.02)
        os.close(holder)

    other = threading.Thread(target=release)
    other.start()
    assert len(expit(config).success) == 1
    other.join()
    assert "".join(told).count("waiting") == 1


def test_act_is_a_controller_of_the_loop(make_config: Make) -> None:
    text = FILE.replace("[controller]", '[controller]\nkind = "act"\npreset = "act-tiny"')
    config = make_config(text, iterations=1)
    assert len(expit(config).success) == 2
    assert read_checkpoint(config.output / "iteration-1" / "controller").kind == "act"


def same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(path / "model.safetensors") for path in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_killed_at_every_step_it_ends_with_the_same_weights(
    runs: Runs, make_config: Make, tmp_path: Path
) -> None:
    config = make_config(iterations=1)
    script = Path(fake_rollouts.__file__).with_name("expit_killer.py")
    arguments = [str(tmp_path / "run.toml"), str(config.output), "--iterations", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    killed = {tuple(place) for place in json.loads(done.stdout.splitlines()[-1])}
    assert {stage for _, stage in killed} >= {"planner", "controller", "bundle"}
    for number in (0, 1):
        for network in ("planner", "controller"):
            place = f"iteration-{number}/{network}"
            assert same_weights(config.output / place, runs["ft-0"].output / place), place
        assert not list((config.output / f"iteration-{number}").glob(".*"))
    told = [
        (path / "iteration-1" / "evaluation.json").read_text()
        for path in (config.output, runs["ft-0"].output)
    ]
    assert json.loads(told[0])["total"]["solved"] == json.loads(told[1])["total"]["solved"]


def test_sigterm_saves_and_stops(make_config: Make, tmp_path: Path) -> None:
    config = make_config(FILE.replace("[planner]", "[planner]\nsteps = 100000"))
    command = [sys.executable, "-c", PROGRAM, "expit", str(tmp_path / "run.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    states = config.output / "iteration-0" / "planner" / "training_state"
    while process.poll() is None and not list(states.glob("step-*")):
        time.sleep(0.05)
    assert is_locked(config.output)
    with pytest.raises(DatasetError, match=rf"expected no other run in this folder, got .*{process.pid}"):
        expit(config)
    assert "at work on iteration 0, planner" in status_text(config.output)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate()
    assert process.returncode == 130, told.decode()
    assert "stopped; run again to go on" in told.decode()
    assert not is_locked(config.output)
    text = status_text(config.output)
    assert "stopped before the end of iteration 0, planner" in text
    assert "time left: about" in text


def test_an_iteration_without_success_says_which_tasks(
    begun: Path, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fake_rollouts.FAILING, "Left,Right")
    config = make_config(iterations=1)
    with pytest.raises(
        DatasetError, match=r"expected successful rollouts .*got none of Left, Right in 8 contexts"
    ):
        expit(config)
    monkeypatch.setenv(fake_rollouts.FAILING, "Left")
    assert len(expit(config).success) == 2  # it goes on
    assert record(begun, 1)["done"]["rollouts"]["without_success"] == ["Left"]
    assert "| Left | reset |" in status_text(begun)


def test_what_does_not_belong_to_the_run_is_refused(begun: Path, make_config: Make, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expit.json: rollouts.trials: expected 2 to go on, got 9"):
        expit(make_config(FILE.replace("[rollouts]", "[rollouts]\ntrials = 9")))
    with pytest.raises(DatasetError, match=r"expit.json: planner.batch_size: expected 16 to go on, got 32"):
        expit(make_config(FILE.replace("[planner]", "[planner]\nbatch_size = 32")))
    kept = json.loads((begun / "expit.json").read_text())  # as of a version without this setting
    del kept["settings"]["planner"]["training"]["symmetries"]
    (begun / "expit.json").write_text(json.dumps(kept))
    with pytest.raises(
        DatasetError, match=r"expit.json: planner.symmetries: expected False to go on, got True"
    ):
        expit(make_config(FILE.replace("[planner]", "[planner]\nsymmetries = true")))
    moved = shutil.move(tmp_path / "d0", tmp_path / "moved")
    again = make_config(FILE.replace('"d0"', '"moved"'), iterations=0)
    assert len(expit(again).success) == 1  # data may move
    shutil.rmtree(moved)
    fake_rollouts.collect(moved, suite="moon.suite", episodes=2, seed=50)
    with pytest.raises(DatasetError, match=r"demonstrations\.dataset: expected the one that"):
        expit(again)


def test_a_checkpoint_of_something_else_is_refused(begun: Path, make_config: Make) -> None:
    config = make_config(iterations=1)
    iteration = Iteration(begun, 0)
    for network, other in (("planner", "controller"), ("controller", "planner")):
        place = getattr(iteration, network) / "model.safetensors"
        kept = place.read_bytes()
        shutil.copyfile(getattr(iteration, other) / "model.safetensors", place)
        with pytest.raises(DatasetError, match=rf"{network}/model.safetensors: expected what this run made"):
            expit(config)
        place.write_bytes(kept)
    shutil.copytree(iteration.planner, begun / "iteration-1" / "planner")  # a training that belongs to D0
    with pytest.raises(DatasetError, match=r"iteration-1/planner: .*: expected .* to resume, got"):
        expit(config)


def test_a_removed_step_is_made_again_as_the_message_says(
    runs: Runs, make_config: Make, tmp_path: Path
) -> None:
    """Of a whole run: the advice is followed to the letter, and the end is the same."""
    shutil.copytree(runs["ft-0"].dataset, tmp_path / "d0")
    shutil.copytree(runs["ft-0"].output, tmp_path / "run")
    config = make_config()
    record_of_two = config.output / "iteration-2" / "iteration.json"
    made = record_of_two.read_text()
    other = json.loads(made)
    other["done"]["controller"]["from_weights_sha256"] = "0" * 64  # as if iteration 1 had been another one
    record_of_two.write_text(json.dumps(other))
    with pytest.raises(
        DatasetError,
        match=r"iteration-2: controller: from_weights_sha256: expected .*; remove iteration-2 and",
    ):
        expit(config)
    record_of_two.write_text(made)
    advice = r"restore it, or remove iteration-1 and those after it to make them again"
    shutil.rmtree(config.output / "iteration-1" / "planner")
    with pytest.raises(DatasetError, match=rf"planner/model.safetensors: expected .*got none; {advice}"):
        expit(config)
    shutil.rmtree(config.output / "iteration-1")
    with pytest.raises(
        DatasetError,
        match=r"iteration-2: rollouts: bundle_sha256: expected .*; remove iteration-2 and",
    ):  # it came from another iteration 1, whose bundle says when it was trained
        expit(config)
    shutil.rmtree(config.output / "iteration-2")
    assert len(expit(config).success) == 3
    for network in ("planner", "controller"):
        place = f"iteration-2/{network}"
        assert same_weights(config.output / place, runs["ft-0"].output / place)


def test_start_does_not_remove_what_was_begun(runs: Runs, make_config: Make, tmp_path: Path) -> None:
    shutil.copytree(runs["ft-0"].dataset, tmp_path / "d0")
    config = make_config(start=str(runs["ft-0"].output), iterations=0)
    begun = config.output / "iteration-0" / "planner" / "kept"
    begun.parent.mkdir(parents=True)
    begun.write_text("hours")
    shutil.copyfile(runs["ft-0"].output / "expit.json", config.output / "expit.json")
    with pytest.raises(DatasetError, match=r"start: expected a run without an iteration 0, got .*remove it"):
        expit(config)
    assert begun.read_text() == "hours"
    shutil.rmtree(config.output / "iteration-0")
    (config.output / ".iteration-0.tmp-1").mkdir()  # of a copy that was killed
    assert len(expit(config).success) == 1
    assert not list(config.output.glob(".iteration-0*"))


def test_who_asks_whether_a_run_is_at_work_does_not_stop_it(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    descriptor = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # as `keystep expit --status` for a moment
    threading.Timer(0.2, os.close, (descriptor,)).start()
    with locked(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_the_rate_is_of_what_the_last_start_has_done(runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(runs["ft-0"].output, tmp_path / "run")
    place = tmp_path / "run" / "iteration-0" / "iteration.json"
    made = json.loads(place.read_text())
    made["done"]["evaluation"] |= {"episodes": 200, "gained": 2, "seconds": 6.0}  # killed after 198
    place.write_text(json.dumps(made))
    for number in (1, 2):
        shutil.rmtree(tmp_path / "run" / f"iteration-{number}")
    assert Status(tmp_path / "run")._rates()["evaluation"] == 3.0
    made["done"]["evaluation"]["gained"] = 0
    place.write_text(json.dumps(made))
    assert "evaluation" not in Status(tmp_path / "run")._rates()


def test_the_rehearsed_bundle_is_the_bundle(runs: Runs) -> None:
    from keystep.expit.checks import _rehearsed

    config = runs["ft-0"]
    first = Iteration(config.output, 0)
    rehearsed, real = _rehearsed(config, first), keystep.read_manifest(first.bundle)
    for name in ("family", "goal", "tasks", "observation", "action", "control_rate_hz"):
        assert rehearsed[name] == real[name], name
    graphs = [{name: (entry["inputs"], entry["outputs"]) for name, entry in manifest["graphs"].items()}
              for manifest in (rehearsed, real)]  # fmt: skip
    assert graphs[0] == graphs[1]


def test_a_dataset_that_is_unfit_names_itself_and_not_a_table(runs: Runs) -> None:
    from keystep.expit.checks import _of

    with pytest.raises(DatasetError, match=r"^runs/d0: damaged$"), _of("planner", Path("runs/d0")):
        raise DatasetError("runs/d0: damaged")
    with (
        pytest.raises(keystep.ArgumentError, match=r"^planner: subgoal: no such"),
        _of("planner", Path("d0")),
    ):
        raise DatasetError("subgoal: no such")


def test_a_full_disk_is_one_error_and_the_run_goes_on(
    begun: Path, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keystep.expit.folder as folder

    config = make_config(iterations=1)
    written = folder.write_json

    def full(path: Path, value: Any) -> None:
        if path.name == "iteration.json":
            raise OSError(28, "No space left on device")
        written(path, value)

    monkeypatch.setattr(folder, "write_json", full)
    with pytest.raises(
        DatasetError, match=r"could not write: .*No space left on device.*; run again to go on"
    ):
        expit(config)
    assert (begun / "iteration-1" / "rollouts").exists()
    monkeypatch.setattr(folder, "write_json", written)
    assert len(expit(config).success) == 2
