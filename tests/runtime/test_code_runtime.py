"""`keystep.CodeRuntime`: what it refuses, what fails and is tried again, who may ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_checkpoints import code_checkpoint  # noqa: E402
from stub_bundle import write_stub_bundle  # noqa: E402

import keystep  # noqa: E402
from keystep.code.grammar import parse  # noqa: E402
from keystep.commands import inspect  # noqa: E402
from keystep.export.code_bundle import export_code_bundle  # noqa: E402
from keystep.files import sha256  # noqa: E402

REPLY = 6
PATIENCE_S = 120.0
NO_ACTION = {"name": "get_actor", "result": "actor", "parameters": []}
TASK = "Pick up the red cube"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: its replies are nonsense, and most have no end."""
    checkpoint = code_checkpoint(tmp_path_factory.mktemp("code"), "micro-state", context=300)
    return export_code_bundle(checkpoint, checkpoint / "it.keystep", reply_tokens=REPLY)


@pytest.fixture(scope="module")
def seen(bundle: Path) -> dict[str, np.ndarray]:
    observation = json.loads((bundle / "manifest.json").read_text())["observation"]
    return {one["key"]: np.full(one["shape"], 0.25, np.float32) for one in observation}


def changed(bundle: Path, folder: Path, planner: dict[str, Any]) -> Path:
    """A copy with other entries of `planner`."""
    folder.mkdir()
    for file in bundle.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["planner"] |= planner
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


# ---- loading


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"way": "beam"}, "way: expected greedy | early_stop | draft, got 'beam'"),
        ({"way": ""}, "way: expected greedy | early_stop | draft, got ''"),
        ({"way": 0}, "way: expected a str, got int"),
        ({"early_stop": 0}, "early_stop: expected 1..65536, got 0"),
        ({"every": 70000}, "every: expected 1..65536, got 70000"),
        ({"every": 1.5}, "every: expected an integer, got float"),
        ({"mode": "async"}, "mode: expected none (family code), got 'async'"),
        ({"inference_steps": 3}, "inference_steps: expected none (family code), got 3"),
        ({"deadline_us": -1.0}, "deadline_us: expected 0 (the control period) or more"),
    ],
)
def test_options_that_are_refused(bundle: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(keystep.ArgumentError) as refused:
        keystep.load(bundle, **options)
    assert str(refused.value).startswith(message)


def test_engines_that_have_no_kernels_for_it(bundle: Path) -> None:
    for engine in ("stub", "native"):
        with pytest.raises(keystep.ProviderError, match=r"^engine: expected auto \| onnxruntime"):
            keystep.load(bundle, engine=engine)


def test_other_families_have_no_way_to_write(tmp_path: Path) -> None:
    flat = write_stub_bundle(tmp_path / "flat.keystep")
    with pytest.raises(keystep.ArgumentError, match=r"^way: expected none, got 'draft'$"):
        keystep.load(flat, engine="stub", way="draft")


def test_a_manifest_may_restrict_replies(bundle: Path, tmp_path: Path, seen: dict[str, np.ndarray]) -> None:
    decoding = {"way": "draft", "early_stop": 24, "every": 1, "constrained": True}
    folder = changed(bundle, tmp_path / "it.keystep", {"decoding": decoding})
    with keystep.load(folder, threads=1) as planner:
        assert planner.bundle.code.constrained is True
        planner.reset("Pick up the red cube")
        parse(planner.ask(seen).text)
    with keystep.load(folder, constrained=False, threads=1) as planner:
        assert planner.bundle.code.constrained is False
    mute = changed(bundle, tmp_path / "mute.keystep", {"decoding": decoding, "api": [NO_ACTION]})
    with pytest.raises(keystep.BundleError, match=r"^planner\.reply_tokens: expected at least "):
        keystep.load(mute, threads=1)


def test_what_is_loaded(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with keystep.load(bundle, way="greedy", every=3, threads=1) as planner:
        facts = planner.bundle.code
        assert (planner.bundle.family, facts.way, facts.every, facts.early_stop) == ("code", "greedy", 3, 24)
        assert (facts.sees, facts.feels, facts.grid) == ("observation.objects", "observation.state", 32)
        assert repr(planner).startswith("<keystep.CodeRuntime 'it'; family code, ")
        assert {choice["engine"] for choice in planner.engine_choices} == {"onnxruntime"}
    inspect.main(bundle, threads=1)
    shown = capsys.readouterr().out
    assert "sees              observation.objects, " in shown and "runs decode.onnx" in shown


# ---- asking


def test_before_reset_and_after_close(bundle: Path, seen: dict[str, np.ndarray]) -> None:
    planner = keystep.load(bundle, threads=1)
    with pytest.raises(keystep.PolicyError) as early:
        planner.ask(seen)
    assert early.value.status == "not_reset" and planner.task == "" and planner.memory() == ()
    planner.close()
    planner.close()
    for call in (lambda: planner.ask(seen), planner.prepare, planner.memory, lambda: planner.reset(TASK)):
        with pytest.raises(keystep.PolicyError) as closed:
            call()
        assert closed.value.status == "closed"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("", "task: expected a task or an instruction, got none"),
        ("a\nb", "task: expected one line of text"),
        ("x" * 5000, "task: expected at most 4096 bytes, got 5000"),
        ("x" * 400, "task: expected a prompt of at most 294 tokens (context - reply_tokens), got 4"),
        ("\ud800", "task: expected UTF-8"),
        (7, "task: expected a str"),
    ],
)
def test_tasks_that_are_refused(bundle: Path, seen: dict[str, np.ndarray], task: Any, message: str) -> None:
    with keystep.load(bundle, threads=1) as planner:
        planner.reset("赤いブロックを取って")
        with pytest.raises(keystep.ArgumentError) as refused:
            planner.reset(task)
        assert str(refused.value).startswith(message)
        assert planner.task == "赤いブロックを取って"  # the episode before goes on


