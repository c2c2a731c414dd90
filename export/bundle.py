"""From a training checkpoint to a bundle. Nothing else writes bundles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, nn

from keystep.export import graphs
from keystep.export.golden import golden_arrays, write_golden
from keystep.export.manifest import ExportError, build_manifest, validate_sampler
from keystep.files import replacing_folder, sha256, write_json
from keystep.models import Checkpoint, DiffusionPolicy, SamplerConfig, load_policy

Form = Literal["denoise", "sample", "both"]
FORMS: dict[str, tuple[str, ...]] = {
    "denoise": ("encode", "denoise"),
    "sample": ("encode", "sample"),
    "both": ("encode", "denoise", "sample"),
}
MAX_BYTES = 2**31 - 2**20  # of a protobuf, with room for the nodes
DTYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}


def export_bundle(
    checkpoint: Path,
    output: Path,
    *,
    form: Form = "denoise",
    name: str | None = None,
    execute: int | None = None,
    overwrite: bool = False,
    seed: int = 0,
    **sampler: Any,
) -> Path:
    """Compiles a checkpoint into the folder `output`, which appears whole or not at all.

    Args:
        checkpoint: folder written by training.
        form: `denoise`: one graph call per denoise step; `sample`: the deterministic sampler unrolled into
            one graph; `both`: the runtime takes `denoise`.
        name: the policy's name; by default that of the folder.
        execute: actions executed per chunk; by default as trained.
        overwrite: replace an existing bundle.
        seed: of the golden observations and noise.
        sampler: fields of SamplerConfig to change, e.g. inference_steps=10 or kind="ddpm".

    Returns:
        `output`.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or has weights that are not finite.
        ExportError: an option is out of range or does not fit the checkpoint.
        FileExistsError: `output` exists and is not to be replaced.
        OSError: the disk is full, for example; `output` is as it was.
    """
    if form not in FORMS:
        raise ExportError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
    if output.exists() and overwrite and not (output / "manifest.json").is_file():
        raise ExportError(f"output: expected a bundle to overwrite, got {output}, which has no manifest.json")
    policy, known = load_policy(checkpoint)
    spec = _sampler(known, sampler, form)
    with replacing_folder(output, overwrite) as folder:
        entries = {graph: _write_graph(graph, policy, spec, folder) for graph in FORMS[form]}
        write_golden(folder / "golden.npz", golden_arrays(policy, known, spec, seed))
        golden = {"file": "golden.npz", "sha256": sha256(folder / "golden.npz")}
        title = name if name is not None else output.name.removesuffix(".keystep")
        steps = execute if execute is not None else known.config.execute
        manifest = build_manifest(known, spec, title, steps, entries, golden)
        write_json(folder / "manifest.json", manifest)
    return output


def _sampler(checkpoint: Checkpoint, changes: dict[str, Any], form: Form) -> SamplerConfig:
    """The trained sampler with `changes`, which may not touch what the network was trained on."""
    trained = checkpoint.config.sampler
    fixed = {"train_steps", "beta_schedule", "beta_start", "beta_end", "betas", "prediction"}
    for field, value in changes.items():
        if field not in SamplerConfig.__dataclass_fields__:
            raise ExportError(f"sampler.{field}: expected a field of SamplerConfig, got an unknown one")
        before = getattr(trained, field)
        if field in fixed and value != before:
            raise ExportError(f"sampler.{field}: expected {before!r} as trained, got {value!r}")
    spec = replace(trained, **changes)
    if not 1 <= spec.inference_steps <= spec.train_steps:
        wanted = f"1..{spec.train_steps} (train_steps)"
        raise ExportError(f"sampler.inference_steps: expected {wanted}, got {spec.inference_steps}")
    validate_sampler(spec)
    if form != "denoise" and (spec.kind != "ddim" or spec.eta):
        raise ExportError(
            f"form: expected a deterministic sampler (ddim, eta 0), got {spec.kind}, eta {spec.eta}"
        )
    if spec.guidance and not checkpoint.config.condition_dropout:
        wanted = "0 for a policy trained without condition_dropout"
        raise ExportError(f"sampler.guidance: expected {wanted}, got {spec.guidance}")
    return spec


def _write_graph(kind: str, policy: DiffusionPolicy, sampler: SamplerConfig, folder: Path) -> dict[str, Any]:
    """Writes `kind`.onnx; returns its entry of the manifest."""
    module, inputs = _module(kind, policy, sampler)
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.parameters())
    if size > MAX_BYTES:
        raise ExportError(f"graphs.{kind}: expected weights of at most {MAX_BYTES} bytes, got {size}")
    output = {"encode": graphs.CONDITION, "denoise": "model_output", "sample": "actions"}[kind]
    path = folder / f"{kind}.onnx"
    graphs.to_onnx(module, tuple(inputs.values()), list(inputs), output, path)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    written = [_tensor(value) for value in model.graph.input]
    names = [tensor["name"] for tensor in written]
    if names != list(inputs):  # the exporter drops inputs that nothing reads
        raise ExportError(f"graphs.{kind}.inputs: expected {list(inputs)}, got {names}")
    return {
        "file": path.name,
        "sha256": sha256(path),
        "inputs": written,
        "outputs": [_tensor(value) for value in model.graph.output],
    }


def _module(
    kind: str, policy: DiffusionPolicy, sampler: SamplerConfig
) -> tuple[nn.Module, dict[str, Tensor]]:
    """The graph as a torch module, and an example of each input by name."""
    config = policy.config
    if kind == "encode":
        shapes = graphs.encode_inputs(config)
        examples = {
            name: torch.zeros(shape, dtype=torch.int64 if name == "task" else torch.float32)
            for name, shape in shapes.items()
        }
        return graphs.EncodeGraph(policy, guided=bool(sampler.guidance)), examples
    branches = 2 if sampler.guidance else 1
    film = torch.zeros(branches, sum(policy.unet.film_widths()))
    chunk = torch.zeros(branches, config.horizon, config.action_dim)
    if kind == "denoise":
        timestep = torch.zeros(1, dtype=torch.int64)
        return graphs.DenoiseGraph(policy), {"sample": chunk, "timestep": timestep, graphs.CONDITION: film}
    return graphs.SampleGraph(policy, sampler), {"noise": chunk[:1], graphs.CONDITION: film}


def _tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    """The manifest's entry for an input or output; `film` is the condition, every other name is its role."""
    kind = value.type.tensor_type
    shape = [axis.dim_value for axis in kind.shape.dim]
    if not all(shape) or kind.elem_type not in DTYPES:
        raise ExportError(f"graphs.{value.name}: expected float32 or int64 of a fixed shape, got {kind}")
    role = "condition" if value.name == graphs.CONDITION else value.name
    return {"name": value.name, "dtype": DTYPES[kind.elem_type], "shape": shape, "role": role}
