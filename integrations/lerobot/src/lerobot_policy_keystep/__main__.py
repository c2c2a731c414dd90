"""`python -m lerobot_policy_keystep BUNDLE FOLDER`: what `--policy.path=FOLDER` takes, for the Hub, too."""

from __future__ import annotations

import sys
from pathlib import Path

import keystep


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python -m lerobot_policy_keystep BUNDLE FOLDER")
    from lerobot_policy_keystep import KeystepConfig, KeystepPolicy, make_keystep_pre_post_processors

    bundle, folder = sys.argv[1], Path(sys.argv[2])
    try:
        policy = KeystepPolicy(KeystepConfig(bundle=bundle))
    except keystep.Error as error:
        sys.exit(str(error))
    policy.save_pretrained(folder)
    for pipeline in make_keystep_pre_post_processors(policy.config):
        pipeline.save_pretrained(folder)
    print(f"{folder}: --policy.path={folder}")


if __name__ == "__main__":
    main()
