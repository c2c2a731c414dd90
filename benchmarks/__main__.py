"""All benchmarks with their defaults: `python -m benchmarks`. Each is a command of its own, see README.md."""

from benchmarks import act, footprint, hierarchy, openvino_env, overhead, sample, tabletop


def main() -> None:
    """Shortest first; the environment of the `openvino` provider is created before the samples."""
    overhead.main(overhead.Options())
    footprint.main(footprint.Options())
    act.main(act.Options())
    hierarchy.main(hierarchy.Options())
    tabletop.main(tabletop.Options())
    openvino_env.main()
    sample.main(sample.Options())


if __name__ == "__main__":
    main()
