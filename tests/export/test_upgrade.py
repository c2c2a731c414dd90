"""`keystep upgrade`: an older bundle in the newest form acts as before, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from older_bundles import add_sample_graph, contents, edit, make_older, older_manifest, refusal

import keystep
from keystep import cli
from keystep.export.manifest import VERSION
from keystep.export.upgrade import named_files, upgrade_bundle, upgraded

SHIPPED = sorted((Path(__file__).parents[2] / "bundles").glob("*.keystep"))
CAMERA = {"camera": "a", "height": 8, "width": 8, "order": "rgb", "resize": False}
Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The state bundle as version 4 wrote it."""
    shutil.copytree(SHIPPED[-1], tmp_path / "mine.keystep")
    make_older(tmp_path / "mine.keystep", 4)
    return tmp_path / "mine.keystep"


def actions(bundle: Path, **options: Any) -> np.ndarray:
    """Two chunks of two episodes on random observations."""
    rng, taken = np.random.default_rng(0), []
    with keystep.load(bundle, threads=1, **options) as policy:
        golden = np.load(bundle / "golden.npz")
        for episode in range(2):
            policy.reset(task=policy.task_names[episode], seed=episode)
            for _ in range(12):
                case = rng.integers(len(golden["actions"]))
                keys = [key for key in golden.files if key.startswith("observation.")]
                taken.append(policy.act({key: golden[key][case] for key in keys}))
    return np.stack(taken)


@pytest.mark.parametrize("bundle", SHIPPED, ids=lambda path: path.stem)
def test_version_3_gives_the_same_bits(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "old.keystep")
    make_older(tmp_path / "old.keystep", 3)
    new = upgrade_bundle(tmp_path / "old.keystep", tmp_path / "new.keystep")
    assert keystep.read_manifest(new)["version"] == VERSION
    for options in ({}, {"engine": "onnxruntime"}, {"precision": "bf16"}):
        np.testing.assert_array_equal(actions(new, **options), actions(bundle, **options))
    names = [name for name in named_files(keystep.read_manifest(new)) if "unet" in name]
    unet = sum((bundle / name).stat().st_size for name in names)
    before, after = (
        sum(file.stat().st_size for file in path.iterdir()) for path in (tmp_path / "old.keystep", new)
    )
    assert before - after > 0.9 * unet  # each weight once


def test_version_4_in_place_and_again(old: Path, capsys: pytest.CaptureFixture) -> None:
    """Nothing but the manifest is another."""
    with pytest.raises(keystep.BundleError, match="run `keystep upgrade BUNDLE`"):
        keystep.load(old)
    for _ in range(2):
        assert cli.run(["upgrade", str(old)]) == 0
        assert "MB before" in capsys.readouterr().out
        found, shipped = contents(old), contents(SHIPPED[-1])
        assert json.loads(found.pop("manifest.json")) == json.loads(shipped.pop("manifest.json"))
        assert found == shipped


def test_only_what_must_change_does() -> None:
    for bundle in SHIPPED:
        new = keystep.read_manifest(bundle)
        for version in (3, 4):
            old = older_manifest(new, version)
            assert upgraded(old) == new
            changed = {key for key in new if new[key] != old[key]}
            assert changed == {"version", "observation", "action", "chunk"}
        assert upgraded(new) == new


@pytest.mark.parametrize("version", [1, 2, 6, "4", None])
def test_versions_that_are_not_read(old: Path, version: Any, capsys: pytest.CaptureFixture) -> None:
    edit(old, lambda manifest: manifest.update(version=version))
    assert cli.run(["upgrade", str(old), "--output", str(old.parent / "new.keystep")]) == 2
    assert "version: expected 3, 4 or 5 (export older ones again" in capsys.readouterr().err
    assert [path.name for path in old.parent.iterdir()] == ["mine.keystep"]


