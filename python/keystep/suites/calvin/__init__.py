"""CALVIN (Mees et al. 2022), through the user's own `calvin_env`. Importing this registers the environment.

Nothing of CALVIN comes with keystep: the simulator, its assets, the sentences and the data are the user's.
"""

from importlib.util import find_spec

ENV_ID = "keystep/CALVIN-v0"

if find_spec("gymnasium") is not None:  # names and tasks are of use without it
    import gymnasium

    gymnasium.register(ENV_ID, entry_point="keystep.suites.calvin.environment:CalvinEnv")
