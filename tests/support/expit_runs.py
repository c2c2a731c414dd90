"""Settings of tiny runs of expert iteration."""

FILE = """
preset = "tiny"
suite = "moon.suite"
output = "run"
iterations = 2

[demonstrations]
dataset = "d0"
collect = { episodes = 2 }

[planner]
subgoals = 4
steps_per_subgoal = 2

[controller]
chunk_lengths = [2, 4]

[rollouts]
reset_per_task = 1
replayed_per_task = 1
"""
