"""Values that no argument takes."""

from __future__ import annotations

import numpy as np

STATE, IMAGE = "observation.state", "observation.images.static"


class Interrupting:
    """Somebody presses Ctrl-C while it is converted."""

    def __index__(self):
        raise KeyboardInterrupt

    __float__ = __fspath__ = __index__


class Failing:
    def __index__(self):
        raise LookupError("ours")

    __float__ = __fspath__ = __index__


def kind(value: object) -> str:
    """Of a test's parameter: pytest would print all digits of 10**5000, which Python refuses."""
    return type(value).__name__


BAD_INTEGERS = [-1, 2**64, 10**5000, 1.0, "1", None, True, [], np.float32(1), np.array([1, 2])]
