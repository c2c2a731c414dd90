"""Where the shared libraries of installed wheels are, found without importing them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path


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
