"""Where the user's CALVIN is: calvin_env, assets, dataset folder, sentences. Each missing piece is named.

Nothing is imported here: packages are found by their specs, files are read.
"""

from __future__ import annotations

import ctypes.util
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keystep
from keystep.files import sha256
from keystep.suites.calvin.tasks import TASKS

CONFIG = ".hydra/merged_config.yaml"
RENDERERS = ("egl", "cpu")
INSTALL = (
    "git clone --recursive https://github.com/mees/calvin_env, then pip install -e of its tacto and of it"
)
ORACLE_FILE = "new_playtable_tasks.yaml"
UNSEEN_FILE = "new_playtable_validation.yaml"
TRAINING_FILE = "new_playtable.yaml"


def missing(what: str, expected: str, got: object) -> keystep.ArgumentError:
    """The error for a piece of CALVIN that is not there."""
    return keystep.ArgumentError(f"{what}: expected {expected}, got {got}")


def package_folder() -> Path:
    """The folder of the package calvin_env.

    Raises:
        ArgumentError: it is not installed.
    """
    found = _package("calvin_env")
    if found is None:
        raise missing("calvin_env", f"an installed package ({INSTALL})", "none")
    return found


def _package(name: str) -> Path | None:
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    folders = list(spec.submodule_search_locations or []) if spec else []
    return Path(folders[0]) if folders else None


def _conf_folders() -> list[Path]:
    """Folders of CALVIN's configuration, of calvin_agent and of calvin_env, wherever they are checked out."""
    found = []
    agent, env = _package("calvin_agent"), _package("calvin_env")
    if agent is not None:
        found.append(agent.parent / "conf")
    if env is not None:
        found += [env.parent / "conf", env.parent.parent / "calvin_models/conf"]
    if root := os.environ.get("CALVIN_ROOT"):  # as CALVIN's own documentation calls its checkout
        found += [Path(root) / "calvin_models/conf", Path(root) / "calvin_env/conf"]
    return found


def conf_file(option: str, given: str | Path | None, name: str, folders: Iterable[str]) -> Path:
    """The file `name` of CALVIN's configuration.

    Args:
        option: how a user names another one; `given` is what he named.
        folders: in conf/, where it may be.

    Raises:
        ArgumentError: it is nowhere.
    """
    if given is not None:
        if not Path(given).is_file():
            raise missing(option, f"a file like CALVIN's {name}", given)
        return Path(given)
    for conf in _conf_folders():
        for folder in folders:
            if (path := conf / folder / name).is_file():
                return path
    where = "in an installed calvin_agent, beside calvin_env, or in $CALVIN_ROOT"
    raise missing(option, f"CALVIN's {name}, {where} (a checkout of github.com/mees/calvin)", "none")


def oracle_file(given: str | Path | None = None) -> Path:
    """The tasks that calvin_env's oracle knows."""
    return conf_file("oracle", given, ORACLE_FILE, ("tasks", "callbacks/rollout/tasks"))


def unseen_file(given: str | Path | None = None) -> Path:
    """The one sentence per task that evaluation tells."""
    return conf_file("unseen_sentences", given, UNSEEN_FILE, ("annotations",))


