"""Its suite, by the name that its datasets tell."""

from moon_suite import SUITE

__all__ = ["SUITE"]
