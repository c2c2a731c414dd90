"""Planners that write code: what is seen and felt, and text, to the next call of the robot's API."""
