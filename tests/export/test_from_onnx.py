"""ONNX graphs that exist already as bundles: the runtime does what ONNX Runtime does with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import plain_onnx  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402
from plain_onnx import ACTIONS, HORIZON, WIDTH, linear, matrix, model_of, tensor  # noqa: E402
from torch import nn  # noqa: E402

from keystep.export import Actions, ExportError, from_onnx, verify_bundle  # noqa: E402
from keystep.export.manifest import validate  # noqa: E402
from keystep.models import SamplerConfig, camera_feature, state_feature, vector_feature  # noqa: E402
from keystep.models.reference import denoise_loop  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript"),
    pytest.mark.filterwarnings("ignore:# The axis name"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]
SAMPLER = SamplerConfig(prediction="sample", train_steps=100)
OPTIONS: dict[str, Any] = {
    "features": [state_feature(WIDTH)],
    "action": Actions(["x", "y"], low=[-50, -50], high=[50, 50]),
    "horizon": HORIZON,
    "rate_hz": 20.0,
}


def states(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, WIDTH)).astype(np.float32)


class Policy(nn.Module):
    """No class of ours: joints and an image to a chunk, with a head for something else beside it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.see = nn.Sequential(nn.Conv2d(6, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3 * 4, 8))
        self.head, self.value = nn.Linear(8 + WIDTH, HORIZON * ACTIONS), nn.Linear(8 + WIDTH, 1)

    def forward(self, joints: Any, frames: Any) -> Any:
        seen = torch.cat([joints, self.see(frames.flatten(1, 2))], -1)
        return self.value(seen), self.head(seen).unflatten(1, (HORIZON, ACTIONS)).tanh()


def exported(path: Path, batch: Any = "batch", external: bool = False) -> Path:
    """By torch.onnx.export, as people call it."""
    rows = 1 if isinstance(batch, str) else batch
    named = ["joints", "condition", "value", "chunk"]  # `condition` has a meaning to keystep: it is renamed
    axes = {name: {0: batch} for name in named} if isinstance(batch, str) else {}
    torch.onnx.export(
        Policy().eval(),
        (torch.zeros(rows, WIDTH), torch.zeros(rows, 2, 3, 12, 16)),
        str(path),
        input_names=named[:2],
        output_names=named[2:],
        dynamic_axes=axes,
        dynamo=False,
    )
    if external:
        model = onnx.load(path)
        path.unlink()
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=64)
    return path


SEEN: dict[str, Any] = OPTIONS | {
    "features": [state_feature(WIDTH), camera_feature("top", 12, 16, history=2)],
    "normalization": {"observation.state": {"mode": "mean_std", "mean": [0, 1, 2], "std": [1, 2, 3]}},
    "action": Actions(
        ["x", "y"],
        low=[-9, -9],
        high=[9, 9],
        normalization={"mode": "min_max", "min": [-1, -2], "max": [3, 4]},
    ),
    "names": {"joints": "observation.state", "condition": "observation.images.top", "chunk": "actions"},
}


def newly_exported(path: Path) -> Path:
    """By torch's newer exporter, its default, which puts the weights beside the graph."""
    pytest.importorskip("onnxscript", reason="what torch's newer exporter needs")
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        Policy().eval(),
        (torch.zeros(2, WIDTH), torch.zeros(2, 2, 3, 12, 16)),
        str(path),
        input_names=["joints", "condition"],
        output_names=["value", "chunk"],
        dynamic_shapes={"joints": {0: batch}, "frames": {0: batch}},
        verbose=False,
    )
    return path


@pytest.mark.parametrize("way", ["older", "external", "newer"])
def test_a_graph_of_torch_acts_as_onnx_runtime_does(way: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    graph = newly_exported(path) if way == "newer" else exported(path, external=way == "external")
    bundle = from_onnx(graph, tmp_path / "new.keystep", **SEEN)
    assert verify_bundle(bundle).ok and "golden (ONNX)" in str(verify_bundle(bundle))
    manifest = json.loads((bundle / "manifest.json").read_text())
    validate(manifest)
    assert [entry["name"] for entry in manifest["graphs"]["act"]["outputs"]] == ["actions"]
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    rng, frames = np.random.default_rng(2), []
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=0)
        for count, state in enumerate(states(HORIZON * 3)):
            frames.append(rng.integers(0, 256, (12, 16, 3), np.uint8))
            if count % HORIZON == 0:
                both = [frames[max(0, count - 1)], frames[count]]
                images = np.stack([frame.transpose(2, 0, 1) for frame in both])[None].astype(np.float32) / 255
                normal = ((state - [0, 1, 2]) / [1, 2, 3]).astype(np.float32)[None]
                (made,) = session.run(["chunk"], {"joints": normal, "condition": images})
                rows = [*(made[0] * [2, 3] + [1, 1])]
            seen = {"observation.state": state, "observation.images.top": frames[count]}
            np.testing.assert_allclose(runtime.act(seen), rows.pop(0), atol=1e-5)


