"""Images of a data file to arrays. They come from anywhere: what has not the declared size is not decoded."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_MODES = ("RGB", "L", "P", "1")  # those that have RGB values; depth (16 bits) and alpha have not
_ORIENTATION = 0x0112  # EXIF


def decode_image(data: bytes, height: int, width: int) -> np.ndarray:
    """PNG, JPEG, WebP or BMP bytes -> (height, width, 3) uint8; grey images get three equal channels.

    Raises:
        ValueError: another size or kind of image, or damaged data (checksums included).
    """
    try:
        with _opened(data) as image:
            _check_kind(image, height, width)
            image.verify()  # the checksums, which decoding skips
        with _opened(data) as image:
            pixels = np.asarray(image.convert("RGB"))
            turned = image.getexif().get(_ORIENTATION, 1)
    except _Kind as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # Pillow documents no set of errors for damaged data
        raise ValueError(
            f"expected an image that can be decoded, got {type(error).__name__}: {error}"
        ) from None
    if turned not in (0, 1):
        raise ValueError(f"expected an upright image, got EXIF orientation {turned}")
    return pixels


def _opened(data: bytes) -> Image.Image:
    """Reads the header. A size that Pillow would warn of is not the declared one: that is told anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=FORMATS)


class _Kind(Exception):
    """An image that is sound but not the one that was declared."""


def _check_kind(image: Image.Image, height: int, width: int) -> None:
    if image.size != (width, height):
        raise _Kind(f"expected {height} x {width} pixels as declared, got {image.height} x {image.width}")
    if image.mode not in _MODES or "transparency" in image.info:
        raise _Kind(f"expected an RGB image, got mode {image.mode}; convert the images")
