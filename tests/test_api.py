"""What a user reads: docstrings, the repr of a policy, reports in a notebook, messages about pictures."""

from __future__ import annotations

import importlib
import inspect
import re

import numpy as np
import pytest
from stub_bundle import stub_manifest, write_stub_bundle

import keystep
from keystep.latency import LatencyReport, StageLatency
from keystep.notebook import html_markdown, html_table

PACKAGES = {
    "keystep": "numpy",
    "keystep.data": "pyarrow",
    "keystep.evaluate": "numpy",
    "keystep.models": "torch",
    "keystep.train": "torch",
    "keystep.suites.franka3blocks": "numpy",
    "keystep.code": "scipy",
    "keystep.client": "msgpack",
    "keystep.serve": "websockets",
}
"""Public packages, and what they need."""


def members(thing):
    """The public methods and properties of a class, inherited ones of ours included."""
    for base in inspect.getmro(thing):
        if not base.__module__.startswith("keystep"):
            continue
        for name, member in vars(base).items():
            member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if not name.startswith("_") and (isinstance(member, property) or inspect.isroutine(member)):
                yield f"{thing.__name__}.{name}", member


@pytest.mark.parametrize("name", PACKAGES)
def test_everything_public_has_a_docstring(name):
    pytest.importorskip(PACKAGES[name])
    package = importlib.import_module(name)
    missing = [] if package.__doc__ else [name]
    for public in package.__all__:
        thing = getattr(package, public)
        ours = getattr(thing, "__module__", None) or ""
        if not (inspect.isclass(thing) or inspect.isroutine(thing)) or not ours.startswith("keystep"):
            continue
        # Dataclasses without one are given their signature instead.
        if not thing.__doc__ or (inspect.isclass(thing) and thing.__doc__.startswith(f"{public}(")):
            missing.append(public)
        if inspect.isclass(thing):
            missing += [where for where, member in members(thing) if not member.__doc__]
    assert missing == []


def test_bound_classes_say_what_they_are():
    from keystep import _core

    classes = [thing for thing in vars(_core).values() if inspect.isclass(thing)]
    assert len(classes) >= 10 and all(thing.__doc__ for thing in classes)


def test_packages_list_what_they_load_later():
    import keystep.data

    assert {"DatasetReader", "ChunkWindows"} <= set(dir(keystep.data))
    with pytest.raises(AttributeError, match=r"module 'keystep\.data' has no attribute 'DatasetReeder'"):
        _ = keystep.data.DatasetReeder
    for name in ("keystep.data", "keystep.models", "keystep.train"):
        if name == "keystep.data" or importlib.util.find_spec("torch"):
            package = importlib.import_module(name)
            assert all(getattr(package, public) is not None for public in package.__all__)


# ---- a policy


def test_the_repr_of_a_policy(stub_bundle):
    policy = keystep.load(stub_bundle, engine="stub")
    text = repr(policy)
    for word in (
        "'stub'",
        "family flat, 60 Hz",
        f"engine {policy.description}",
        "observation.state float32 (4,)",
        "observation.images.static uint8 (6, 8, 3)",
        "task, one of lift_red, push_red_left",
        "action float32 (3,)",
    ):
        assert word in text
    policy.close()
    assert "'stub'" in repr(policy) and "engine closed" in repr(policy)


