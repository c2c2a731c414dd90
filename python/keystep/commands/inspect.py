"""keystep inspect"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import tyro

import keystep
from keystep.features import Feature, features_of

Rows = dict[str, str]


def main(
    bundle: Annotated[Path, tyro.conf.Positional],
    manifest: bool = False,
    engine: str = "auto",
    precision: str | None = None,
    isa: str | None = None,
    threads: int = 0,
    provider: str = "cpu",
) -> None:
    """Check a bundle and every file it names as the runtime does, and show what it holds and what runs it.

    Args:
        bundle: the bundle's folder.
        manifest: print the whole manifest as JSON instead.
        engine: auto, native, onnxruntime or stub; this and the next four are those of keystep.load.
        precision: fp32, bf16 or int8, of the native engine; as exported when not given.
        isa: instruction set of the native engine; the best that this CPU has when not given.
        threads: threads inside an operator; 0: one per physical core.
        provider: cpu, openvino, cuda or tensorrt.
    """
    content = keystep.read_manifest(bundle)
    if manifest:
        print(json.dumps(content, indent=2).replace("\x7f", "\\u007f"))  # the one that JSON does not escape
        return
    options = {"engine": engine, "precision": precision, "isa": isa, "threads": threads, "provider": provider}
    told = code_summary if content["family"] == "code" else summary
    rows = told(bundle, content) | engines(bundle, options)
    width = max(map(len, rows))
    print("\n".join(_printable(f"{label:<{width}}  {text}") for label, text in rows.items()))


def _printable(text: str) -> str:
    """Without what would speak to the terminal: a bundle may come from anybody."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def summary(bundle: Path, manifest: dict[str, Any]) -> Rows:
    """A manifest in a dozen lines."""
    action, chunk, planner = manifest["action"], manifest["chunk"], manifest["planner"]
    rows = {
        "bundle": f"{manifest['name']}, family {manifest['family']}, {manifest['control_rate_hz']:g} Hz",
        "tasks": ", ".join(task["name"] for task in manifest["tasks"]) or "none",
        "goal": manifest["goal"],
    }
    rows |= {feature.key: _feature(feature) for feature in features_of(manifest["observation"])}
    rows |= {
        "action": ", ".join(
            f"{name} [{low:g}, {high:g}] {unit}".strip()
            for name, unit, low, high in zip(
                action["names"], action["units"], action["min"], action["max"], strict=True
            )
        ),
        "hold": _hold(action["hold"]),
        "chunk": _chunk(chunk),
        "sampler": _sampler(manifest["sampler"]) if manifest["sampler"] else "none",
        "normalization": ", ".join(
            f"{entry['key']} {entry['normalization']['mode']}" for entry in manifest["observation"]
        )
        + f", action {action['normalization']['mode']}",
    }
    if relative := action.get("relative"):
        pairs = zip(action["names"], relative["values"], strict=True)
        moved = ", ".join(name for name, place in pairs if place is not None)
        rows["made relative"] = f"{moved}, to {relative['feature']} when a chunk is made"
    if planner:
        held = (
            f"{planner['subgoals']} of {planner['subgoal']}, each for {planner['steps_per_subgoal']} actions"
        )
        rows["subgoals"] = f"{held}, {'planned again' if planner['replan'] else 'planned once'}"
        if "plan_ahead" in planner:
            rows["plan asked for"] = f"{planner['plan_ahead']} actions before the old one is used up"
        rows["plan sampler"] = _sampler(planner["sampler"])
        rows["plan normalization"] = planner["normalization"]["mode"]
        rows["plan score"] = _scorer(planner.get("scorer"))
    for name, graph in manifest["graphs"].items():
        rows[f"graph {name}"] = f"{_file(bundle, graph)}, {_tensors(graph)}"
    for name, unet in {"unet": manifest["unet"], "plan unet": (planner or {}).get("unet")}.items():
        rows |= {name: _unet(bundle, unet)} if unet else {}
    return rows | _made_by(manifest)


def _made_by(manifest: dict[str, Any]) -> Rows:
    made_by = [(k, v) for k, v in manifest["provenance"].items() if isinstance(v, str | int | float)]
    return {"made by": ", ".join(f"{key} {value}" for key, value in made_by)}


def code_summary(bundle: Path, manifest: dict[str, Any]) -> Rows:
    """The same of a planner that writes code."""
    planner = manifest["planner"]
    heads = f"{planner['key_heads']} heads of keys"
    names = ", ".join(function["name"] for function in planner["api"])
    rows = {
        "bundle": f"{manifest['name']}, family {manifest['family']}, {manifest['control_rate_hz']:g} Hz",
        "goal": manifest["goal"],
        "sees": f"{_observed(manifest, planner['sees'])}; {planner['image_tokens']} tokens",
        "feels": _observed(manifest, planner["feels"]) if planner["feels"] else "nothing",
        "prompt": f"{', '.join(planner['prompt']['order'])}; {len(planner['tokenizer']['words'])} words",
        "code": f"{names}; a grid of {planner['grid']} cells",
        "decoder": f"{planner['layers']} layers of width {planner['width']}, {heads}",
        "context": f"{planner['context']} tokens, of which a reply has at most {planner['reply_tokens']}",
        "memory": _memory(planner["memory"]),
        "writes": _writes(planner["decoding"]),
        "weights": _weights(planner["weights"]),
    }
    for name, graph in manifest["graphs"].items():
        rows[f"graph {name}"] = f"{_file(bundle, graph)}, {_tensors(_without_caches(graph))}"
    return rows | _made_by(manifest)


