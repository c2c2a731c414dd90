"""What makes packages, with programs that only pretend: bad options, builds that fail in the middle."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
PYTHON = """#!/usr/bin/env bash
case "$*" in
  *import\\ auditwheel*) ;;
  *version_info*) echo 311 ;;
  *ziglang.__file__*) echo /zig ;;
  *"pip "*) touch build/wheels/x86_64/keystep-2-cp311-cp311-linux_x86_64.whl ;;
  *auditwheel\\ repair*) [ -z "${REPAIRED:-}" ] && echo "no such policy" && exit 1
    mkdir -p "$7" && touch "$7/keystep-2-cp311-cp311-manylinux_2_17_x86_64.whl" ;;
  *wheel_contents*) [ -z "${BAD:-}" ] || exit 1 ;;
  *) echo "unexpected: $*" >&2 && exit 9 ;;
esac
"""
FAILING = '#!/usr/bin/env bash\necho "error: undeclared identifier" && exit 1\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts alone, and a .venv that pretends."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    program(tmp_path / ".venv/bin/python", PYTHON)
    (tmp_path / "dist").mkdir()
    (tmp_path / "cpp").mkdir()
    return tmp_path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def ran(checkout: Path, script: str, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(shutil.which("bash")), str(checkout / "scripts" / script), *map(str, arguments)]
    path = f"{checkout / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(command, env={"PATH": path} | more, capture_output=True, text=True, cwd=checkout)


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("wheels.sh", ("../../cpp",), "expected x86_64 or aarch64, got ../../cpp"),
        ("wheels.sh", ("x86_64", "x86-64"), "expected x86_64 or aarch64, got x86-64"),
        ("check-wheels.sh", ("--simulat",), "expected nothing or --simulate, got --simulat"),
        ("deb.sh", (), "expected a BUNDLE, got nothing"),
        ("deb.sh", ("nowhere.keystep",), "expected a BUNDLE, got nowhere.keystep"),
    ],
)
def test_other_options_are_refused(
    checkout: Path, script: str, arguments: tuple[str, ...], words: str
) -> None:
    found = ran(checkout, script, *arguments)
    assert found.returncode == 2 and found.stderr == f"{script}: {words}\n" and not found.stdout
    assert (checkout / "cpp").is_dir(), "nothing was deleted"


def test_a_wheel_stays_until_there_is_a_good_one(checkout: Path) -> None:
    old = checkout / "dist/keystep-1-cp311-cp311-manylinux_2_17_x86_64.whl"
    other = checkout / "dist/keystep-1-cp312-cp312-manylinux_2_17_x86_64.whl"
    old.touch()
    other.touch()
    outcomes: tuple[dict[str, str], ...] = ({}, {"REPAIRED": "yes", "BAD": "yes"})
    for outcome in outcomes:
        found = ran(checkout, "wheels.sh", "x86_64", **outcome)
        assert found.returncode == 1 and sorted((checkout / "dist").iterdir()) == [old, other], found.stderr
    assert "no such policy" in ran(checkout, "wheels.sh", "x86_64").stderr
    found = ran(checkout, "wheels.sh", "x86_64", REPAIRED="yes")
    assert found.returncode == 0, found.stderr
    new = [path.name for path in (checkout / "dist").iterdir() if path != other]
    assert new == ["keystep-2-cp311-cp311-manylinux_2_17_x86_64.whl"]


def test_what_a_compiler_says_is_shown(checkout: Path) -> None:
    """Ninja says it on standard output, which goes to a file."""
    program(checkout / "bin/cmake", FAILING)
    program(checkout / "bin/dpkg-deb", FAILING)
    old = checkout / "dist/libkeystep-dev_1_amd64.deb"
    old.touch()
    (checkout / "b.keystep").mkdir()
    (checkout / "b.keystep/manifest.json").touch()
    (checkout / "build").mkdir()
    found = ran(checkout, "deb.sh", "b.keystep")
    assert found.returncode == 1 and "undeclared identifier" in found.stderr and old.exists()


def test_a_root_stays_until_there_is_a_whole_one(checkout: Path) -> None:
    release: dict[str, Any] = {}
    for line in Path("/etc/os-release").read_text().splitlines() if Path("/etc/os-release").exists() else ():
        key, _, value = line.partition("=")
        release[key] = value.strip('"')
    if release.get("ID") != "debian":
        pytest.skip("not Debian")
    archive = f'[ "$1" = indextargets ] && echo "{release["VERSION_CODENAME"]} http://archive" && exit\n'
    program(checkout / "bin/apt-get", f"#!/usr/bin/env bash\n{archive}exit 100\n")
    old = checkout / "build/arm64-root/usr/bin/python3.11"
    program(old, "")
    assert ran(checkout, "arm64-root.sh").returncode == 100 and old.exists()
    assert [path.name for path in (checkout / "build").iterdir()] == ["arm64-root"], "nothing is left"
