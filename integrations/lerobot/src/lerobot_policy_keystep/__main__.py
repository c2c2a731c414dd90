"""`python -m lerobot_policy_keystep BUNDLE FOLDER`: what `--policy.path=FOLDER` takes, for the Hub, too."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import keystep


def main() -> None:
    parser = argparse.ArgumentParser("python -m lerobot_policy_keystep", description=write.__doc__)
    parser.add_argument("bundle", help="the folder, NAME.keystep")
    parser.add_argument("folder", type=Path, help="new, or written by this before")
    options = parser.parse_args()
    try:
        write(options.bundle, options.folder)
    except (keystep.Error, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{options.folder}: --policy.path={options.folder}")


def write(bundle: str, folder: Path) -> None:
    """A pretrained policy of LeRobot in a folder: config.json, the bundle, LeRobot's two pipelines."""
    from lerobot_policy_keystep import KeystepConfig, KeystepPolicy, make_keystep_pre_post_processors

    policy = KeystepPolicy(KeystepConfig(bundle=bundle))
    policy.save_pretrained(folder)
    for pipeline in make_keystep_pre_post_processors(policy.config):
        pipeline.save_pretrained(folder)


if __name__ == "__main__":
    main()
