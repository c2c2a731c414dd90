"""How long finished episodes wait in memory, in a module that needs neither pyarrow nor numpy."""

FLUSH_EPISODES = 50
FLUSH_SECONDS = 10.0
