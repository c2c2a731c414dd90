"""Installed packages: where their shared libraries are, and how to get one that is missing."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

_MANY = (
    *("torch", "diffusers", "transformers", "accelerate", "safetensors", "onnx", "onnxscript", "pyarrow"),
    *("PIL", "matplotlib", "jsonschema", "packaging", "onnxruntime_extensions"),
    *("mani_skill", "sapien", "gymnasium", "scipy", "av"),
)
EXTRAS: dict[str, str] = {
    **dict.fromkeys(_MANY, "train,sim"),
    **dict.fromkeys(("pybullet", "pybullet_data"), "bullet"),
    "ray": "cluster",
    "rerun": "rerun",
    "websockets": "serve",
    "msgpack": "serve",
    "yaml": "",
}
"""Modules of pyproject.toml's optional dependencies and which to install; PyYAML comes with CALVIN alone."""


def find_onnxruntime() -> str:
    """Path of the library in the installed onnxruntime wheel, found without importing it; else "".

    The environment variable KEYSTEP_ONNXRUNTIME, which the C++ loader reads, comes first.
    """
    return _find_library("KEYSTEP_ONNXRUNTIME", "onnxruntime", "capi/libonnxruntime.so.*")


def find_extensions() -> str:
    """Path of the operators in the installed onnxruntime-extensions wheel; else "".

    The environment variable KEYSTEP_ORT_EXTENSIONS, which the C++ loader reads, comes first.
    """
    return _find_library("KEYSTEP_ORT_EXTENSIONS", "onnxruntime_extensions", "_extensions_pydll*.so")


def _find_library(variable: str, package: str, pattern: str) -> str:
    if variable in os.environ:
        return ""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for library in sorted(Path(folder).glob(pattern)):
            return str(library)
    return ""


def checkout() -> Path | None:
    """The source tree that this package runs from; None for an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "python/keystep").is_dir() else None


def missing_module(error: ImportError) -> str:
    """One line for a command that needs a package which is not there, and what installs it."""
    name = (error.name or "").partition(".")[0]
    if name not in EXTRAS:
        return " ".join(str(error).split())
    extra, root = EXTRAS[name], checkout()
    if not extra:
        return f"this command needs the package {name!r}: pip install pyyaml"
    if root is None:
        return f"this command needs the package {name!r}: pip install 'keystep[{extra}]'"
    install = f"{sys.executable} -m pip install -e '.[{extra}]'"
    return f"this command needs the package {name!r}: in {root} run make build, or {install}"