def training_file(given: str | Path | None = None) -> Path:
    """The sentences that the training data was annotated with."""
    return conf_file("training_sentences", given, TRAINING_FILE, ("annotations",))


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping. Raises ArgumentError."""
    try:
        import yaml
    except ImportError:
        raise missing("PyYAML", "an installed package (pip install pyyaml)", "none") from None
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise missing(str(path), "a YAML file that can be read", " ".join(str(error).split())) from None
    if not isinstance(value, dict):
        raise missing(str(path), "a mapping", type(value).__name__)
    return value


def read_sentences(path: Path) -> dict[str, tuple[str, ...]]:
    """By task, in the order of the file. Raises ArgumentError for a task without any, or an unknown one."""
    found = read_yaml(path)
    for task in (*TASKS, *found):
        texts = found.get(task)
        if task not in TASKS:
            raise missing(f"{path}: {task}", "a task of CALVIN", "another name")
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t for t in texts):
            raise missing(f"{path}: {task}", "a list of sentences", repr(texts)[:80])
    return {task: tuple(found[task]) for task in TASKS}


@dataclass(frozen=True)
class Calvin:
    """All that an environment is made from; checked, and known by hashes.

    Attributes:
        package: of calvin_env.
        dataset: a split with calvin_env's configuration in .hydra.
        settings, sequences: fixed starts, see `keystep.suites.calvin.settings` and `.sequences`; or None.
    """

    package: Path
    dataset: Path
    oracle: Path
    unseen: Path
    renderer: str
    actions: str
    settings: Path | None = None
    sequences: Path | None = None

    def hashes(self) -> dict[str, str]:
        """What scores depend on besides the policy; stands in every result (calvin_env#3, calvin#65)."""
        found = {
            "renderer": self.renderer,
            "actions": self.actions,
            "calvin_env": source_sha256(self.package),
            "assets": _assets_sha256(_assets(read_yaml(self.dataset / CONFIG), self.package)),
            "config": sha256(self.dataset / CONFIG),
            "oracle": sha256(self.oracle),
            "unseen_sentences": sha256(self.unseen),
        }
        for name in ("settings", "sequences"):
            if (path := getattr(self, name)) is not None:
                found[name] = sha256(path)
        return found

    def require(self, expected: Mapping[str, str]) -> None:
        """Raises ArgumentError when one of `expected` is not as in `hashes`."""
        found = self.hashes()
        for name, value in expected.items():
            if name not in found:
                raise missing("expected", f"some of {', '.join(found)}", repr(name))
            if found[name] != value:
                raise missing(f"expected.{name}", repr(value), f"{found[name]!r}; scores would not compare")


def find_calvin(
    dataset: str | Path | None = None,
    renderer: str = "egl",
    actions: str = "relative",
    oracle: str | Path | None = None,
    unseen_sentences: str | Path | None = None,
    settings: str | Path | None = None,
    sequences: str | Path | None = None,
    expected: Mapping[str, str] | None = None,
) -> Calvin:
    """Everything that the arguments name or leave to be found; see `CalvinEnv` for them.

    Raises:
        ArgumentError: the first piece that is missing, wrong, or not what `expected` says.
    """
    from keystep.suites.calvin.layout import ACTIONS

    package = package_folder()
    if expected is not None and not isinstance(expected, Mapping):
        raise missing("expected", "hashes by name", repr(expected))
    if actions not in ACTIONS:
        raise missing("actions", " or ".join(ACTIONS), repr(actions))
    if renderer not in RENDERERS:
        raise missing("renderer", " or ".join(RENDERERS), repr(renderer))
    if dataset is None:
        raise missing("dataset", "a split of CALVIN's data, such as task_D_D/validation", "none")
    folder = Path(dataset)
    if not (folder / CONFIG).is_file():
        raise missing("dataset", f"a folder with {CONFIG}, such as task_D_D/validation", folder)
    _check_config(folder / CONFIG, package, renderer)
    for name, path in (("settings", settings), ("sequences", sequences)):
        if path is not None and not Path(path).is_file():
            raise missing(name, f"a file (keystep calvin {name} makes one)", path)
    calvin = Calvin(
        package,
        folder,
        oracle_file(oracle),
        unseen_file(unseen_sentences),
        renderer,
        actions,
        Path(settings) if settings is not None else None,
        Path(sequences) if sequences is not None else None,
    )
    calvin.require(expected or {})
    return calvin


def _check_config(path: Path, package: Path, renderer: str) -> None:
    """The assets that the configuration names are there, and it draws with the renderer that is asked for."""
    config = read_yaml(path)
    assets = _assets(config, package)
    if not assets.is_dir():
        raise missing("assets", "calvin_env's data folder, which its git checkout has", f"no folder {assets}")
    env = config.get("env")
    uses_egl = bool(env.get("use_egl")) if isinstance(env, dict) else False
    if uses_egl != (renderer == "egl"):
        has = "egl" if uses_egl else "cpu"
        hint = f"{path} has env.use_egl {str(uses_egl).lower()}; scores of the two do not compare"
        raise missing("renderer", f"{has}, as the dataset's configuration says", f"{renderer!r} ({hint})")
    if uses_egl and ctypes.util.find_library("EGL") is None:
        raise missing("EGL", "a graphics driver with libEGL, which calvin_env draws with", "none")


def _assets(config: Mapping[str, Any], package: Path) -> Path:
    return package.parent / str(config.get("data_path", "data"))


def source_sha256(package: Path) -> str:
    """Of a package's Python files: it has no version that tells one state from another."""
    return _sha256_of_all(package, "*.py")


def _assets_sha256(folder: Path) -> str:
    """Of its models; not of the meshes that they name, which are large."""
    return _sha256_of_all(folder, "*.urdf")


def _sha256_of_all(folder: Path, pattern: str) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob(pattern)):
        total.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    return total.hexdigest()


def simulator_of(split: Path) -> str:
    """What the numbers of a state mean: scene and robot of the configuration of a split, in a few words.

    The rest of a configuration, such as seeds and cameras, may differ between the splits of one recording.
    """
    path = split / CONFIG
    if not path.is_file():
        return "calvin_env, of an unknown configuration"
    config = read_yaml(path)
    parts = json.dumps({name: config.get(name) for name in ("scene", "robot")}, sort_keys=True, default=str)
    return f"calvin_env, scene and robot {hashlib.sha256(parts.encode()).hexdigest()[:12]}"
