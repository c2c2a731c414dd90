"""`import keystep` is for robots: numpy only."""

import subprocess
import sys

HEAVY = ("torch", "onnxruntime", "pyarrow", "gymnasium", "mani_skill", "rich", "tyro", "scipy")


def modules_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sorted(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    return set(output.split())


def test_import_needs_numpy_only():
    loaded = modules_after("import keystep")
    assert "numpy" in loaded
    assert not loaded.intersection(HEAVY)


def test_loading_a_bundle_imports_no_torch_and_no_python_onnxruntime(onnx_bundle):
    loaded = modules_after(f"import keystep; keystep.load({str(onnx_bundle)!r}).close()")
    assert not loaded.intersection(HEAVY)


def test_profiling_imports_no_torch_and_no_simulator():
    loaded = modules_after("import keystep.cli, keystep.commands.profile, keystep.commands.inspect")
    assert not loaded.intersection({"torch", "pyarrow", "gymnasium", "mani_skill"})