def test_observations_that_are_refused(bundle: Path, seen: dict[str, np.ndarray]) -> None:
    with keystep.load(bundle, threads=1) as planner:
        planner.reset(TASK)
        key = "observation.objects"
        with pytest.raises(keystep.ArgumentError, match=r"observation\.objects"):
            planner.ask({"observation.state": seen["observation.state"]})
        with pytest.raises(keystep.ArgumentError, match="float32"):
            planner.ask(seen | {key: seen[key].astype(np.float64)})
        with pytest.raises(keystep.PolicyError, match=r"observation\.state.*a finite value") as bad:
            planner.ask(seen | {"observation.state": np.full_like(seen["observation.state"], np.nan)})
        assert bad.value.status == "bad_observation" and planner.memory() == ()


SESSIONS = """
import os, sys
import keystep

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

kept = []
for constrained in (False, True):
    planner = keystep.load(sys.argv[1], constrained=constrained, threads=1)
    kept.append(planner.session())
    before = resident()
    kept += [planner.session() for _ in range(40)]
    print(resident() - before)
"""
"""Bytes that 40 sessions add, free and constrained, in a process of its own."""


def test_sessions_make_no_constraint_of_their_own(bundle: Path) -> None:
    """Its automaton has some 0.35 MB."""
    run = [sys.executable, "-c", SESSIONS, str(bundle)]
    free, constrained = map(
        int, subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    )
    assert constrained < free + 5e6


def test_a_session_outlives_who_made_it(bundle: Path, seen: dict[str, np.ndarray]) -> None:
    planner = keystep.load(bundle, constrained=True, threads=1)
    with planner.session() as session:
        planner.close()
        session.reset(TASK)
        parse(session.ask(seen).text)


def test_replies_without_an_end_are_none(bundle: Path, seen: dict[str, np.ndarray]) -> None:
    with keystep.load(bundle, threads=1) as planner:
        planner.reset(TASK)
        with pytest.raises(
            keystep.PolicyError, match="reply: expected at most 6 tokens with an end"
        ) as endless:
            planner.ask(seen)
        assert endless.value.status == "rejected_plan" and planner.memory() == () and planner.code() == ""
        (event,) = planner.events()
        assert event.kind == "endless" and event.text
        assert planner.telemetry().endless == planner.latency().rejected_plans == 1


