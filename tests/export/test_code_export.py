"""Bundles of the family `code`: what export writes, what it refuses, what is refused of a damaged one."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from code_checkpoints import GRID, code_checkpoint, language, small_llava  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import keystep  # noqa: E402
from keystep.code.constraint import Constraint  # noqa: E402
from keystep.code.language import API  # noqa: E402
from keystep.code.prompt import PAPER  # noqa: E402
from keystep.commands import export as export_command  # noqa: E402
from keystep.commands import inspect as inspect_command  # noqa: E402
from keystep.commands import verify as verify_command  # noqa: E402
from keystep.export.bundle import export_bundle  # noqa: E402
from keystep.export.code_bundle import export_code_bundle  # noqa: E402
from keystep.export.code_language import LANGUAGE  # noqa: E402
from keystep.export.code_manifest import DECODING, api_entries  # noqa: E402
from keystep.export.code_reading import shortest_reply  # noqa: E402
from keystep.export.errors import ExportError  # noqa: E402
from keystep.export.manifest import validate  # noqa: E402
from keystep.export.onnx_planner import OnnxPlanner  # noqa: E402
from keystep.export.verify import verify_bundle  # noqa: E402
from keystep.files import sha256  # noqa: E402
from keystep.models.checkpoint import CheckpointError  # noqa: E402

REPLY = 6
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return code_checkpoint(tmp_path_factory.mktemp("code"), "micro-state", context=300)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    return export_code_bundle(checkpoint, checkpoint / "it.keystep", reply_tokens=REPLY)


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return json.loads((bundle / "manifest.json").read_text())


def test_the_manifest_says_all_that_the_runtime_needs(manifest: Manifest) -> None:
    planner, spoken = manifest["planner"], language()
    assert (manifest["family"], manifest["goal"], manifest["tasks"]) == ("code", "text", [])
    assert all(manifest[key] is None for key in ("action", "chunk", "sampler", "unet"))
    assert (planner["sees"], planner["feels"]) == ("observation.objects", "observation.state")
    assert planner["tokenizer"]["words"] == list(spoken.tokenizer.words)
    assert planner["never"] == [0, 2, 3] and planner["grid"] == GRID
    assert [function["name"] for function in planner["api"]] == list(API)
    assert planner["prompt"]["order"][-1] == "reply" and planner["decoding"]["way"] == "draft"
    errors = planner["weights"]["errors"]
    assert errors["max"] < 1e-5 and errors["agree"] == 1 and errors["margin"] == 0
    caches = [tensor["role"] for tensor in manifest["graphs"]["decode"]["inputs"][3:]]
    assert caches == [tensor["role"] for tensor in manifest["graphs"]["decode"]["outputs"][1:]]
    assert caches == [f"cache.{layer}.{kind}" for layer in range(2) for kind in ("key", "value")]


def test_the_commands(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings: Manifest = {"precision": "int8", "name": "writer", "reply_tokens": 4, "context": 200}
    export_command.main(checkpoint, tmp_path / "it.keystep", **settings)
    assert OnnxPlanner(tmp_path / "it.keystep").planner["context"] == 200
    verify_command.main(tmp_path / "it.keystep", json=tmp_path / "report.json")
    assert "writer: 4 golden cases" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"] and [row["quantity"] for row in report["comparisons"]] == ["logits", "replies"]


def test_replies_that_are_code_by_default(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The manifest says so; who loads it may say otherwise."""
    spoken = language()
    made = tmp_path / "it.keystep"
    export_command.main(checkpoint, made, reply_tokens=2, constrained=True)
    assert keystep.read_manifest(made)["planner"]["decoding"] == DECODING | {"constrained": True}
    for told, wanted in ((None, True), (False, False), (True, True)):
        with keystep.load(made, constrained=told, threads=1) as planner:
            assert planner.bundle.code.constrained is wanted
    with keystep.load(made, threads=1) as planner:
        planner.reset("Pick up the red cube")
        assert planner.ask(unseen(made)).text in ("done()", "# done()")  # no other code has two tokens
    inspect_command.main(made, threads=1)
    assert "only code of the API" in capsys.readouterr().out
    with pytest.raises(ExportError) as refused:
        export_command.main(checkpoint, tmp_path / "one.keystep", reply_tokens=1, constrained=True)
    assert str(refused.value) == "reply_tokens: expected at least 2 (the shortest reply that is code), got 1"
    assert not (tmp_path / "one.keystep").exists()
    assert (
        shortest_reply(spoken.tokenizer, api_entries(), GRID) == Constraint(spoken.tokenizer, GRID).shortest
    )


def unseen(bundle: Path) -> dict[str, np.ndarray]:
    observation = keystep.read_manifest(bundle)["observation"]
    return {one["key"]: np.zeros(one["shape"], np.float32) for one in observation}


