"""LeRobot's own functions with a bundle. In an environment with LeRobot: scripts/check-lerobot-plugin.sh."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("lerobot", reason="LeRobot is not installed (scripts/check-lerobot-plugin.sh)")
torch = pytest.importorskip("torch")

from lerobot.configs.policies import PreTrainedConfig  # noqa: E402
from lerobot.configs.types import FeatureType, PolicyFeature  # noqa: E402
from lerobot.envs.configs import PushtEnv  # noqa: E402
from lerobot.policies.factory import get_policy_class, make_policy, make_pre_post_processors  # noqa: E402
from lerobot.utils.import_utils import register_third_party_plugins  # noqa: E402
from stub_bundle import camera_entry, state_entry, stub_manifest, write_stub_bundle  # noqa: E402

import lerobot_policy_keystep.__main__ as command  # noqa: E402
from lerobot_policy_keystep import KeystepConfig, KeystepPolicy  # noqa: E402
from lerobot_policy_keystep.configuration_keystep import LOADED  # noqa: E402

BUNDLE = Path(__file__).parents[2] / "bundles/franka3blocks-state.keystep"
TASKS = ["lift_red", "Could you raise the crimson cube?"]
ABOUT: list[dict[str, Any]] = [{"task": TASKS[0]}, {"instruction": TASKS[1]}]


def config(**options: Any) -> KeystepConfig:
    return KeystepConfig(**({"bundle": str(BUNDLE), "threads": 1, "seed": 5} | options))


def states(count: int = 2, steps: int = 12) -> np.ndarray:
    return np.random.default_rng(2).normal(0, 0.2, (steps, count, 26)).astype(np.float32)


def dataset(**features: Any) -> Any:
    """What LeRobot knows of a dataset of this bundle."""
    known = {
        "observation.state": {"dtype": "float32", "shape": (26,), "names": None},
        "action": {"dtype": "float32", "shape": (7,), "names": [f"joint {number}" for number in range(7)]},
    }
    return SimpleNamespace(features=known | features, stats={}, fps=60)


def test_lerobot_finds_the_plugin_by_its_name() -> None:
    register_third_party_plugins()
    assert PreTrainedConfig.get_choice_class("keystep") is KeystepConfig
    assert get_policy_class("keystep") is KeystepPolicy
    assert config().type == KeystepPolicy.name == "keystep"


def test_options_are_those_of_keystep() -> None:
    known = inspect.signature(keystep.load).parameters
    options = KeystepConfig().load_options()
    assert set(options) == set(LOADED)
    assert options == {name: known[name].default for name in LOADED}


def test_actions_are_the_runtimes_through_lerobots_pipelines() -> None:
    policy = make_policy(config(), ds_meta=dataset())
    before, after = make_pre_post_processors(policy.config)
    policy.reset()
    found = []
    for rows in states():
        with torch.inference_mode():
            found.append(
                after(
                    policy.select_action(before({"observation.state": torch.from_numpy(rows), "task": TASKS}))
                )
            )
    actions = torch.stack(found).numpy()
    assert actions.shape == (12, 2, 7) and actions.dtype == np.float32
    with keystep.load(BUNDLE, threads=1) as runtime:
        for number, about in enumerate(ABOUT):
            runtime.reset(seed=5, episode=number, **about)
            for step, rows in enumerate(states()):
                expected = runtime.act({"observation.state": rows[number]})
                assert (actions[step, number] == expected).all(), (number, step)


def test_one_robot_without_a_batch() -> None:
    policy = KeystepPolicy(config())
    before, _ = make_pre_post_processors(policy.config)
    action = policy.select_action(
        before({"observation.state": torch.from_numpy(states()[0, 0]), "task": TASKS[0]})
    )
    assert action.shape == (1, 7)


def test_the_bundle_says_the_features() -> None:
    found = KeystepPolicy(config()).config
    assert found.input_features == {"observation.state": PolicyFeature(FeatureType.STATE, (26,))}
    assert found.output_features == {"action": PolicyFeature(FeatureType.ACTION, (7,))}
    renamed = KeystepPolicy(config(rename_map={"observation.joints": "observation.state"})).config
    assert set(renamed.input_features) == {"observation.joints"}, "by LeRobot's names"
    assert found.action_feature_names == ["dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"]


def test_features_that_do_not_fit_are_named() -> None:
    with pytest.raises(keystep.ArgumentError, match=r"observation.state: expected \(26,\), got \(2,\)"):
        make_policy(config(), env_cfg=PushtEnv())
    other = {"dtype": "float32", "shape": (6,), "names": None}
    with pytest.raises(keystep.ArgumentError, match=r"action: expected \(7,\), got \(6,\)"):
        make_policy(config(), ds_meta=dataset(action=other))
    swapped = ["dy", "dx", "dz", "droll", "dpitch", "dyaw", "gripper"]
    with pytest.raises(keystep.ArgumentError, match=r"action.names: expected dx, dy, "):
        make_policy(config(), ds_meta=dataset(action={"dtype": "float32", "shape": (7,), "names": swapped}))


def test_another_rate_is_refused() -> None:
    """The robot would move at half its speed."""
    slow = dataset()
    slow.fps = 30
    with pytest.raises(keystep.ArgumentError, match=r"dataset.fps: expected 60, .*, got 30"):
        make_policy(config(), ds_meta=slow)


def test_sizes_of_images_are_a_datasets(tmp_path: Path) -> None:
    """And of frames; LeRobot's PushT says another size than it gives."""
    bundle = write_stub_bundle(tmp_path / "stub.keystep", observation=[state_entry(), camera_entry()])
    options = config(bundle=str(bundle), engine="stub", task="lift_red")
    image = {"dtype": "video", "shape": (384, 384, 3), "names": ["height", "width", "channels"]}
    state = {"dtype": "float32", "shape": (4,), "names": None}
    action = {"dtype": "float32", "shape": (3,), "names": None}
    meta = dataset(**{"observation.state": state, "observation.image": image, "action": action})
    with pytest.raises(keystep.ArgumentError, match=r"static: expected \(3, 6, 8\), got \(3, 384, 384\)"):
        make_policy(options, ds_meta=meta)
    image["shape"] = (6, 8, 3)
    policy = make_policy(config(bundle=str(bundle), engine="stub", task="lift_red"), ds_meta=meta)
    assert set(policy.config.image_features) == {"observation.image"}
    batch = {"observation.state": torch.zeros(2, 4), "observation.image": torch.zeros(2, 3, 6, 9)}
    with pytest.raises(keystep.ArgumentError, match=r"observation.images.static: expected"):
        policy.select_action(batch)


