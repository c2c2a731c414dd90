"""The package of the third suite."""
