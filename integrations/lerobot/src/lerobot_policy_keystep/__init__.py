"""keystep's bundles as a policy of LeRobot: `--policy.type=keystep`.

LeRobot imports this package because of its name, and finds the classes by theirs. Where LeRobot is not
installed only `inputs`, `episodes` and `tasks` can be used, which know nothing of it.
"""

from importlib.util import find_spec

if find_spec("lerobot") is not None:
    from lerobot_policy_keystep.configuration_keystep import KeystepConfig as KeystepConfig
    from lerobot_policy_keystep.modeling_keystep import KeystepPolicy as KeystepPolicy
    from lerobot_policy_keystep.processor_keystep import (
        make_keystep_pre_post_processors as make_keystep_pre_post_processors,
    )