def test_logits_that_are_no_numbers(bundle: Path, seen: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = changed(bundle, tmp_path / "it.keystep", {})
    model = onnx.load(folder / "decode.onnx")
    for one in model.graph.initializer:
        if one.data_type == onnx.TensorProto.FLOAT and len(one.dims) == 2:
            values = np.full(one.dims, np.nan, np.float32)
            one.CopyFrom(onnx.numpy_helper.from_array(values, one.name))
    onnx.save(model, folder / "decode.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["graphs"]["decode"]["sha256"] = sha256(folder / "decode.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with keystep.load(folder, threads=1) as planner:
        planner.reset(TASK)
        for tries in (1, 2):
            with pytest.raises(keystep.PolicyError, match="logits: expected finite numbers") as refused:
                planner.ask(seen)
            assert refused.value.status == "rejected_plan" and planner.telemetry().not_finite == tries


def test_interrupts_from_another_thread(bundle: Path, seen: dict[str, np.ndarray]) -> None:
    with keystep.load(bundle, threads=1) as planner:
        planner.reset(TASK)
        done = threading.Event()

        def interrupting() -> None:
            while not done.wait(0.0005):
                planner.interrupt()

        other = threading.Thread(target=interrupting)
        other.start()
        found = set()
        until = time.monotonic() + PATIENCE_S
        while "interrupted" not in found and time.monotonic() < until:
            try:
                planner.ask(seen)
            except keystep.PolicyError as error:
                found.add(error.status)
        done.set()
        other.join()
        assert "interrupted" in found and found <= {"interrupted", "rejected_plan"}
        assert planner.latency().interrupts > 0


def test_a_second_thread_is_told(bundle: Path, seen: dict[str, np.ndarray]) -> None:
    with keystep.load(bundle, threads=1) as planner:
        planner.reset(TASK)
        found: list[str] = []

        def asking() -> None:
            until = time.monotonic() + PATIENCE_S
            while "busy" not in found and time.monotonic() < until:
                try:
                    planner.ask(seen)
                except keystep.PolicyError as error:
                    found.append(error.status)

        threads = [threading.Thread(target=asking) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert "busy" in found and set(found) <= {"busy", "rejected_plan"}


def test_closing_ends_a_question_of_another_thread(bundle: Path, seen: dict[str, np.ndarray]) -> None:
    planner = keystep.load(bundle, threads=1)
    planner.reset(TASK)
    found: list[str] = []
    begun = threading.Event()

    def asking() -> None:
        while not found or found[-1] == "rejected_plan":
            try:
                planner.ask(seen)
            except keystep.PolicyError as error:
                found.append(error.status)
            begun.set()

    other = threading.Thread(target=asking)
    other.start()
    begun.wait(PATIENCE_S)
    planner.close()
    other.join()
    assert found[-1] in {"closed", "interrupted"}
    with pytest.raises(keystep.PolicyError, match="closed"):
        planner.ask(seen)


def test_a_failure_between_questions_is_tried_again(bundle: Path, seen: dict[str, np.ndarray]) -> None:
    blind = seen | {"observation.state": np.full_like(seen["observation.state"], np.nan)}
    with keystep.load(bundle, threads=1, every=5, constrained=True) as planner:
        planner.reset(TASK)
        asked = []
        for step in range(8):
            try:
                reply = planner.ask(blind if step in (3, 4) else seen, request=step == 3)
                asked.append(reply.asked)
            except keystep.PolicyError as error:
                assert error.status == "bad_observation"
                asked.append(None)
        assert asked == [True, False, False, None, None, True, False, False]


def test_a_forked_child_is_told(bundle: Path, seen: dict[str, np.ndarray]) -> None:
    with keystep.load(bundle, threads=1) as planner:
        planner.reset(TASK)
        child = os.fork()
        if child == 0:
            try:
                planner.ask(seen)
            except keystep.PolicyError as error:
                os._exit(0 if error.status == "forked" else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_trace_has_its_passes(bundle: Path, seen: dict[str, np.ndarray], tmp_path: Path) -> None:
    with keystep.load(bundle, threads=1, trace=tmp_path / "run.pftrace") as planner:
        planner.reset(TASK)
        with pytest.raises(keystep.PolicyError):
            planner.ask(seen)
    content = (tmp_path / "run.pftrace").read_bytes()
    assert b"plan vision" in content and b"decode pass" in content
