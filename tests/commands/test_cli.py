"""The command line: what it prints, its exit status, and one line per error."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import keystep
from keystep import cli, libraries


def run(capsys, *arguments):
    status = cli.run(list(map(str, arguments)))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


WITHOUT_EXTRAS = """
import sys
from importlib.abc import MetaPathFinder
from keystep.libraries import EXTRAS

refused = {refused} or EXTRAS.keys()

class Refuse(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Refuse())
from keystep import cli

cli.main({arguments})
"""
"""A command in a Python that cannot import the packages `refused`, those of the extras where it is None."""
SIMULATORS = {"gymnasium", "mani_skill", "sapien", "pybullet", "torch"}
SUBCOMMANDS = [
    [],
    *([name] for name in cli.COMMANDS),
    ["train", "controller"],
    ["train", "planner"],
    ["calvin", "convert"],
]


def without_extras(*arguments, refused=None) -> subprocess.CompletedProcess[str]:
    program = WITHOUT_EXTRAS.format(refused=refused, arguments=list(map(str, arguments)))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)


def test_installed_command_shows_its_commands():
    output = subprocess.run(
        [sys.executable, "-m", "keystep", "--help"], capture_output=True, text=True, check=True
    )
    for name in cli.COMMANDS:
        assert f"\n  {name} " in output.stdout


@pytest.mark.parametrize("command", SUBCOMMANDS, ids=lambda command: "-".join(command) or "keystep")
def test_help_needs_no_extra(command):
    shown = without_extras(*command, "--help")
    assert shown.returncode == 0 and f"usage: {' '.join(['keystep', *command])}" in shown.stdout, shown.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "controller", "--dataset", "x", "--output", "y"],
        ["export", "checkpoint", "new.keystep"],
        ["collect", "--output", "x"],
        ["expert"],
        ["oracle"],
        ["run", "x", "--task", "Pick"],
        ["replay", "x"],
        ["demo", "--video", "demo-asked-for.mp4"],
        ["eval", "{bundle}", "--tasks", "lift_red"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_without_its_extra_says_what_installs_it(stub_bundle, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    ended = without_extras(*(argument.format(bundle=stub_bundle) for argument in arguments))
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stderr
    assert "error: this command needs the package" in ended.stderr and "'.[train,sim]'" in ended.stderr
    assert "make build" in ended.stderr


@pytest.mark.parametrize("refused", [SIMULATORS, {"mani_skill", "sapien"}], ids=["none", "gymnasium alone"])
def test_the_demo_without_a_simulator_answers_what_was_recorded(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    ended = without_extras("demo", refused=refused)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    first, second, *more = ended.stdout.splitlines()
    assert first.startswith("no simulation: ") and "pip install" in first and "sim]'" in first, first
    assert second.startswith("without one, the policy answers")
    compared = [line for line in more if " = golden (torch)" in line]
    assert len(compared) > 5 and not [line for line in compared if " ok" not in line]
    assert [line for line in more if line.startswith("denoise ")] and "640 actions, " in ended.stdout
    assert not list(tmp_path.iterdir())


def test_version(capsys):
    assert run(capsys, "--version") == (0, keystep.__version__ + "\n", "")


def test_unknown_command(capsys):
    status, out, err = run(capsys, "fly")
    assert (status, out) == (2, "")
    assert err.startswith("error: command: expected one of demo,") and err.endswith("got 'fly'\n")


@pytest.mark.parametrize(
    ("given", "meant"), [("inpect", "inspect"), ("colect", "collect"), ("--verison", "--version")]
)
def test_unknown_commands_name_the_nearest(capsys, given, meant):
    status, _, err = run(capsys, given)
    assert status == 2 and err.endswith(f"got {given!r}; did you mean {meant!r}?\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "x", "--colour", "red"], "--colour"),
        (["inspect"], "bundle"),
        (["profile", "x", "--tick", "3"], "--ticks"),
        (["profile", "x", "--ticks", "many"], "'many'"),
        (["profile", "x", "--engine", "nativ"], "onnxruntime"),
        (["profile", "x", "y"], "y"),
        (["eval", "x", "--guidance", "strong"], "--guidance"),
        (["train"], "controller"),
        (["train", "controler"], "controller, planner"),
        (["train", "planner", "--dataset", "x"], "--output"),
        (["train", "planner", "--dataset", "x", "--output", "y", "--steps", "0"], "error: steps: expected"),
    ],
)
def test_wrong_options_are_one_line(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        cli.run(arguments)
    err = capsys.readouterr().err
    assert caught.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert words in err and err.endswith(f"; see keystep {arguments[0]} --help\n")
    assert not set("─│╭╰").intersection(err) and "---" not in err and "Argument helptext" not in err


def test_a_plot_without_matplotlib_is_refused_at_once(capsys, monkeypatch):
    monkeypatch.setattr("keystep.commands.options.find_spec", lambda name: None)
    status, _, err = run(capsys, "eval", "nothing.keystep", "--plot", "x.png")
    assert status == 2 and err == "error: plot: expected matplotlib to be installed: pip install matplotlib\n"


def test_long_values_stay_whole(capsys):
    name = "x" * 150  # int() itself cuts longer ones
    with pytest.raises(SystemExit):
        cli.run(["profile", "bundle", "--ticks", name])
    assert name in capsys.readouterr().err


def test_errors_are_one_line(capsys, tmp_path):
    status, out, err = run(capsys, "inspect", tmp_path / "nothing.keystep")
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and "nothing.keystep" in err


def test_traceback_on_request(capsys, tmp_path):
    _, _, err = run(capsys, "--traceback", "inspect", tmp_path / "nothing.keystep")
    assert "Traceback" in err and "BundleError" in err


@pytest.mark.parametrize(
    ("name", "package", "install"),
    [
        ("torch.nn", "torch", "'keystep[train,sim]'"),
        ("mani_skill", "mani_skill", "'keystep[train,sim]'"),
        ("pybullet_data", "pybullet_data", "'keystep[bullet]'"),
        ("ray.util", "ray", "'keystep[cluster]'"),
        ("yaml", "yaml", "pyyaml"),
    ],
)
def test_the_hint_of_an_installed_wheel(monkeypatch, name, package, install):
    monkeypatch.setattr(libraries, "checkout", lambda: None)
    message = libraries.missing_module(ModuleNotFoundError(name=name))
    assert message == f"this command needs the package {package!r}: pip install {install}"


def test_another_missing_module_is_named():
    error = ModuleNotFoundError("No module named 'mine'", name="mine")
    assert libraries.missing_module(error) == "No module named 'mine'"


def test_what_nobody_expected_is_one_line(capsys, monkeypatch, stub_bundle):
    from keystep.commands import inspect

    monkeypatch.setattr(inspect, "summary", lambda *_: {}["lost"])
    status, _, err = run(capsys, "inspect", stub_bundle)
    assert status == 2 and err.startswith("error: KeyError: 'lost' (") and err.count("\n") == 1


def test_the_demo_finds_its_bundle_from_anywhere(monkeypatch, tmp_path):
    from keystep.commands import demo

    monkeypatch.chdir(tmp_path)
    assert (demo.shipped_bundle() / "manifest.json").is_file()
    copy = tmp_path / "site-packages" / "keystep" / "bundles" / demo.SHIPPED
    copy.mkdir(parents=True)
    monkeypatch.setattr(libraries, "checkout", lambda: None)
    with pytest.raises(keystep.ArgumentError, match=r"bundle: expected .* name its folder"):
        demo.shipped_bundle()
    monkeypatch.setattr(keystep, "__file__", str(copy.parents[1] / "__init__.py"))
    assert demo.shipped_bundle() == copy


def test_ctrl_c_exits_with_130(capsys, monkeypatch, stub_bundle):
    from keystep.commands import inspect

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(inspect.keystep, "read_manifest", interrupt)
    status, _, err = run(capsys, "inspect", stub_bundle)
    assert (status, err) == (130, "interrupted\n")


def test_inspect_shows_what_a_bundle_holds(capsys, stub_bundle):
    status, out, _ = run(capsys, "inspect", stub_bundle)
    assert status == 0
    for word in ("lift_red", "rgb 6x8", "horizon 4", "ddim", "denoise.onnx", "model_output[1, 4, 3]"):
        assert word in out
    status, out, _ = run(capsys, "inspect", stub_bundle, "--manifest")
    assert json.loads(out) == keystep.read_manifest(stub_bundle)


def test_profile_writes_its_figures(capsys, onnx_bundle, tmp_path):
    path = tmp_path / "figures" / "profile.json"
    status, out, _ = run(capsys, "profile", onnx_bundle, "--ticks", 40, "--threads", 1, "--json", path)
    assert status == 0 and "onnxruntime" in out and "time per action" in out
    figures = json.loads(path.read_text())
    assert figures["ticks"] == 40 and figures["allocations_per_tick"] == 0
    assert figures["latency"]["stages"]["denoise"]["count"] == figures["latency"]["chunks"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--provider", "cuda"], "onnxruntime-gpu"),
        (["--ticks", "0"], "ticks: expected at least 1, got 0"),
        (["--inference-steps", "101"], "inference_steps"),
    ],
)
def test_profile_refuses(capsys, onnx_bundle, tmp_path, arguments, words):
    path = tmp_path / "profile.json"
    status, _, err = run(capsys, "profile", onnx_bundle, "--json", path, *arguments)
    assert status == 2 and words in err and not path.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["inspect", "--help"],
        ["oracle", "--tasks", "Pick", "--list"],
        ["oracle", "--tasks", "Pick", "--questions"],
        ["oracle", "--tasks", "Pick", "--show"],
        ["nothing"],
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("both", [False, True])
def test_output_that_nobody_reads_ends_a_command_quietly(arguments, both, unbuffered):
    if arguments[0] == "oracle":
        pytest.importorskip("mani_skill", reason="needs the extra 'sim'")
    reader, writer = os.pipe()
    os.close(reader)
    program = "from keystep.cli import main; main()"
    stderr = writer if both else subprocess.PIPE
    command = [sys.executable, "-c", program, *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(command, stdout=writer, stderr=stderr, text=True, env=environment, timeout=600)
    os.close(writer)
    if arguments == ["nothing"] and not both:
        assert ended.returncode in (141, 2) and ended.stderr.startswith("error: command: expected one of")
        return
    assert ended.returncode in (141, 1) and not (ended.stderr or "").strip()
