"""What the runtime is given and gives, by the keys of the manifest's features."""

from __future__ import annotations

from typing import Any

import numpy as np

Observation = dict[str, Any]
"""By the keys of the manifest's features: vectors float32 (S,), such as `observation.state`, RGB images uint8
(height, width, 3), depth float32 (height, width) in metres; one frame, whatever the history. Optionally
`task` (a name or a known instruction) and `timestamp_us` (when it was taken, by the clock of `load`; of an
external clock with `now_us`, the time it shows now). RGB may have another size where the manifest says
`resize`."""

Subgoals = dict[str, np.ndarray]
"""M subgoals under the observation key they are: `observation.state` float32 (M, S), or
`observation.images.<camera>` uint8 (M, height, width, 3) RGB."""
