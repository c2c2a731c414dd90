"""A balance scale: a beam on a pivot, with a plate at either end.

The pivot is about as high as what lies on the plates, so that neither the load nor the beam decides whether
it stands: a weak spring levels it, and a block too many on one side takes it to its stop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sapien

from keystep.suites.tabletop import layout

PIVOT_M = 0.07  # above the centres of the plates
SPRING_NM_RAD = 0.04
DAMPING_NM_S_RAD = 0.02
DENSITY_KG_M3 = 200.0
BEAM_HALF_M = (0.012, layout.SCALE_ARM_M, 0.006)
POST_HALF_M = (0.02, 0.02, (layout.PLATE_HEIGHT_M - 0.02) / 2)
PAINT = (0.55, 0.40, 0.20)


class Scale:
    """Built into a ManiSkill scene that is being made."""

    def __init__(self, scene: Any) -> None:
        self._visible = scene.can_render()
        builder = scene.sub_scenes[0].create_articulation_builder()
        root = builder.create_link_builder()
        post_z = POST_HALF_M[2] - layout.PLATE_HEIGHT_M
        self._box(root, POST_HALF_M, (0.0, 0.0, post_z))
        beam = builder.create_link_builder(root)
        # A hinge turns about the joint's x axis, which is the world's.
        beam.set_joint_name("hinge")
        pivot = sapien.Pose([0.0, 0.0, PIVOT_M])
        limits = [[-layout.SCALE_LIMIT_RAD, layout.SCALE_LIMIT_RAD]]
        beam.set_joint_properties("revolute", limits, pivot, pivot, 0.0, 0.0)
        self._box(beam, BEAM_HALF_M, (0.0, 0.0, -0.012))
        for name, side in (("left plate", 1.0), ("right plate", -1.0)):
            plate = builder.create_link_builder(beam)
            offset = sapien.Pose([0.0, side * layout.SCALE_ARM_M, 0.0])
            plate.set_joint_properties("fixed", [], offset, sapien.Pose(), 0.0, 0.0)
            self._box(plate, tuple(np.array(layout.PLATE_SIZE_M) / 2), (0.0, 0.0, 0.0))
            plate.set_name(name)
        builder.set_initial_pose(sapien.Pose([*layout.SCALE_CENTRE_M, layout.PLATE_HEIGHT_M]))
        self._articulation = builder.build(fix_root_link=True)
        (self._hinge,) = self._articulation.active_joints
        self._hinge.set_drive_properties(SPRING_NM_RAD, DAMPING_NM_S_RAD, mode="force")
        self._hinge.set_drive_target(0.0)
        self._hinge.set_friction(0.0)  # SAPIEN's default is four times what the spring can do
        self._articulation.sleep_threshold = 0.0  # asleep, it keeps the speed it had
        self.links = list(self._articulation.links)
        self._plates = {link.name: link for link in self.links}

    def _box(self, link: Any, half: tuple, centre: tuple) -> None:
        pose = sapien.Pose(centre)
        link.add_box_collision(pose, half, density=DENSITY_KG_M3)
        if self._visible:
            link.add_box_visual(pose, half, sapien.render.RenderMaterial(base_color=(*PAINT, 1.0)))

    def plate(self, name: str) -> Any:
        """The link called "left plate" or "right plate"."""
        return self._plates[name]

    def angle_rad(self) -> float:
        return float(self._articulation.qpos[0])
