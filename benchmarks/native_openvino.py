"""OpenVINO over the bundle's graphs, in fp32, bf16 and int8, step by step and as one unrolled graph.

    build/openvino-env/bin/python -m benchmarks.native_openvino CASE_FOLDER

makes what int8 takes, once per case, by nncf: weights of 8 bits alone (symmetric, one scale per channel), and
quantised whole, calibrated on the inputs of denoise steps from random observations and noise.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loop import Array, Ddim, Policy, Scaling, make_inputs, read_manifest
from benchmarks.machine import REPOSITORY
from benchmarks.openvino_env import PYTHON

KINDS = ("fp32", "bf16", "int8-weights", "int8")
FORMS = ("step", "loop")
LOOP = "loop"  # the graph of all steps, made here of the bundle's one step
FOLDER = "openvino"  # inside the case's folder
CALIBRATION_CHUNKS = 10


def prepare(case: Path) -> None:
    """Makes the int8 models of a case unless they are there."""
    if not (case / FOLDER).exists():
        print(f"quantising {case.name} by nncf", flush=True)
        command = [str(PYTHON), "-m", "benchmarks.native_openvino", str(case)]
        subprocess.run(command, cwd=REPOSITORY, check=True)


def openvino_policy(case: Path, threads: int, form: str, kind: str) -> Policy:
    """OpenVINO from Python, latency hint, the precision set explicitly (its default may be bf16)."""
    manifest = read_manifest(case)
    ddim, scaling = Ddim(manifest), Scaling(manifest)
    graphs = [name for name in ("encode", "film") if name in manifest["graphs"]]
    last = "denoise" if form == "step" else LOOP
    requests = _requests(case, [*graphs, last], threads, kind)
    before, final = list(requests.values())[:-1], requests[last]
    state_input = requests["encode"].get_tensor("observation.state").data
    sample = final.get_tensor("sample" if form == "step" else "noise").data
    output = final.get_output_tensor(0).data

    def predict_by_steps(state: Array, noise: Array) -> Array:
        state_input[...] = scaling.state(state)
        for request in before:
            request.infer()
        sample[...] = noise
        for index, step in enumerate(ddim.timesteps):
            timestep[0] = step
            final.infer()
            sample[...] = ddim.step(index, output, sample)
        return scaling.action(sample)

    def predict_at_once(state: Array, noise: Array) -> Array:
        state_input[...] = scaling.state(state)
        sample[...] = noise
        for request in (*before, final):
            request.infer()
        return scaling.action(output)

    if form == "loop":
        return predict_at_once
    timestep = final.get_tensor("timestep").data
    return predict_by_steps


def _requests(case: Path, graphs: list[str], threads: int, kind: str) -> dict[str, Any]:
    """By graph. What one writes and a later one reads is one buffer."""
    import openvino

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32" if kind == "fp32" else "bf16",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    requests: dict[str, Any] = {}
    buffers: dict[str, Any] = {}
    for graph in graphs:
        # OpenVINO 2026.4 fails to compile Mish with one thread unless its fusion into "snippets" is off
        extra = {"SNIPPETS_MODE": "DISABLE"} if graph == "encode" else {}
        model = core.compile_model(_model(case, graph, kind), "CPU", {**settings, **extra})
        requests[graph] = request = model.create_infer_request()
        for port in model.inputs:
            if port.any_name in buffers:
                request.set_tensor(port, buffers[port.any_name])
        buffers |= {port.any_name: request.get_tensor(port) for port in model.outputs}
    return requests


def _model(case: Path, graph: str, kind: str) -> Any:
    """Path of a graph's file, or the model."""
    if graph == LOOP:
        import openvino

        step = openvino.Core().read_model(_model(case, "denoise", kind))
        return unrolled(step, Ddim(read_manifest(case)))
    prepared = case / FOLDER / f"{graph}-{kind}.xml"
    return prepared if prepared.exists() else _graph(case, graph)


def _graph(case: Path, graph: str) -> Path:
    file: str = read_manifest(case)["graphs"][graph]["file"]
    return case / "bundle.keystep" / file