def test_verify_finds_other_weights(bundle: Path, tmp_path: Path) -> None:
    assert verify_bundle(bundle).ok
    other = shutil.copytree(bundle, tmp_path / "other.keystep")
    model = onnx.load(other / "decode.onnx")
    weight = next(one for one in model.graph.initializer if one.name == "layers.1.down.weight")
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.1)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    resaved(other, "decode", model)
    report = verify_bundle(other)
    assert not report.ok and "DIFFERS" in str(report)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_paper_s_layout_and_network(tmp_path: Path, precision: str) -> None:
    """LLaVA of a few thousand parameters: CLIP, a projector and Phi-3, no proprioception."""
    folder = code_checkpoint(tmp_path / "run", layout=PAPER, **small_llava())
    made = export_code_bundle(folder, tmp_path / "it.keystep", precision=precision, reply_tokens=REPLY)
    planner = OnnxPlanner(made).planner
    assert planner["feels"] is None and planner["prompt"]["name"] == "paper"
    assert planner["weights"]["precision"] == precision
    assert ("proprioception" in planner["prompt"]["order"]) is False


def resaved(folder: Path, name: str, model: onnx.ModelProto) -> None:
    onnx.save(model, folder / f"{name}.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["graphs"][name]["sha256"] = sha256(folder / f"{name}.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest))


# ---- what export refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf16"}, "precision: expected fp32 or int8 for a planner that writes code, got bf16"),
        ({"execute": 4}, "execute: expected none for a planner that writes code, got 4"),
        ({"scorer": Path("s")}, "scorer: expected none for a planner that writes code, got s"),
        ({"inference_steps": 3}, "inference_steps: expected none for a planner that writes code, got 3"),
        ({"replan": False}, "replan: expected none for a planner that writes code, got False"),
        ({"plan_ahead": 2}, "plan_ahead: expected none for a planner that writes code, got 2"),
    ],
)
def test_options_of_other_policies(checkpoint: Path, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ExportError) as refused:
        export_bundle(checkpoint, tmp_path / "it.keystep", **options)
    assert str(refused.value) == message and not [*tmp_path.iterdir()]


