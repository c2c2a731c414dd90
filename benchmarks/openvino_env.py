"""Creates build/openvino-env: numpy, onnxruntime-openvino in place of onnxruntime, and keystep without its
dependencies. Shows that the `openvino` provider works through the same engine; no torch is needed there.

    python -m benchmarks.openvino_env
"""

import subprocess
import sys
import venv

import tyro

from benchmarks.machine import REPOSITORY

FOLDER = REPOSITORY / "build" / "openvino-env"
PYTHON = FOLDER / "bin" / "python"


def main() -> None:
    """Creates it anew."""
    if sys.prefix == str(FOLDER):
        raise SystemExit("run this with the project's interpreter, not with the one it creates")
    venv.create(FOLDER, with_pip=True, clear=True)
    install = [str(PYTHON), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "numpy", "onnxruntime-openvino"], check=True)
    subprocess.run([*install, "--no-deps", str(REPOSITORY)], check=True)
    providers = "import onnxruntime; print(onnxruntime.get_available_providers())"
    subprocess.run([str(PYTHON), "-c", providers], check=True)


if __name__ == "__main__":
    tyro.cli(main)