def unrolled(step: Any, ddim: Ddim) -> Any:
    """All steps in one model: noise, film -> actions."""
    import openvino
    from openvino import opset13 as ops

    def parameter(name: str, source: str) -> Any:
        node = ops.parameter(step.input(source).shape, np.float32, name=name)
        node.output(0).set_names({name})
        return node

    noise, film = parameter("noise", "sample"), parameter("film", "film")
    sample = noise.output(0)
    for index, timestep in enumerate(ddim.timesteps):
        part = step.clone()
        step_index = ops.constant(np.array([timestep])).output(0)
        sources = {"sample": sample, "film": film.output(0), "timestep": step_index}
        for name, source in sources.items():
            for target in part.input(name).get_target_inputs():
                target.replace_source_output(source)
        sample = _ddim_step(ddim, index, part.output(0).get_node().input_value(0), sample)
    sample.set_names({"actions"})
    return openvino.Model([sample], [noise, film], LOOP)


def _ddim_step(ddim: Ddim, index: int, epsilon: Any, sample: Any) -> Any:
    """Ddim.step as nodes of OpenVINO."""
    from openvino import opset13 as ops

    alpha, noise, alpha_before, noise_before = (np.float32(root) for root in ddim.roots[index])
    clean = ops.divide(ops.subtract(sample, ops.multiply(epsilon, noise)), alpha)
    clean = ops.clamp(clean, -ddim.clip, ddim.clip)
    return ops.add(ops.multiply(clean, alpha_before), ops.multiply(epsilon, noise_before)).output(0)


def quantise(case: Path) -> None:
    """Writes the int8 models into the case's folder, whole or not at all."""
    import nncf
    import openvino

    core = openvino.Core()
    unfinished = case / f"unfinished-{FOLDER}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()

    def save(model: Any, name: str) -> None:
        openvino.save_model(model, unfinished / f"{name}.xml", compress_to_fp16=False)

    for graph in {"film", "denoise"} & read_manifest(case)["graphs"].keys():
        model = core.read_model(_graph(case, graph))
        save(nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM), f"{graph}-int8-weights")
        if graph == "film":  # once per chunk, bound by its weights
            shutil.copy(unfinished / "film-int8-weights.xml", unfinished / "film-int8.xml")
            shutil.copy(unfinished / "film-int8-weights.bin", unfinished / "film-int8.bin")
    seen = list(calibration(case))
    model = core.read_model(_graph(case, "denoise"))
    # as a transformer: only products of matrices are quantised (all weights are in such), with SmoothQuant;
    # nncf's default also quantises every sum and product of elements: slower, and six times as far from torch
    kind = nncf.ModelType.TRANSFORMER
    quantised = nncf.quantize(model, nncf.Dataset(seen), subset_size=len(seen), model_type=kind)
    save(quantised, "denoise-int8")
    unfinished.rename(case / FOLDER)


def calibration(case: Path) -> Iterator[dict[str, Array]]:
    """Inputs of all denoise steps of some chunks, in fp32."""
    manifest = read_manifest(case)
    ddim, scaling = Ddim(manifest), Scaling(manifest)
    graphs = [name for name in ("encode", "film") if name in manifest["graphs"]]
    requests = _requests(case, [*graphs, "denoise"], 1, "fp32")
    *before, denoise = requests.values()
    for seed in range(CALIBRATION_CHUNKS):
        state, noise = make_inputs(case, 1_000_000 + seed)  # not those of the comparison
        requests["encode"].get_tensor("observation.state").data[...] = scaling.state(state)
        for request in before:
            request.infer()
        film, sample = denoise.get_tensor("film").data.copy(), noise[None]
        for index, step in enumerate(ddim.timesteps):
            inputs = {"sample": sample, "timestep": np.array([step]), "film": film}
            yield inputs
            sample = ddim.step(index, next(iter(denoise.infer(inputs).values())).copy(), sample)


if __name__ == "__main__":
    quantise(Path(sys.argv[1]))
