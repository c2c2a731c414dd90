"""The teacher of code policies: a robot API that solves the tabletop suite.

api.Oracle          the calls: get_actor, move3d, pick, place ...
programs            what the oracle does in each task, as code
episodes.play       an episode of it; demonstrations.demonstrate in the form of a dataset
"""