def test_replies_need_room(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^reply_tokens: expected 1\.\.299 .*, got 300$"):
        export_code_bundle(checkpoint, tmp_path / "it.keystep", reply_tokens=300)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / LANGUAGE).unlink(), "expected .*language.json, got no such file"),
        (lambda folder: _told(folder, lambda words: words.pop()), "tokenizer: expected vocabulary 586"),
        (lambda folder: _told(folder, lambda words: words.append("")), "tokenizer.words.326.: expected text"),
        (lambda folder: _weights(folder, np.nan), "expected finite weights, got NaN or Inf"),
    ],
)
def test_damaged_checkpoints(checkpoint: Path, tmp_path: Path, spoil: Callable, message: str) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "run")
    spoil(folder)
    with pytest.raises(CheckpointError, match=message):
        export_code_bundle(folder, tmp_path / "it.keystep")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_context_without_room(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^golden\.tokens: expected at most 34 \(context - reply"):
        export_code_bundle(checkpoint, tmp_path / "it.keystep", reply_tokens=REPLY, context=40)
    with pytest.raises(ExportError, match=r"^context: expected 2\.\.300 \(as trained\), got 301$"):
        export_code_bundle(checkpoint, tmp_path / "it.keystep", context=301)


def test_logits_that_overflow_are_not_exported(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "run")
    _weights(folder, 3e38)
    with pytest.raises(ExportError, match=r"^golden\.logits: expected finite numbers, got NaN or Inf$"):
        export_code_bundle(folder, tmp_path / "it.keystep", reply_tokens=REPLY)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def _told(folder: Path, change: Callable[[list], object]) -> None:
    told = json.loads((folder / LANGUAGE).read_text())
    change(told["tokenizer"]["words"])
    (folder / LANGUAGE).write_text(json.dumps(told))


def _weights(folder: Path, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["head.weight"][:] = value
    save_file(weights, folder / "model.safetensors")


# ---- what is refused of a manifest and a bundle


def at(*path: str | int, value: Any) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        place: Any = manifest
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def dropped(*path: str | int) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        place: Any = manifest
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


def copied(*path: str, to: str) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        place: Any = manifest
        for key in path[:-1]:
            place = place[key]
        place[to] = copy.deepcopy(place[path[-1]])

    return change


DAMAGE: list[tuple[Callable[[Manifest], None], str]] = [
    (dropped("planner"), "planner: expected a value, got no such key"),
    (dropped("planner", "never"), "planner.never: expected a value, got no such key"),
    (dropped("graphs", "embed"), "graphs.embed: expected a graph (family code), got no such key"),
    (copied("graphs", "embed", to="act"), "graphs.act: expected no such key (family code), got a graph"),
    (at("planner", "colour", value=1), "planner.colour: expected one of the keys sees, feels,"),
    (at("action", value={}), "action: expected null (family code: no controller), got an object"),
    (at("tasks", value=[{"name": "a", "instruction": "b"}]), "tasks: expected none (family code), got 1"),
    (at("planner", "decoding", "way", value="beam"), "planner.decoding.way: expected greedy | early"),
    (at("planner", "decoding", "early_stop", value=0), "planner.decoding.early_stop: expected an integer"),
    (at("planner", "memory", "overflow", value="grow"), "planner.memory.overflow: expected forget_oldest |"),
    (at("planner", "tokenizer", "words", value=["red", "red"]), "planner.tokenizer.words[1]: expected each"),
    (at("planner", "tokenizer", "specials", value=["<end>"]), "planner.tokenizer.specials: expected <pad>"),
    (at("planner", "vocabulary", value=500), "planner.vocabulary: expected at least 586 (numbers of"),
    (at("planner", "vocabulary", value=590), "planner.never: expected all that is no text but the end (7 nu"),
    (at("planner", "never", value=[0, 2]), "planner.never: expected all that is no text but the end (3 num"),
    (at("planner", "tokens", "end", value=5), "planner.tokens.end: expected 1, got 5"),
    (at("planner", "prompt", "order", value=["reply", "task"]), "planner.prompt.order: expected the reply l"),
    (at("planner", "prompt", "order", value=["reply"]), "planner.prompt.order: expected the section task"),
    (at("planner", "prompt", "order", value=["task", "reply"]), "planner.prompt.order: expected the section"),
    (at("planner", "prompt", "templates", "task", value="x"), "planner.prompt.templates.task: expected {tas"),
    (at("planner", "grid", value=0), "planner.grid: expected an integer in 1..100, got 0"),
    (at("planner", "sees", value="observation.state"), "planner.normalization: expected entries of"),
    (at("planner", "feels", value="observation.hand"), "planner.normalization: expected entries of obs"),
    (at("planner", "feels", value=None), "planner.normalization: expected entries of observation.objects,"),
    (dropped("planner", "normalization", "observation.state"), "planner.normalization: expected entries of"),
    (at("planner", "normalization", "observation.state", value={"mode": "mean_std", "mean": [0], "std": [1]}),
     "planner.normalization.observation.state.mean: expected 31 values, got 1"),
    (at("planner", "context", value=301), "graphs.decode.inputs[0].shape: expected [1, 301, 64] (vectors)"),
    (at("planner", "context", value=6), "planner.context: expected more than reply_tokens (6), got 6"),
    (at("planner", "layers", value=3), "graphs.decode.inputs: expected a tensor with the role cache.2.k"),
    (at("planner", "layers", value=1), "graphs.decode.inputs[5].role: expected one of cache.0.key, "),
    (at("planner", "image_tokens", value=4), "graphs.vision.outputs[0].shape: expected [1, 4, 64] (seen)"),
    (at("graphs", "decode", "outputs", 0, "shape", value=[1, 6, 585]), "graphs.decode.outputs[0].shape: "),
    (at("graphs", "decode", "inputs", 1, "dtype", value="float32"), "graphs.decode.inputs[1].dtype: expecte"),
    (at("graphs", "decode", "inputs", 3, "role", value="key"), "graphs.decode.inputs[3].role: expected one"),
    (at("graphs", "decode", "inputs", 0, "name", value="x"), "graphs.decode.inputs[0].name: expected plan"),
    (at("observation", 0, "history", value=2), "observation.objects.history: expected 1 (the planner sees o"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), DAMAGE, ids=[message[:60] for _, message in DAMAGE])
def test_a_damaged_manifest(manifest: Manifest, change: Callable, message: str) -> None:
    damaged = copy.deepcopy(manifest)
    validate(damaged)
    change(damaged)
    with pytest.raises(ExportError) as refused:
        validate(damaged)
    assert str(refused.value).startswith(message), refused.value


def _golden(folder: Path, name: str, case: int, value: int) -> None:
    with np.load(folder / "golden.npz") as found:
        arrays = dict(found)
    arrays[name][case, 0] = value
    np.savez(folder / "golden.npz", **arrays)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["golden"]["sha256"] = sha256(folder / "golden.npz")
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_damaged_files(bundle: Path, tmp_path: Path) -> None:
    def refused(change: Callable[[Path], object]) -> str:
        folder = tmp_path / "it.keystep"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(bundle, folder)
        change(folder)
        with pytest.raises(keystep.BundleError) as caught:
            verify_bundle(folder)
        return str(caught.value)

    assert refused(lambda folder: (folder / "embed.onnx").unlink()).startswith(
        "graphs.embed.file: expected a"
    )
    short = refused(lambda folder: (folder / "decode.onnx").write_bytes(b"x"))
    assert short.startswith("graphs.decode.sha256: expected ")
    assert refused(lambda folder: (folder / "golden.npz").unlink()).startswith("golden.file: expected a file")
    beyond = refused(lambda folder: _golden(folder, "reply", 1, 600))
    assert beyond == "golden.reply: expected ids below 586, -1 behind them, got others in case 1"
    assert refused(lambda folder: _golden(folder, "tokens", 2, -1)).startswith("golden.tokens: expected ids")

    def taller(folder: Path) -> None:
        model = onnx.load(folder / "embed.onnx")
        table = model.graph.initializer[0]
        values = onnx.numpy_helper.to_array(table)
        table.CopyFrom(onnx.numpy_helper.from_array(values[:, :32].copy(), table.name))
        model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 32
        resaved(folder, "embed", model)

    wide = refused(taller)
    assert wide.startswith("graphs.embed.outputs.plan.vectors: expected [1, 300, 64] in the file, got [1, ")
