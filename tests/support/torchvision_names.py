"""For LeRobot in an environment with the CPU's torch, for which torchvision has no wheel.

That of CUDA's torch cannot load its compiled operators there. They are about boxes, and LeRobot uses none;
but importing torchvision registers what they do to shapes, which wants their names.
"""

import torch

operators = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
