"""The command line: what it prints, its exit status, and one line per error."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import keystep
from keystep import cli


def run(capsys, *arguments):
    status = cli.run(list(map(str, arguments)))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_installed_command_shows_its_commands():
    output = subprocess.run(
        [sys.executable, "-m", "keystep", "--help"], capture_output=True, text=True, check=True
    )
    for name in cli.COMMANDS:
        assert f"\n  {name} " in output.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command(capsys, name):
    with pytest.raises(SystemExit) as caught:
        cli.run([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: keystep {name}" in capsys.readouterr().out


def test_version(capsys):
    assert run(capsys, "--version") == (0, keystep.__version__ + "\n", "")


def test_unknown_command(capsys):
    status, out, err = run(capsys, "fly")
    assert (status, out) == (2, "")
    assert err.startswith("error: command: expected one of demo,") and err.endswith("got 'fly'\n")


def test_unknown_option_is_refused(stub_bundle):
    with pytest.raises(SystemExit) as caught:
        cli.run(["inspect", str(stub_bundle), "--colour", "red"])
    assert caught.value.code == 2


def test_errors_are_one_line(capsys, tmp_path):
    status, out, err = run(capsys, "inspect", tmp_path / "nothing.keystep")
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and "nothing.keystep" in err


def test_traceback_on_request(capsys, tmp_path):
    _, _, err = run(capsys, "--traceback", "inspect", tmp_path / "nothing.keystep")
    assert "Traceback" in err and "BundleError" in err


def test_missing_package_says_which_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "keystep.commands.train", None)
    monkeypatch.setattr(
        cli, "_run_command", lambda *_: (_ for _ in ()).throw(ModuleNotFoundError(name="torch"))
    )
    status, _, err = run(capsys, "train")
    assert (
        status == 2 and err == "error: this command needs the package 'torch': pip install 'keystep[train]'\n"
    )


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
    for word in ("lift_red", "static 6x8", "horizon 4", "ddim", "denoise.onnx", "model_output[1, 4, 3]"):
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