def test_a_graph_written_by_hand(tmp_path: Path) -> None:
    """As an object; what it was given stays as it was."""
    model = linear({"input": tensor("s", [1, WIDTH])})
    before = model.SerializeToString()
    bundle = from_onnx(model, tmp_path / "new.keystep", names={"s": "observation.state"}, **OPTIONS)
    assert model.SerializeToString() == before and verify_bundle(bundle).ok
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=0)
        for state in states(4):
            chunk = runtime.predict_chunk({"observation.state": state})
            np.testing.assert_allclose(chunk, (state @ matrix()).reshape(HORIZON, ACTIONS), atol=1e-5)


def test_two_graphs_with_a_sampler(tmp_path: Path) -> None:
    graphs = plain_onnx.steps()
    bundle = from_onnx(graphs, tmp_path / "new.keystep", sampler=SAMPLER, **OPTIONS)
    assert verify_bundle(bundle).ok
    sessions = {
        kind: onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for kind, model in graphs.items()
    }
    with keystep.load(bundle, threads=1) as runtime:
        for case, state in enumerate(states(4)):
            runtime.reset(seed=case)
            noise = np.random.default_rng(case).standard_normal((HORIZON, ACTIONS)).astype(np.float32)
            (condition,) = sessions["encode"].run(None, {"observation.state": state[None]})

            def predict(sample: Any, timestep: int, condition: Any = condition) -> Any:
                told = {"sample": sample.numpy(), "timestep": np.array([timestep]), "condition": condition}
                return torch.from_numpy(sessions["denoise"].run(None, told)[0])

            wanted = denoise_loop(SAMPLER, predict, [torch.from_numpy(noise)[None]])[0].numpy()
            made = runtime.predict_chunk({"observation.state": state}, noise)
            np.testing.assert_allclose(made, wanted, atol=1e-5)


def test_weights_that_are_listed_as_inputs_and_names_in_branches(tmp_path: Path) -> None:
    """Files before 2019 list every weight as an input; a branch reads the tensors around it."""
    chosen = helper.make_graph(
        [helper.make_node("Identity", ["made"], ["one"])], "yes", [], [tensor("one", None)]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["actions"], ["two"])], "no", [], [tensor("two", None)]
    )
    extra = [
        # `actions` is a tensor in the middle: the output takes its name.
        helper.make_node("Mul", ["made", "made"], ["actions"]),
        helper.make_node("ReduceSum", ["made"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "sum"], ["never"]),
        helper.make_node("If", ["never"], ["chunk"], then_branch=chosen, else_branch=other),
    ]
    model = linear({"output": tensor("chunk", [None, HORIZON, ACTIONS])}, extra)
    model.graph.input.append(tensor("matrix", [WIDTH, HORIZON * ACTIONS]))
    bundle = from_onnx(model, tmp_path / "new.keystep", **OPTIONS)
    (state,) = states(1)
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=0)
        made = runtime.predict_chunk({"observation.state": state})
    np.testing.assert_allclose(made, -((state @ matrix()).reshape(HORIZON, ACTIONS) ** 2), atol=1e-4)


def nan() -> onnx.ModelProto:
    extra = [
        helper.make_node("Log", ["made"], ["logs"]),
        helper.make_node("Add", ["logs", "made"], ["actions"]),
    ]
    return linear(extra=extra)


def noisy() -> onnx.ModelProto:
    extra = [
        helper.make_node("RandomNormalLike", ["made"], ["noise"], name="draw"),
        helper.make_node("Add", ["made", "noise"], ["actions"]),
    ]
    return linear(extra=extra)


def one_op(op: str, domain: str = "") -> onnx.ModelProto:
    return linear(extra=[helper.make_node(op, ["made"], ["actions"], name="odd", domain=domain)])


