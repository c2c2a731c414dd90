"""What a wheel of keystep must be: this checkout's files, one extension, and what its name says.

    python scripts/wheel_contents.py dist/keystep-*.whl

Prints a line for each wheel, or what is wrong with it and ends with 1.
"""

from __future__ import annotations

import io
import re
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parents[1]
GLIBC = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
SYSTEM = GLIBC | {"libstdc++.so.6", "libgcc_s.so.1"}
"""What every Linux with Python has. Not ONNX Runtime: that is loaded at run time, from its own wheel."""
LEGACY = {"manylinux1": "2_5", "manylinux2010": "2_12", "manylinux2014": "2_17"}  # PEP 600
LOADERS = {
    "EM_X86_64": ("x86_64", "ld-linux-x86-64.so.2"),
    "EM_AARCH64": ("aarch64", "ld-linux-aarch64.so.1"),
}
NAME = re.compile(r"keystep-(?P<version>[^-]+)-(?P<python>cp\d+)-(?P=python)-(?P<platform>[\w.]+)\.whl")


class WheelError(Exception):
    """What is wrong, as "field: expected X, got Y"."""


def check(path: Path) -> str:
    """One line about a good wheel. Raises WheelError."""
    name = NAME.fullmatch(path.name)
    if name is None:
        raise WheelError(f"name: expected keystep-VERSION-cpN-cpN-PLATFORM.whl, got {path.name}")
    with zipfile.ZipFile(path) as wheel:
        files = {member: wheel.read(member) for member in wheel.namelist() if not member.endswith("/")}
    info = f"keystep-{name['version']}.dist-info/"
    described = {file.removeprefix(info): files.pop(file) for file in sorted(files) if file.startswith(info)}
    extension = _extension(files)
    _check_sources(files)
    _check_description(described, name)
    needs, glibc = _check_extension(files[extension], extension, name)
    return f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, glibc {glibc}, needs {' '.join(sorted(needs))}"


def sources() -> dict[str, Path]:
    """This checkout's files by their names in a wheel, as pyproject.toml maps them."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        packages = tomllib.load(file)["tool"]["scikit-build"]["wheel"]["packages"]
    found = {}
    for target, folder in packages.items():
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix not in (".pyc", ".so"):
                found[f"{target}/{path.relative_to(ROOT / folder)}"] = path
    return found


def _extension(files: dict[str, bytes]) -> str:
    libraries = [file for file in files if ".so" in Path(file).name]
    if len(libraries) != 1 or not libraries[0].startswith("keystep/_core."):
        raise WheelError(f"libraries: expected keystep/_core.*.so alone, got {libraries}")
    return libraries[0]


def _check_sources(files: dict[str, bytes]) -> None:
    wanted = sources()
    given = {file for file in files if not file.endswith(".so")}
    if missing := sorted(wanted.keys() - given):
        raise WheelError(f"files: expected {missing[0]} and {len(missing) - 1} more, got none")
    if more := sorted(given - wanted.keys()):
        raise WheelError(f"files: expected those of this checkout, got {more[0]} and {len(more) - 1} more")
    for file, path in wanted.items():
        if files[file] != path.read_bytes():
            raise WheelError(f"files: expected {path.relative_to(ROOT)}, got other bytes as {file}")


def _check_description(described: dict[str, bytes], name: re.Match[str]) -> None:
    wanted = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    if lacking := sorted(wanted - described.keys()):
        raise WheelError(f"dist-info: expected {lacking[0]}, got {sorted(described)}")
    metadata = HeaderParser().parsestr(described["METADATA"].decode())
    if metadata["Version"] != name["version"] or metadata["Version"] != _version():
        raise WheelError(f"version: expected {_version()}, got {metadata['Version']} in {name['version']}")
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    required = [value.split(";")[0].strip() for value in metadata.get_all("Requires-Dist") or []]
    if lacking := [value for value in project["dependencies"] if value not in required]:
        raise WheelError(f"Requires-Dist: expected {lacking[0]}, got {required}")
    tags = HeaderParser().parsestr(described["WHEEL"].decode()).get_all("Tag")
    named = {f"{name['python']}-{name['python']}-{platform}" for platform in name["platform"].split(".")}
    if set(tags or []) != named:
        raise WheelError(f"Tag: expected {sorted(named)} as in the name, got {tags}")
    if b"keystep=keystep.cli:main" not in described["entry_points.txt"].replace(b" ", b""):
        raise WheelError("entry_points: expected keystep = keystep.cli:main, got none")


def _version() -> str:
    found = re.search(r"project\(keystep VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())
    assert found is not None
    return found[1]


def _check_extension(data: bytes, file: str, name: re.Match[str]) -> tuple[set[str], str]:
    """The libraries that it needs, and the oldest glibc that has its symbols."""
    elf = ELFFile(io.BytesIO(data))
    machine, loader = LOADERS.get(elf["e_machine"], (elf["e_machine"], ""))
    suffix = f".cpython-{name['python'].removeprefix('cp')}-{machine}-linux-gnu.so"
    if (
        not all(each.endswith(f"_{machine}") for each in name["platform"].split("."))
        or file != f"keystep/_core{suffix}"
    ):
        raise WheelError(f"machine: expected that of {name['platform']}, got {machine} in {file}")
    needs: set[str] = set()
    for section in elf.iter_sections("SHT_DYNAMIC"):
        for tag in section.iter_tags():
            if tag.entry.d_tag == "DT_NEEDED":
                needs.add(tag.needed)
            elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                raise WheelError(f"{file}: expected no search path, got {tag.entry.d_tag}")
    if others := sorted(needs - SYSTEM - {loader}):
        raise WheelError(f"{file}: expected to need the system's libraries alone, got {others}")
    if str(ROOT).encode() in data:
        raise WheelError(f"{file}: expected no path of this machine, got {ROOT}")
    glibc = _glibc(elf)
    platform = re.sub(r"manylinux\d+", lambda old: f"manylinux_{LEGACY.get(old[0], '0_0')}", name["platform"])
    for promised in re.findall(r"manylinux_(\d+)_(\d+)_", platform):
        if glibc > tuple(map(int, promised)):
            raise WheelError(f"glibc: expected at most that of {name['platform']}, got {glibc[0]}.{glibc[1]}")
    return needs, f"{glibc[0]}.{glibc[1]}"


def _glibc(elf: ELFFile) -> tuple[int, ...]:
    """The newest version of glibc's symbols that are needed."""
    versions = [(0, 0)]
    for section in elf.iter_sections("SHT_GNU_verneed"):
        for _, needed in section.iter_versions():
            names = [version.name for version in needed]
            versions += [tuple(map(int, n[6:].split("."))) for n in names if re.fullmatch(r"GLIBC_[\d.]+", n)]
    return max(version[:2] for version in versions)


def main(paths: list[Path]) -> int:
    if not paths:
        print("wheel_contents.py: expected wheels, got none", file=sys.stderr)
        return 2
    for path in paths:
        try:
            print(check(path))
        except (WheelError, OSError, zipfile.BadZipFile) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