def _observed(manifest: dict[str, Any], key: str) -> str:
    """Without the names of a vector's values: objects have 160."""
    (feature,) = (one for one in features_of(manifest["observation"]) if one.key == key)
    return f"{key}, {_feature(feature).partition(':')[0]}"


def _memory(memory: dict[str, Any]) -> str:
    told = {"forget_oldest": "the oldest are forgotten", "refuse": "there is no reply"}
    return f"{memory['keysteps']} key-steps; of more than the context holds {told[memory['overflow']]}"


def _writes(decoding: dict[str, Any]) -> str:
    early = f" after {decoding['early_stop']} characters" if decoding["way"] == "early_stop" else ""
    steps = decoding["every"]
    asked = "at every step" if steps == 1 else f"every {steps} steps"
    return f"{decoding['way']}{early}, {asked}{', only code of the API' * decoding['constrained']}"


def _weights(weights: dict[str, Any]) -> str:
    errors = weights["errors"]
    logits = f"logits max {errors['max']:.1e} rms {errors['rms']:.1e}"
    agree = f"{errors['agree']:.2%} of the golden replies' tokens are torch's"
    return f"{weights['precision']}, {logits}, {agree}"


def _without_caches(graph: dict[str, Any]) -> dict[str, Any]:
    """Of each direction the first: the others are alike, two for every layer."""

    def some(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
        caches = [tensor["name"] for tensor in tensors if tensor["role"].startswith("cache.")]
        return [tensor for tensor in tensors if tensor["name"] not in caches[1:]]

    return {"inputs": some(graph["inputs"]), "outputs": some(graph["outputs"])}


def engines(bundle: Path, options: dict[str, Any]) -> Rows:
    """Which engine runs which graph, and why; or why none does here."""
    try:
        with keystep.load(bundle, **options) as runtime:
            rows = {"engine": runtime.description}
            for choice in runtime.engine_choices:
                rows[f"runs {choice['file']}"] = f"{choice['engine']}: {choice['reason']}"
            return rows
    except (keystep.BundleError, keystep.ProviderError) as error:
        return {"engine": f"not opened: {error}"}


def _feature(feature: Feature) -> str:
    size = "x".join(map(str, feature.shape[:2]))
    text = f"{feature.kind} {size}" if feature.is_image else f"{size} values: {', '.join(feature.names)}"
    return text + (f", the last {feature.history}" if feature.history > 1 else "")


def _chunk(chunk: dict[str, Any]) -> str:
    start = f" from row {chunk['start']}" if chunk["start"] else ""
    given = f", may be given {chunk['max_delay']} rows" if "max_delay" in chunk else ""
    taken = f"executes {chunk['execute']}{start}"
    return f"horizon {chunk['horizon']}, {taken}, merged by {chunk['merge']}{given}"


def _hold(hold: dict[str, Any]) -> str:
    if hold["mode"] == "last":
        return "last: a tick that fails repeats the last action given"
    return f"values {', '.join(f'{value:g}' for value in hold['values'])}"


def _sampler(sampler: dict[str, Any]) -> str:
    return (
        f"{sampler['kind']}, {sampler['inference_steps']} of {sampler['train_steps']} steps, "
        f"predicts {sampler['prediction']}, guidance {sampler['guidance']:g}"
    )


def _scorer(scorer: dict[str, Any] | None) -> str:
    """What chooses between several plans."""
    if scorer is None:
        return "density (no scorer)"
    if not scorer["plans"]:
        return "learned, by a scorer that was never trained"
    return f"learned from {scorer['plans']} plans, AUC {scorer['auc']:.3f} on other contexts"


def _unet(bundle: Path, unet: dict[str, Any]) -> str:
    """Its shape, and what it costs to run it in each precision."""
    dims = "-".join(map(str, unet["down_dims"]))
    errors = [
        f"{name} max {error['max']:.1e} rms {error['rms']:.1e}" for name, error in unet["errors"].items()
    ]
    measured = f"errors {', '.join(errors)}" if errors else "no errors recorded"
    return f"{_file(bundle, unet)}, {unet['kind']} {dims}, {unet['precision']}, {measured}"


def _file(bundle: Path, entry: dict[str, Any]) -> str:
    return f"{entry['file']}, {(bundle / entry['file']).stat().st_size / 1e6:.2f} MB"


def _tensors(graph: dict[str, Any]) -> str:
    def names(tensors: list[dict[str, Any]]) -> str:
        return ", ".join(f"{tensor['name']}{tensor['shape']}" for tensor in tensors)

    return f"{names(graph['inputs'])} -> {names(graph['outputs'])}"
