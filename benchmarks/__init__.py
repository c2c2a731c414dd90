"""Side-by-side measurements against what users run today; keystep itself imports nothing of it."""