@pytest.mark.parametrize("name", ["unet.safetensors", "golden.npz", "denoise.onnx"])
def test_a_damaged_bundle_is_refused(old: Path, name: str) -> None:
    content = (old / name).read_bytes()
    (old / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "is damaged or was changed" in refusal(old)


@pytest.mark.parametrize(
    "name", ["../a", "/etc/hostname", "", ".", "..", "a/b", "link", "none", "n" * 300, "folder", 3, None]
)
def test_files_stay_inside(old: Path, name: Any) -> None:
    (old / "link").symlink_to("/etc/hostname")
    (old / "folder").mkdir()
    hash_of = hashlib.sha256(Path("/etc/hostname").read_bytes()).hexdigest()
    edit(old, lambda manifest: manifest["golden"].update(file=name, sha256=hash_of))
    assert refusal(old).startswith("golden.file: expected a file inside the bundle, got ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format="zip"), "format: expected"),
        (lambda m: m.pop("normalization"), "manifest.json: expected its version's fields, got KeyError"),
        (lambda m: m.update(graphs=[]), "manifest.json: expected its version's fields"),
        (lambda m: m["normalization"].pop("observation.state"), "got KeyError 'observation.state'"),
        (lambda m: m.update(observation=7), "observation: expected exactly the keys state, images, got 7"),
        (lambda m: m["observation"]["state"].update(names=[]), "observation.state.shape: expected"),
        (lambda m: m["observation"]["state"].update(names=[1] * 26), "observation.state.names"),
        (
            lambda m: m["observation"]["state"].update(names="n" * 26),
            "observation.state.names: expected a list",
        ),
        (
            lambda m: m["observation"]["state"].update(units=[]),
            "observation.state: expected exactly the keys names",
        ),
        (lambda m: m["observation"].update(depth=[]), "observation: expected exactly the keys state, images"),
        (lambda m: m["observation"].update(images={}), "observation.images: expected a list, got {}"),
        (
            lambda m: m["observation"]["images"].append({"camera": "a"}),
            "observation.images[0]: expected exactly",
        ),
        (
            lambda m: m["observation"]["images"].append(CAMERA | {"a": 1}),
            "observation.images[0]: expected exactly",
        ),
        (
            lambda m: m["observation"]["images"].append(CAMERA | {"camera": 7}),
            "observation.images[0].camera: exp",
        ),
        (
            lambda m: m["observation"]["images"].append(CAMERA | {"order": "bgr"}),
            "observation.images[0].order",
        ),
        (lambda m: m["observation"]["images"].append(CAMERA), "got KeyError 'observation.images.a'"),
        (lambda m: m["chunk"].update(start=1), "chunk.start: expected none"),
        (lambda m: m["action"].update(normalization={}), "action.normalization: expected none"),
        (lambda m: m.update(colour="red"), "colour: expected one of the keys"),
        (lambda m: m.update({"observation[7]": float("nan")}), "observation[7]: expected a finite number"),
        (lambda m: m.update(name="\ud800"), "name: expected text that is valid UTF-8"),
        (lambda m: m.update(version=4.0), "version: expected"),
        (lambda m: m["chunk"].update(execute=0), "chunk.execute"),
    ],
)
def test_manifests_from_anywhere(old: Path, change: Edit, message: str) -> None:
    edit(old, change)
    assert message in refusal(old)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b"[]", b"1", b'{"a": 1, "a": 1}'])
def test_what_is_no_manifest(old: Path, content: bytes) -> None:
    (old / "manifest.json").write_bytes(content)
    assert "expected" in refusal(old)


def test_an_output_that_exists_stays(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="output: expected a new folder"):
        upgrade_bundle(SHIPPED[-1], tmp_path)


def test_answers_that_are_not_golden_are_refused(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keystep.export.upgrade.differences", lambda folder: ["actions differ"])
    assert refusal(old) == "actions differ"


def test_a_file_that_cannot_be_read(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *options: Any) -> Any:
        if path.name == "golden.npz":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *options)

    opened = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        keystep.BundleError, match=r"golden.file: expected a file that can be read, got 'golden"
    ):
        upgrade_bundle(old)


# ---- in place


def test_a_link_leads_to_the_new_bundle(old: Path) -> None:
    (old.parent / "link.keystep").symlink_to(old.name)
    assert upgrade_bundle(old.parent / "link.keystep") == old
    assert (old.parent / "link.keystep").readlink() == Path(old.name)
    assert keystep.read_manifest(old)["version"] == VERSION


def test_from_inside_the_folder(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(old)
    assert cli.run(["upgrade", "."]) == 0
    assert keystep.read_manifest(old)["version"] == VERSION


def test_files_of_no_manifest_stay(old: Path) -> None:
    (old / "README.md").write_text("ours")
    (old / ".hidden").write_bytes(b"")
    (old / "README.md").chmod(0o640)
    os.utime(old / "README.md", (1, 1))
    upgrade_bundle(old)
    assert {"README.md", ".hidden"} <= contents(old).keys() and (old / "README.md").read_text() == "ours"
    status = (old / "README.md").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o640, 1)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("golden.npz"), os.mkfifo])
def test_folders_and_links_of_no_manifest(old: Path, make: Callable[[Path], Any]) -> None:
    make(old / "other")
    assert refusal(old).endswith("expected only files of the manifest, got 'other'; give --output")
    assert (old / "other").exists()
    upgrade_bundle(old, old.parent / "new.keystep")
    assert not (old.parent / "new.keystep" / "other").exists()


# ---- the graph `sample`


@pytest.mark.parametrize("version", [3, 4])
def test_the_graph_of_the_whole_sampler_is_dropped(tmp_path: Path, version: int) -> None:
    plain, both = tmp_path / "plain.keystep", tmp_path / "both.keystep"
    shutil.copytree(SHIPPED[-1], plain)
    make_older(plain, version)
    shutil.copytree(plain, both)
    add_sample_graph(both)
    for bundle in (plain, both):
        upgrade_bundle(bundle)
    assert contents(both) == contents(plain)


def test_a_bundle_of_the_whole_sampler_alone(old: Path) -> None:
    add_sample_graph(old, alone=True)
    assert refusal(old).endswith("sample alone (export it again from its checkpoint)")
