"""The Franka arm: a light model built at run time from ManiSkill's own files, and an agent around it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from mani_skill import PACKAGE_ASSET_DIR
from mani_skill.agents.base_agent import BaseAgent
from mani_skill.agents.controllers import PDJointPosControllerConfig

from keystep.suites.franka3blocks.layout import FRICTION

PANDA_FOLDER = Path(PACKAGE_ASSET_DIR) / "robots" / "panda"
GRASP_TARGET_OFFSET_M = "0 0 0.105"  # PyBullet's panda_grasptarget; ManiSkill's panda_hand_tcp is at 0.1034
HAND_LINK = "panda_hand_tcp"
FINGER_LINKS = ("panda_leftfinger", "panda_rightfinger")
ARM_JOINTS = [f"panda_joint{index}" for index in range(1, 8)]
FINGER_JOINTS = ["panda_finger_joint1", "panda_finger_joint2"]

# PyBullet's POSITION_CONTROL asks for a velocity that removes a tenth of the error every simulation step.
# PhysX's implicit drive does the same when stiff and strongly over-damped: with d*dt >> 1 the error decays
# at rate k/d.
DRIVE_DAMPING = 1.0e4
DRIVE_STIFFNESS = 26.7 * DRIVE_DAMPING  # k = 0.1 d / (0.9 dt), dt = 1/240 s
ARM_FORCE_LIMIT_NM = 500.0
FINGER_FORCE_LIMIT_N = 200.0


def _replace_visuals(root: ElementTree.Element, visible: bool) -> None:
    """Collision shapes become visuals: rendering cost follows triangles, and stock meshes have far more."""
    for link in root.findall("link"):
        for visual in link.findall("visual"):
            link.remove(visual)
        if not visible:
            continue
        is_finger = link.get("name") in FINGER_LINKS
        colour = "0.25 0.25 0.28 1" if is_finger or link.get("name") == "panda_hand" else "0.85 0.85 0.85 1"
        for collision in link.findall("collision"):
            visual = ElementTree.SubElement(link, "visual")
            visual.extend(collision)
            material = ElementTree.SubElement(visual, "material", {"name": f"{link.get('name')}_paint"})
            ElementTree.SubElement(material, "color", {"rgba": colour})


@functools.cache
def light_urdf(visible: bool) -> str:
    """Path of a URDF of the Panda with few triangles, or with no visuals at all.

    Args:
        visible: without visuals no render call is ever made, so no graphics driver is needed.
    """
    root = ElementTree.parse(PANDA_FOLDER / "panda_v2.urdf").getroot()
    for mesh in root.iter("mesh"):
        mesh.set("filename", str(PANDA_FOLDER / mesh.get("filename", "")))
    origin = root.find("joint[@name='panda_hand_tcp_joint']/origin")
    assert origin is not None
    origin.set("xyz", GRASP_TARGET_OFFSET_M)
    _replace_visuals(root, visible)
    folder = Path(tempfile.mkdtemp(prefix="keystep-panda-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copy(PANDA_FOLDER / "panda_v2.srdf", folder / "panda.srdf")
    ElementTree.ElementTree(root).write(folder / "panda.urdf")
    return str(folder / "panda.urdf")


class LightPanda(BaseAgent):
    """ManiSkill agent with PyBullet-like joint position control (see DRIVE_STIFFNESS)."""

    uid = "keystep_panda"
    urdf_config = {  # noqa: RUF012
        "_materials": {
            "gripper": {"static_friction": FRICTION, "dynamic_friction": FRICTION, "restitution": 0.0}
        },
        "link": {
            name: {"material": "gripper", "patch_radius": 0.1, "min_patch_radius": 0.1}
            for name in FINGER_LINKS
        },
    }
    visible = False

    @property
    def urdf_path(self) -> str:  # type: ignore[override]
        return light_urdf(self.visible)

    @property
    def _controller_configs(self) -> dict:
        def position(joints: list[str], force_limit: float) -> PDJointPosControllerConfig:
            return PDJointPosControllerConfig(
                joints,
                lower=None,
                upper=None,
                stiffness=DRIVE_STIFFNESS,
                damping=DRIVE_DAMPING,
                force_limit=force_limit,
                normalize_action=False,
                drive_mode="acceleration",
            )

        return {
            "joint_position": {
                "arm": position(ARM_JOINTS, ARM_FORCE_LIMIT_NM),
                "gripper": position(FINGER_JOINTS, FINGER_FORCE_LIMIT_N),
            }
        }


class VisiblePanda(LightPanda):
    """The same robot with visuals, for rgb mode."""

    uid = "keystep_panda_visible"
    visible = True
