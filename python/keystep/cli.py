"""The command `keystep`. Errors are one line on stderr and exit status 2; Ctrl-C exits with 130."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

import keystep

COMMANDS = {
    "demo": "run the shipped policy in simulation: success per task and latency",
    "profile": "latency, memory and allocations of a bundle on this machine (no simulator)",
    "inspect": "check a bundle and show what it holds",
    "verify": "prove that torch, ONNX and C++ agree on a bundle's golden data",
    "eval": "success of a bundle in simulation, with confidence intervals",
    "cross": "success of every planner with every controller",
    "fig10": "time per action and success by the planner's sampler",
    "plans": "pictures and videos of what a planner imagines",
    "expert": "success of the scripted expert",
    "check": "read a dataset completely and say what is wrong with it",
    "collect": "write successful demonstrations of the expert or oracle as a dataset",
    "oracle": "success of the oracle on the tabletop suite, or one episode: its code or yours, a video",
    "replay": "simulate a recorded episode again and compare it bit for bit",
    "train": "train a policy on a dataset",
    "export": "compile a training checkpoint into a bundle",
}
TRAIN = ("torch", "diffusers", "accelerate", "onnx", "matplotlib", "safetensors", "pyarrow", "jsonschema")
"""Packages of the extra `train`; others that a command misses belong to `sim`."""


def main(arguments: Sequence[str] | None = None) -> None:
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit status."""
    debug = arguments[:1] == ["--traceback"]
    arguments = arguments[debug:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(keystep.__version__)
        return 0
    try:
        return _run_command(arguments[0], arguments[1:])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("keystep"):
            raise
        return _fail(_missing_module(error), debug)
    except (keystep.Error, OSError, ValueError, RuntimeError) as error:
        return _fail(" ".join(str(error).split()) or type(error).__name__, debug)


def usage() -> str:
    lines = [
        "usage: keystep [--traceback] COMMAND ...",
        "",
        "Compiled hierarchical robot policies in real time.",
        "",
    ]
    lines += [f"  {name:<9}{text}" for name, text in COMMANDS.items()]
    return "\n".join([*lines, "", "keystep COMMAND --help shows the options of a command."])


def _run_command(name: str, arguments: list[str]) -> int:
    if name not in COMMANDS:
        raise keystep.ArgumentError(f"command: expected one of {', '.join(COMMANDS)}, got {name!r}")
    import tyro

    module = importlib.import_module(f"keystep.commands.{name}")
    result = tyro.cli(module.main, prog=f"keystep {name}", args=arguments)
    return 130 if getattr(result, "interrupted", False) else 0


def _missing_module(error: ModuleNotFoundError) -> str:
    package = (error.name or "").partition(".")[0]
    extra = "train" if package in TRAIN else "sim"
    return f"this command needs the package {package!r}: pip install 'keystep[{extra}]'"


def _fail(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return 2
