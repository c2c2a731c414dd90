"""Simulated worlds, one folder each, and what their robots share."""