def unread() -> onnx.ModelProto:
    model = linear()
    model.graph.input.append(tensor("observation.extra", [1, 2]))
    return model


EXTRA = {"features": [state_feature(WIDTH), vector_feature("observation.extra", 2)]}
AT = "graphs.act.inputs.observation.state: expected float32 [1, 3], got"


@pytest.mark.parametrize(
    ("made", "changes", "told"),
    [
        (lambda: linear({"input": tensor("state", [1, WIDTH])}), {},
         "graphs.act.inputs: expected observation.state (`names` says which is which), got none for"),
        (linear, EXTRA, "got none for observation.extra"),
        (unread, {}, "got observation.extra besides"),
        (unread, EXTRA, "graphs.act: expected it to read observation.extra, got an answer that does not"),
        (linear, {"names": {"stat": "observation.state"}},
         "names of graphs.act: expected observation.state | actions, got stat"),
        (linear, {"names": {"denoise": {"a": "b"}}}, "names: expected names by graph (act), got 'denoise'"),
        (linear, {"names": {"a": "c", "b": "c"}}, "names.act: expected different names"),
        (linear, {"names": ["a"]}, "names: expected a name for each"),
        (lambda: linear({"input": tensor("observation.state", ["n", 5])}), {}, f"{AT} float32 [n, 5]"),
        (lambda: linear({"input": tensor("observation.state", [8, WIDTH])}), {}, f"{AT} float32 [8, 3]"),
        (lambda: linear({"input": tensor("observation.state", [WIDTH])}), {}, f"{AT} float32 [3]"),
        (lambda: linear({"input": tensor("observation.state", ["n", "n"])}), {}, f"{AT} n = 1 elsewhere"),
        (lambda: linear({"input": tensor("observation.state", [1, WIDTH], TensorProto.FLOAT16)}), {},
         f"{AT} float16 [1, 3]"),
        (lambda: linear({"input": tensor("observation.state", [1, WIDTH], TensorProto.STRING)}), {},
         f"{AT} string [1, 3]"),
        (lambda: linear({"output": tensor("actions", [1, HORIZON, 7])}), {},
         "graphs.act.outputs.actions: expected float32 [1, 4, 2], got float32 [1, 4, 7]"),
        (lambda: linear({"output": tensor("actions", ["n", "h", "a"])}), {"horizon": 5},
         "graphs.act.outputs.actions: expected float32 [1, 5, 2], got float32 [1, 4, 2]"),
        (lambda: linear({"output": tensor("actions", None, TensorProto.DOUBLE)}), {},
         "graphs.act.outputs.actions: expected float32 [1, 4, 2], got float64 of any shape"),
        (lambda: linear({"opset": 999}), {}, "graphs.act.opset_import: expected ai.onnx 1.."),
        (lambda: one_op("Warp"), {}, "graphs.act: expected a graph that ONNX Runtime"),
        (lambda: one_op("Warp", "somebody.else"), {}, "got somebody.else.Warp (node 'odd')"),
        (lambda: one_op("EPContext", "com.microsoft"), {}, "got one compiled for a device (EPContext)"),
        (noisy, {}, "the same answer each time (noise is the sampler's), got RandomNormalLike (node 'draw')"),
        (nan, {}, "golden.actions: expected finite answers"),
        (lambda: model_of([], [], []), {}, "graphs.act: expected an ONNX graph, got one without nodes"),
        (lambda: 3, {}, "graphs.act: expected a path or an onnx.ModelProto, got int"),
        (lambda: {"encode": linear()}, {}, "graphs: expected act (without a sampler), got 'encode'"),
        (linear, {"sampler": SAMPLER}, "graphs: expected encode and denoise (with a sampler), got 'Model"),
        (linear, {"sampler": SamplerConfig(guidance=1.0)}, "sampler.guidance: expected 0 for a network"),
    ],
)  # fmt: skip
def test_graphs_that_do_not_fit(made: Any, changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as error:
        from_onnx(made(), tmp_path / "new.keystep", **(OPTIONS | changes))
    assert told in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def short_table(graphs: dict[str, onnx.ModelProto]) -> None:
    (table,) = graphs["denoise"].graph.initializer
    table.CopyFrom(onnx.numpy_helper.from_array(np.zeros((50, 1), np.float32), "table"))


def other_condition(graphs: dict[str, onnx.ModelProto]) -> None:
    graphs["denoise"].graph.input[2].CopyFrom(tensor("condition", [1, WIDTH + 1]))


def narrow_step(graphs: dict[str, onnx.ModelProto]) -> None:
    graphs["denoise"].graph.input[1].CopyFrom(tensor("timestep", [1], TensorProto.INT32))


def two_rows(graphs: dict[str, onnx.ModelProto]) -> None:
    graph = graphs["encode"].graph
    graph.node[0].CopyFrom(helper.make_node("Concat", ["observation.state"] * 2, ["condition"], axis=0))
    graph.output[0].CopyFrom(tensor("condition", None))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            short_table,
            "graphs.denoise.inputs.timestep: expected every time-step of 0..99, 50: graphs.denoise",
        ),
        (other_condition, "graphs.denoise.inputs.condition: expected float32 [1, 3], got float32 [1, 4]"),
        (narrow_step, "graphs.denoise.inputs.timestep: expected int64 [1], got int32 [1]"),
        (two_rows, "graphs.encode.outputs.condition: expected float32 [1, ..], got float32 [2, 3]"),
    ],
)
def test_steps_that_do_not_fit(change: Any, told: str, tmp_path: Path) -> None:
    graphs = plain_onnx.steps()
    change(graphs)
    with pytest.raises(ExportError) as error:
        from_onnx(graphs, tmp_path / "new.keystep", sampler=SAMPLER, **OPTIONS)
    assert told in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_fixed_batch_is_refused_and_one_of_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as error:
        from_onnx(exported(tmp_path / "four.onnx", batch=4), tmp_path / "new.keystep", **SEEN)
    assert "graphs.act.inputs.observation.state: expected float32 [1, 3], got float32 [4, 3]" in str(
        error.value
    )
    assert verify_bundle(from_onnx(exported(tmp_path / "one.onnx", 1), tmp_path / "new.keystep", **SEEN)).ok


