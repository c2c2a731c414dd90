"""The law of a wheel's contents (scripts/wheel_contents.py), by wheels zipped of this checkout's files."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("elftools", reason="needs the extra 'dev'")

import keystep
from keystep import _core

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = "keystep/bundles/franka3blocks-state.keystep"
TAG = "cp{0}-cp{0}-{1}".format(sysconfig.get_config_var("py_version_nodot"), "linux_x86_64")
INFO = f"keystep-{keystep.__version__}.dist-info/"
pytestmark = pytest.mark.skipif(
    sysconfig.get_platform() != "linux-x86_64", reason="the wheels are made of this machine's extension"
)


def law():
    spec = importlib.util.spec_from_file_location("wheel_contents", ROOT / "scripts/wheel_contents.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LAW = law()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Of a good wheel; METADATA is what is required of it alone."""
    required = ["numpy>=1.26", "onnxruntime>=1.19", "tyro>=0.9", "rich>=13"]
    metadata = f"Metadata-Version: 2.4\nName: keystep\nVersion: {keystep.__version__}\n"
    metadata += "".join(f"Requires-Dist: {value}\n" for value in required)
    made = {name: path.read_bytes() for name, path in LAW.sources().items()}
    made["keystep/" + Path(_core.__file__).name] = Path(_core.__file__).read_bytes()
    return made | {
        INFO + "METADATA": metadata.encode(),
        INFO + "WHEEL": f"Wheel-Version: 1.0\nTag: {TAG}\n".encode(),
        INFO + "RECORD": b"",
        INFO + "entry_points.txt": b"[console_scripts]\nkeystep = keystep.cli:main\n",
        INFO + "licenses/LICENSE": (ROOT / "LICENSE").read_bytes(),
    }


def zipped(folder: Path, files: dict[str, bytes], tag: str = TAG) -> Path:
    path = folder / f"keystep-{keystep.__version__}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return path


def tagged(files: dict[str, bytes], tag: str) -> dict[str, bytes]:
    return files | {INFO + "WHEEL": f"Tag: {tag}\n".encode()}


def test_a_good_wheel_is_told_in_one_line(tmp_path: Path, files: dict[str, bytes]) -> None:
    line = LAW.check(zipped(tmp_path, files))
    assert line.startswith(f"keystep-{keystep.__version__}-{TAG}.whl: ") and "\n" not in line
    assert " MB, glibc 2." in line and "libc.so.6" in line and "onnxruntime" not in line


def test_the_bundle_of_the_demo_is_among_the_files() -> None:
    bundle = {name.removeprefix(f"{BUNDLE}/") for name in LAW.sources() if name.startswith(f"{BUNDLE}/")}
    assert bundle == {path.name for path in (ROOT / "bundles/franka3blocks-state.keystep").iterdir()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files: files.pop(f"{BUNDLE}/unet.safetensors"), "files: expected keystep/bundles/"),
        (lambda files: files.update({"keystep/notes.txt": b""}), "got keystep/notes.txt"),
        (lambda files: files.update({"tests/test_api.py": b""}), "got tests/test_api.py"),
        (
            lambda files: files.update({"keystep/cli.py": b"pass"}),
            "expected python/keystep/cli.py, got other",
        ),
        (
            lambda files: files.update({"keystep.libs/libonnxruntime-1a.so.1": b""}),
            "libraries: expected keystep/_core",
        ),
        (lambda files: files.pop(INFO + "licenses/LICENSE"), "dist-info: expected licenses/LICENSE"),
        (lambda files: files.update({INFO + "entry_points.txt": b""}), "entry_points: expected keystep"),
        (lambda files: files.update({INFO + "WHEEL": b"Tag: py3-none-any\n"}), "Tag: expected ['cp"),
        (
            lambda files: files.update(
                {INFO + "METADATA": files[INFO + "METADATA"].replace(b"onnxruntime>=1.19", b"onnxruntime")}
            ),
            "Requires-Dist: expected onnxruntime>=1.19",
        ),
        (
            lambda files: files.update({INFO + "METADATA": b"Version: 0.0.1\n"}),
            f"version: expected {keystep.__version__}",
        ),
    ],
)
def test_other_wheels_are_refused(
    tmp_path: Path, files: dict[str, bytes], change: Callable[[dict[str, bytes]], None], words: str
) -> None:
    changed = dict(files)
    change(changed)
    with pytest.raises(LAW.WheelError) as error:
        LAW.check(zipped(tmp_path, changed))
    assert words in str(error.value)


def test_a_tag_promises_the_machine_and_the_glibc(tmp_path: Path, files: dict[str, bytes]) -> None:
    for platform, words in (
        ("manylinux_2_5_x86_64", "glibc: expected at most"),
        ("manylinux1_x86_64", "glibc: expected at most"),
        ("manylinux2001_x86_64", "glibc: expected at most"),
        ("linux_aarch64", "machine:"),
    ):
        tag = TAG.replace("linux_x86_64", platform)
        with pytest.raises(LAW.WheelError, match=words):
            LAW.check(zipped(tmp_path, tagged(files, tag), tag))
    with pytest.raises(LAW.WheelError, match="name: expected keystep-VERSION"):
        LAW.check(shutil.copy(zipped(tmp_path, files), tmp_path / "keystep-1-py3-none-any.whl"))


def test_the_command_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"keystep-1-{TAG}.whl").write_bytes(b"no zip")
    assert LAW.main([tmp_path / f"keystep-1-{TAG}.whl"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert LAW.main([]) == 2, "nothing was checked"
    assert capsys.readouterr().err.count("\n") == 1