def test_a_policy_comes_back_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = KeystepPolicy(config(inference_steps=3))
    policy.save_pretrained(tmp_path)
    for pipeline in make_pre_post_processors(policy.config):
        pipeline.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["bundle"] == "policy.keystep"
    monkeypatch.chdir("/")
    told = PreTrainedConfig.from_pretrained(tmp_path)
    told.pretrained_path = tmp_path
    again = make_policy(told, ds_meta=dataset())
    assert Path(again.config.bundle) == tmp_path / "policy.keystep" and again.config.inference_steps == 3
    overrides = {"rename_observations_processor": {"rename_map": {"observation.joints": "observation.state"}}}
    before, _ = make_pre_post_processors(
        told, pretrained_path=str(tmp_path), preprocessor_overrides=overrides
    )
    rows = torch.from_numpy(states()[0])
    found = again.select_action(before({"observation.joints": rows, "task": TASKS}))
    assert (found == policy.select_action({"observation.state": rows, "task": TASKS})).all()
    (tmp_path / "policy.keystep").rename(tmp_path / "gone")
    with pytest.raises(keystep.ArgumentError, match=r"policy.bundle: expected a bundle in"):
        KeystepPolicy.from_pretrained(tmp_path)


def test_a_folder_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle leaves the bundle that was there; a bundle is no place for one."""
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    (bundle / ".notes").write_text("of an editor")
    policy = KeystepPolicy(config(bundle=str(bundle), engine="stub"))
    policy.save_pretrained(tmp_path / "out")
    copied = tmp_path / "out/policy.keystep"
    names = sorted(path.name for path in copied.iterdir())
    assert names == sorted(path.name for path in bundle.iterdir() if path.name != ".notes")

    def full(source: Path, target: Path, **_: Any) -> None:
        target.mkdir(exist_ok=True)
        (target / "manifest.json").touch()
        raise OSError("disk full")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(OSError, match="disk full"):
        policy.save_pretrained(tmp_path / "out")
    assert sorted(path.name for path in copied.iterdir()) == names
    assert not [path for path in copied.parent.iterdir() if path.name.startswith(".")]
    for inside in (bundle, bundle / "more"):
        with pytest.raises(keystep.ArgumentError, match="folder: expected one outside of the bundle"):
            policy.save_pretrained(inside)


def test_of_a_repository_the_bundle_alone_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        fetched.update(options, name=name)
        return str(tmp_path)

    write_stub_bundle(tmp_path / "policy.keystep")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    settings = config(bundle="policy.keystep", engine="stub")
    KeystepPolicy.from_pretrained("who/what", config=settings, revision="v1", token="t", cache_dir="/c")
    wanted = {"name": "who/what", "revision": "v1", "token": "t", "cache_dir": "/c"}
    assert fetched == wanted | {"allow_patterns": ["policy.keystep/*"]}


@pytest.mark.parametrize(
    ("bundle", "folder", "words"),
    [("/nowhere", "new", "/nowhere: expected"), (str(BUNDLE), "file", "File exists")],
)
def test_the_command_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, bundle: str, folder: str, words: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("sys.argv", ["", bundle, str(tmp_path / folder)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1 and words in err


def test_a_configuration_alone_is_enough() -> None:
    """LeRobot's rollout asks for it so, with `--policy.type`."""
    assert KeystepPolicy.from_pretrained(None, config=config(), revision=None).config.bundle == str(BUNDLE)