def test_the_inputs_of_a_hierarchy():
    from keystep.manifests import inputs

    manifest = stub_manifest(goal="text")
    assert inputs(manifest)[-1] == "task or instruction"
    assert inputs(stub_manifest(goal="observation", tasks=[]))[-1] == "goal, an observation"
    plain = stub_manifest(tasks=[])
    del plain["observation"][0]
    assert inputs(plain) == ["observation.images.static uint8 (6, 8, 3)"]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 6, 8), "got (3, 6, 8): looks like channels first (3, h, w); expected (h, w, 3)"),
        ((1, 6, 8, 3), "got (1, 6, 8, 3): looks like a batch of one; expected a single image (h, w, 3)"),
        ((6, 8), "got (6, 8)"),
        ((6, 8, 4), "got (6, 8, 4)"),
        ((8, 6, 3), "got (8, 6, 3)"),
        ((3, 6, 3), "got (3, 6, 3)"),
    ],
)
@pytest.mark.parametrize("resize", [False, True])
def test_a_picture_of_another_layout_is_called_so(tmp_path, shape, words, resize):
    manifest = stub_manifest()
    if resize and shape in ((8, 6, 3), (3, 6, 3)):
        pytest.skip("the runtime resizes it")
    changes = {"observation": manifest["observation"]}
    changes["observation"][1]["resize"] = resize
    bundle = write_stub_bundle(tmp_path / "stub.keystep", **changes)
    with keystep.load(bundle, engine="stub") as policy:
        policy.reset(task="lift_red")
        image = np.zeros(shape, np.uint8)
        with pytest.raises(keystep.ArgumentError, match=r"^observation\.images\.static: expected ") as caught:
            policy.act({"observation.state": np.zeros(4, np.float32), "observation.images.static": image})
    assert str(caught.value).endswith(words)


# ---- reports


def latency() -> LatencyReport:
    stages = {
        "denoise": StageLatency(4, 10.0, 9.0, 11.0, 12.0, 13.0, 14.0),
        "plan": StageLatency(0, *[0.0] * 6),
    }
    fields = dict.fromkeys(LatencyReport.__dataclass_fields__, 0)
    return LatencyReport(**{**fields, "engine": "<stub>", "engine_choices": [], "stages": stages})


def reports():
    pytest.importorskip("gymnasium")
    from fake_env import made_up_report

    from keystep.evaluate.chains import ChainReport
    from keystep.evaluate.cross import CrossReport, Pair
    from keystep.evaluate.planner_speed import SpeedReport, TimedEpisode
    from keystep.evaluate.profile import ProfileReport
    from keystep.evaluate.settings import EpisodeResult, Job

    tasks = made_up_report({"lift_red": [True, False], "stack": [False, None]})
    yield latency()
    yield tasks
    settings = {"protocol": "LH-MTLC", "noise_seeds": [0], "bundle": "<b>.keystep"}
    chains = (EpisodeResult(Job(0, 0, ("a", "b")), 1, 5), EpisodeResult(Job(0, 1, ("b", "a")), 2, 9))
    yield ChainReport(length=2, chains=chains, env="e", seed=0, seconds=1.0, settings=settings)
    yield SpeedReport({"DDPM 100": (TimedEpisode("a", 0, True, 2, 0.1),)}, {"controller": "DDPM 100"})
    yield CrossReport(("p",), ("c", "d"), (Pair("p", "c", tasks), Pair("p", "d", None, "does not <fit>")))
    machine = {"cpu": "x", "cores": 1, "kernel": "k", "commit": None}
    yield ProfileReport("stub", "<cpu>", 2, 10, 1.0, None, 0.0, 1.0, 2.0, latency(), machine)


def verified():
    pytest.importorskip("jsonschema")
    from keystep.export.comparison import Comparison, VerifyReport

    return VerifyReport("stub", 2, 1e-4, (Comparison("C++", "<torch>", "actions", 1e-6, 1e-7),))


def test_reports_are_tables_in_a_notebook():
    for report in [*reports(), verified()]:
        html = report._repr_html_()
        assert ("<table>" in html or "<pre>" in html) and "|" not in html, type(report)
        assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td|p|pre|b|br)\b)", html), (
            html
        )  # all is escaped


def test_reports_are_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    for number, report in enumerate([*reports(), verified()]):
        report.plot().savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ModuleNotFoundError, match="a plot needs matplotlib, which is not installed"):
        latency().plot()


def test_the_latency_of_a_run_is_a_table(stub_bundle):
    with keystep.load(stub_bundle, engine="stub") as policy:
        html = policy.latency()._repr_html_()
    assert html.startswith("<table><thead><tr>") and "time per action" in html


def test_markdown_to_html():
    html = html_markdown("| a | b |\n| --- | ---: |\n| **x** | <1> |\n\ntext & more\n- list\n")
    row = '<td style="text-align: left"><b>x</b></td><td style="text-align: right">&lt;1&gt;</td>'
    assert row in html and html.endswith("<p>text &amp; more<br>- list</p>")
    assert html_table(["h"], []).count("<tr>") == 1
