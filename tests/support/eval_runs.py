"""`keystep eval` with a policy that sees a state only."""

from __future__ import annotations

from stub_bundle import stub_manifest, write_stub_bundle

from keystep import cli


def state_bundle(folder, **changes):
    """The stub bundle without its camera."""
    manifest = stub_manifest()
    encode = manifest["graphs"]["encode"]
    graphs = manifest["graphs"] | {"encode": {**encode, "inputs": [encode["inputs"][0], encode["inputs"][2]]}}
    if not changes.get("tasks", True):
        graphs["encode"]["inputs"] = graphs["encode"]["inputs"][:1]
    changes["observation"] = manifest["observation"][:1]
    return write_stub_bundle(folder, graphs=graphs, **changes)


def run(capsys, bundle, *arguments):
    status = cli.run(["eval", str(bundle), "--engine", "stub", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err
