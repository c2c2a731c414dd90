"""All benchmarks with their defaults: `python -m benchmarks`. Each is a command of its own, see README.md."""

from benchmarks import (
    act,
    candidates,
    footprint,
    hierarchy,
    merging,
    native,
    native_contention,
    native_scaling,
    openvino_env,
    overhead,
    rollouts,
    tabletop,
    trace,
    video,
    writing,
)


def main() -> None:
    """Shortest first; OpenVINO's environment is created before it is needed."""
    overhead.main(overhead.Options())
    trace.main(trace.Options())
    footprint.main(footprint.Options())
    act.main(act.Options())
    hierarchy.main(hierarchy.Options())
    candidates.main(candidates.Options())
    merging.main(merging.Options())
    tabletop.main(tabletop.Options())
    rollouts.main(rollouts.Options())
    video.main(video.Options())
    writing.main(writing.Options())
    openvino_env.main()
    native.main(native.Options())
    native_scaling.main(native_scaling.Options())
    native_contention.main(native_contention.Options())


if __name__ == "__main__":
    main()
