"""The stub bundle in the sizes of the tabletop suite."""

from __future__ import annotations

from typing import Any

from stub_bundle import state_entry, stub_manifest

from keystep.suites.tabletop import layout


def tabletop_manifest(tasks: list[str]) -> dict[str, Any]:
    """The stub policy, of the size of the tabletop suite."""
    manifest = stub_manifest()
    states, actions = len(layout.STATE_NAMES), len(layout.ACTION_NAMES)
    encode, denoise = manifest["graphs"]["encode"], manifest["graphs"]["denoise"]
    state, _, task = encode["inputs"]
    encode["inputs"] = [state | {"shape": [1, states]}, task]
    for side in ("inputs", "outputs"):
        for tensor in denoise[side]:
            if tensor["role"] in ("sample", "model_output"):
                tensor["shape"][-1] = actions
    bounds = {"min": layout.ACTION_LOW.tolist(), "max": layout.ACTION_HIGH.tolist()}
    action = {"names": list(layout.ACTION_NAMES), "units": list(layout.ACTION_UNITS), **bounds}
    action |= {"rate_limit": None, "hold": {"mode": "values", "values": [0.0] * actions}}
    return {
        "observation": [state_entry(layout.STATE_NAMES)],
        "action": action | {"normalization": {"mode": "min_max", **bounds}},
        "graphs": manifest["graphs"],
        "tasks": [{"name": name, "instruction": f"{name}."} for name in tasks],
    }