def test_chunks_continue_each_other() -> None:
    policy = KeystepPolicy(config())
    inspect.signature(policy.predict_action_chunk).bind({}, inference_delay=0, prev_chunk_left_over=None)
    batch = {"observation.state": torch.from_numpy(states()[0, :1]), "task": TASKS[:1]}
    old = policy.predict_action_chunk(batch)
    new = policy.predict_action_chunk(batch, inference_delay=2, prev_chunk_left_over=old[0, 3:])
    assert old.shape == new.shape == (1, 8, 7)
    assert torch.allclose(new[0, :2], old[0, 3:5], atol=1e-6)
    assert not policy.supports_rtc(), "it plans"


def test_chunks_of_a_history_are_refused(tmp_path: Path) -> None:
    """Who asks for chunks shows the newest frame alone; the one before it would be that of a chunk ago."""
    entries = [state_entry() | {"history": 2}]
    manifest = stub_manifest(observation=entries)
    encode = manifest["graphs"]["encode"]
    encode["inputs"] = [each for each in encode["inputs"] if each["role"] != "observation.images.static"]
    encode["inputs"][0]["shape"] = [1, 2, 4]
    bundle = write_stub_bundle(tmp_path / "b.keystep", observation=entries, graphs=manifest["graphs"])
    policy = KeystepPolicy(config(bundle=str(bundle), engine="stub", task="lift_red"))
    batch = {"observation.state": torch.zeros(1, 4)}
    assert policy.select_action(batch).shape == (1, 3) and not policy.supports_rtc()
    with pytest.raises(keystep.ArgumentError, match=r"observation.state.history: expected 1 .*, got 2"):
        policy.predict_action_chunk(batch)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bundle": ""}, "policy.bundle: expected a folder"),
        ({"bundle": "/nowhere"}, "nowhere"),
        ({"mode": "later"}, "mode: expected"),
        ({"task": ""}, "task: expected lift_red"),
        ({"task": "make_tea", "rename_map": {"observation.a": "observation.b"}}, "rename_map.observation.a"),
    ],
)
def test_options_are_refused_in_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(keystep.Error, match=words) as error:
        KeystepPolicy(config(**options))
    assert "\n" not in str(error.value)


def test_values_that_numpy_does_not_have() -> None:
    policy = KeystepPolicy(config(task="lift_red"))
    rows = torch.zeros(1, 26, dtype=torch.bfloat16)
    assert policy.select_action({"observation.state": rows}).dtype == torch.float32


def test_another_policys_configuration_is_refused() -> None:
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

    with pytest.raises(keystep.ArgumentError, match=r"policy.type: expected keystep, got diffusion"):
        KeystepPolicy(DiffusionConfig(device="cpu"))


def test_nothing_is_trained() -> None:
    policy = KeystepPolicy(config())
    for call in (
        policy.get_optim_params,
        policy.config.get_optimizer_preset,
        policy.config.get_scheduler_preset,
    ):
        with pytest.raises(NotImplementedError, match=r"policy.type: expected a policy that LeRobot trains"):
            call()
    with pytest.raises(NotImplementedError, match="got keystep"):
        policy.forward({})
    with pytest.raises(keystep.ArgumentError, match="noise: expected none"):
        policy.select_action({}, noise=torch.zeros(1))
