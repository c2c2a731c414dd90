"""Creates build/openvino-env: openvino and nncf, onnxruntime-openvino in place of onnxruntime, and keystep
without its dependencies. `benchmarks.native` runs OpenVINO there, alone and as keystep's provider; no torch
is needed.

    python -m benchmarks.openvino_env
"""

import subprocess
import sys
import venv

from benchmarks.machine import REPOSITORY

FOLDER = REPOSITORY / "build" / "openvino-env"
PYTHON = FOLDER / "bin" / "python"
PACKAGES = ("numpy", "openvino", "nncf", "onnxruntime-openvino")


def main() -> None:
    """Creates it anew."""
    if sys.prefix == str(FOLDER):
        raise SystemExit("run this with the project's interpreter, not with the one it creates")
    venv.create(FOLDER, with_pip=True, clear=True)
    install = [str(PYTHON), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *PACKAGES], check=True)
    subprocess.run([*install, "--no-deps", str(REPOSITORY)], check=True)
    versions = "import openvino, nncf, onnxruntime; print(openvino.__version__, nncf.__version__)"
    subprocess.run([str(PYTHON), "-c", versions], check=True)


if __name__ == "__main__":
    import tyro  # the environment that is created lacks it, and reads this file, too

    tyro.cli(main)
