"""Living without a graphics driver, in one place.

State mode never makes a render call: the robot's URDF then has no visuals (`robot.light_urdf`) and ManiSkill
runs with render_backend "none". What is left is to load the simulator without its warnings about Vulkan, and
to say clearly what rgb mode lacks.
"""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

NO_SIMULATOR = (
    "simulation: expected the package mani_skill, found none; install it with: pip install 'keystep[sim]'"
)
NO_DRIVER = (
    "rendering: expected a Vulkan driver, got none ({reason}). On Debian 12 run scripts/install-vulkan.sh "
    "(mesa-vulkan-drivers and libvulkan1 from bookworm-backports; Debian 12's own Mesa 22.3 is too old), on "
    "Ubuntu install mesa-vulkan-drivers. obs_mode='state' works without."
)


class MissingDriver(RuntimeError):
    """Nothing can be rendered on this machine."""


def load_simulation(module: str) -> ModuleType:
    """A module of physics, imported late because mani_skill and torch take seconds to load."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to find (system libvulkan|Vulkan ICD|glvnd ICD)")
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name not in ("mani_skill", "sapien", "torch"):
                raise
            raise ImportError(NO_SIMULATOR) from error


def missing_driver() -> str | None:
    """Why nothing can be rendered on this machine; None when it can."""
    load_simulation("keystep.suites.arm")
    import sapien

    sapien.render.set_log_level("off")
    try:
        sapien.render.get_device_summary()
    except RuntimeError as error:
        return str(error)
    finally:
        sapien.render.set_log_level("warn")
    return None


def require_driver() -> None:
    """MissingDriver with what to install when nothing can be rendered."""
    reason = missing_driver()
    if reason is not None:
        raise MissingDriver(NO_DRIVER.format(reason=reason))
