"""The command `keystep`. Errors are one line on stderr and exit status 2; Ctrl-C exits with 130.

Where whoever reads the output closes it (`keystep run .. | head`), a command ends quietly: with 141, where
rich was writing with 1.
"""

from __future__ import annotations

import functools
import importlib
import os
import select
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import keystep
from keystep import libraries
from keystep.usage import one_line_errors

CLOSED_PIPE = 141
"""Exit status where the reader of the output has gone, as a shell tells it of other programs."""
COMMANDS = {
    "demo": "run the shipped policy in simulation: success per task and latency",
    "run": "watch a planner write code, key-step by key-step, and the oracle run it",
    "profile": "latency, memory and allocations of a bundle on this machine (no simulator)",
    "soak": "hours of virtual time, faults and interrupts on the asynchronous loop, checked at every tick",
    "trace": "what a trace of a policy holds: spans, a picture, JSON",
    "inspect": "check a bundle and show what it holds",
    "verify": "prove that torch, ONNX and C++ agree on a bundle's golden data",
    "eval": "success of a bundle in simulation, with confidence intervals",
    "cross": "success of every planner with every controller",
    "fig10": "time per action and success by the planner's sampler",
    "plans": "pictures and videos of what a planner imagines",
    "replies": "what a planner that writes code answers on held-out demonstrations",
    "expert": "success of the scripted expert",
    "check": "read a dataset completely and say what is wrong with it",
    "collect": "write successful demonstrations of the expert or oracle as a dataset",
    "rollouts": "write a policy's own successful rollouts as a dataset",
    "oracle": "success of the oracle on the tabletop suite, or one episode: its code or yours, a video",
    "calvin": "CALVIN's recordings, fixed settings and chains as keystep's files",
    "replay": "simulate a recorded episode again and compare it bit for bit",
    "train": "train a policy on a dataset",
    "expit": "expert iteration: collect with the policy itself, learn from what succeeded, again",
    "curves": "curves and tables of expert iteration: success by iteration, family, steps; replanning, cross",
    "export": "compile a training checkpoint into a bundle",
    "convert": "make a bundle of a policy that LeRobot trained",
    "serve": "serve a policy to robots elsewhere, over a websocket",
    "upgrade": "bring an older bundle to the newest manifest, from its own files",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: run the command line and exit with its status."""
    status: str | int | None
    try:
        status = run(sys.argv[1:] if arguments is None else list(arguments))
    except SystemExit as end:
        status = end.code
    except BrokenPipeError:
        if not _closed_outputs():
            raise
        status = CLOSED_PIPE
    for descriptor in _closed_outputs():  # what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        status = status or CLOSED_PIPE
    sys.exit(status)


def _closed_outputs() -> list[int]:
    """Of standard output and error those that are pipes which nobody reads any more."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return [descriptor for descriptor, event in poll.poll(0) if event & select.POLLERR]


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit status. SystemExit after a command's --help or bad options."""
    debug = arguments[:1] == ["--traceback"]
    arguments = arguments[debug:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(keystep.__version__)
        return 0
    try:
        with _one_line_warnings():
            return _run_command(arguments[0], arguments[1:])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ImportError as error:
        return _fail(libraries.missing_module(error), debug)
    except BrokenPipeError as error:
        return CLOSED_PIPE if _closed_outputs() else _fail(str(error), debug)
    except (keystep.Error, OSError, ValueError, RuntimeError) as error:
        return _fail(" ".join(str(error).split()) or type(error).__name__, debug)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return _fail(f"{what} (unexpected; keystep --traceback shows where)", debug)


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Those of keystep as errors are told: without the place in its code."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        text = " ".join(str(message).split())
        if not category.__module__.startswith("keystep."):
            shown(message, category, *place, **more)
        elif text not in told:
            told.add(text)
            print(f"warning: {text}", file=sys.stderr)

    told: set[str] = set()
    shown, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = shown


def usage() -> str:
    """What `keystep --help` prints."""
    lines = [
        "usage: keystep [--traceback] COMMAND ...",
        "       keystep --version",
        "",
        "Compiled hierarchical robot policies in real time.",
        "",
    ]
    lines += [f"  {name:<9}{text}" for name, text in COMMANDS.items()]
    return "\n".join([*lines, "", "keystep COMMAND --help shows the options of a command."])


def _run_command(name: str, arguments: list[str]) -> int:
    if name not in COMMANDS:
        near = get_close_matches(name, [*COMMANDS, "--help", "--version", "--traceback"], 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise keystep.ArgumentError(f"command: expected one of {', '.join(COMMANDS)}, got {name!r}{hint}")
    module = importlib.import_module(f"keystep.commands.{name}")
    result = parse(module.main, f"keystep {name}", arguments)()
    return 130 if getattr(result, "interrupted", False) else 0


def parse(command: Callable[..., Any], program: str, arguments: list[str]) -> Callable[[], Any]:
    """The call of `command` that the arguments ask for; SystemExit after --help and for bad arguments."""
    import tyro

    @functools.wraps(command)
    def deferred(*values: Any, **options: Any) -> Callable[[], Any]:
        return functools.partial(command, *values, **options)

    with one_line_errors(program, arguments):
        return tyro.cli(deferred, prog=program, args=arguments)


def _fail(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return 2