def pickled(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: None, "graphs.act: expected an ONNX file, got"),
        (lambda path: path.mkdir(), "graphs.act: expected an ONNX file, got"),
        (lambda path: path.write_bytes(b""), "graphs.act: expected an ONNX graph, got one without nodes"),
        (lambda path: path.write_text("hello, I am text"), "graphs.act: expected an ONNX file, got"),
        (pickled, "graphs.act: expected an ONNX file, got"),
        (
            lambda path: path.write_bytes(linear().SerializeToString()[:-40]),
            "graphs.act: expected an ONNX file",
        ),
    ],
    ids=["missing", "folder", "empty", "text", "pickle", "cut"],
)
def test_files_that_are_no_graphs(write: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    write(path)
    with pytest.raises(ExportError, match=told):
        from_onnx(path, tmp_path / "new.keystep", **OPTIONS)
    assert not (tmp_path / "new.keystep").exists()


def test_weights_beside_a_graph_that_are_not_there_or_elsewhere(tmp_path: Path) -> None:
    graph = exported(tmp_path / "policy.onnx", external=True)
    with pytest.raises(ExportError, match=r"graphs.act: expected a file's path where weights lie beside it"):
        from_onnx(onnx.load(graph, load_external_data=False), tmp_path / "new.keystep", **SEEN)
    weights = tmp_path / "weights.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[:10])
    with pytest.raises(ExportError, match=r"graphs.act: expected its weights in files beside policy.onnx"):
        from_onnx(graph, tmp_path / "new.keystep", **SEEN)
    weights.unlink()
    with pytest.raises(ExportError, match=r"graphs.act: expected its weights in files beside policy.onnx"):
        from_onnx(graph, tmp_path / "new.keystep", **SEEN)
    inner = tmp_path / "inner"
    inner.mkdir()
    model = onnx.load(graph, load_external_data=False)
    for stored in model.graph.initializer:
        for entry in stored.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    weights.write_bytes(content)
    (inner / "policy.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"graphs.act: expected its weights in files beside policy.onnx"):
        from_onnx(inner / "policy.onnx", tmp_path / "new.keystep", **SEEN)


def test_the_example_makes_a_bundle_that_ticks(tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "examples"
    bundle = tmp_path / "own.keystep"
    for command in (["own_graph.py", bundle], ["tick.py", bundle, "--ticks", "5"]):
        done = subprocess.run(
            [sys.executable, *map(str, [examples / command[0], *command[1:]])],
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
    assert verify_bundle(bundle).ok
