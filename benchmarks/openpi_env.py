"""Creates build/openpi-env: the unmodified `openpi-client` of PyPI, which wants an older numpy than keystep.

    python -m benchmarks.openpi_env

`typing_extensions` is said by hand: openpi-client 0.1.2 imports it, and does not ask for it.
"""

import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.machine import REPOSITORY

FOLDER = REPOSITORY / "build" / "openpi-env"
PYTHON = FOLDER / "bin" / "python"
PACKAGES = ("openpi-client==0.1.2", "typing_extensions", "websockets>=15,<18")


def main() -> None:
    """Creates it anew."""
    if sys.prefix == str(FOLDER):
        raise SystemExit("run this with the project's interpreter, not with the one it creates")
    venv.create(FOLDER, with_pip=True, clear=True)
    install = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *PACKAGES], check=True, capture_output=True, text=True)


def python_with_openpi() -> Path:
    """The interpreter there, made now if need be; RuntimeError: it cannot be installed here, and why."""
    works = [str(PYTHON), "-c", "import openpi_client.websocket_client_policy"]
    try:
        if not PYTHON.exists() or subprocess.run(works, capture_output=True).returncode:
            main()
        subprocess.run(works, capture_output=True, check=True)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"") if isinstance(error.stderr, bytes) else (error.stderr or "").encode()
        raise RuntimeError(f"openpi-client cannot be installed: {said.decode()[-300:]}") from None
    return PYTHON


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
