"""Pictures of another size, equal wherever they are made: data, environment, ground truth."""

from __future__ import annotations

import numpy as np


def resized(image: np.ndarray, side: int | None) -> np.ndarray:
    """uint8 (side, side, 3), by Pillow's antialiased bilinear law, which the runtime's resizer follows, too.

    Args:
        image: uint8 (height, width, 3).
        side: in pixels; None leaves the image as it is.
    """
    if side is None or image.shape[:2] == (side, side):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
