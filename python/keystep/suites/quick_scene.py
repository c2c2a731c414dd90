"""The arm in a new scene, from what ManiSkill has read of its URDF: the same bodies in a tenth of the time.

ManiSkill reads and parses the files again for every scene, wraps every body in batched tensors, and leaves
cycles of references behind that must be collected. PhysX sees none of this: bodies, joints and their order
are the same, so a scene made here goes on bit for bit as one of ManiSkill's does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sapien
from mani_skill.utils import sapien_utils


def arm_builder(agent: Any, urdf: str) -> Any:
    """What ManiSkill builds the articulation from, as `BaseAgent._load_articulation` makes it.

    Args:
        agent: built in the scene from which the builder takes whether there are visuals.
    """
    loader = agent.scene.create_urdf_loader()
    loader.name = agent.uid
    loader.fix_root_link = agent.fix_root_link
    loader.load_multiple_collisions_from_file = agent.load_multiple_collisions
    loader.disable_self_collisions = agent.disable_self_collisions
    sapien_utils.apply_urdf_config(loader, sapien_utils.parse_urdf_config(agent.urdf_config))
    return loader.parse(urdf)["articulation_builders"][0]


def add_arm(scene: sapien.Scene, builder: Any, like: Any) -> Any:
    """Build the articulation in another scene, with the drives of the arm `like`."""
    links = builder._build_entities(name_prefix="", initial_pose=sapien.Pose())
    arm = links[0].components[0].articulation
    for record in builder.mimic_joint_records:
        _couple(arm, record)
    arm.pose = sapien.Pose()
    for link in links:
        scene.add_entity(link)
    for joint, known in zip(arm.active_joints, like.active_joints, strict=True):
        joint.set_drive_properties(known.stiffness, known.damping, known.force_limit, known.drive_mode)
        joint.friction = known.friction
    for link, known in zip(arm.links, like.links, strict=True):
        link.disable_gravity = known.disable_gravity
    arm.qpos = np.zeros(arm.dof, dtype=np.float32)
    return arm


def _couple(arm: Any, record: Any) -> None:
    """A joint that mimics another one of the same parent, as both fingers do: ManiSkill's tendon."""
    joint, other = arm.find_joint_by_name(record.joint), arm.find_joint_by_name(record.mimic)
    if joint.parent_link != other.parent_link:
        raise ValueError(f"urdf: expected {record.joint} and {record.mimic} to have one parent")
    arm.create_fixed_tendon(
        [joint.parent_link, joint.child_link, other.child_link],
        [0, -record.multiplier, 1],
        [0, -1 / record.multiplier, 1],
        rest_length=record.offset,
        stiffness=1e5,
    )
