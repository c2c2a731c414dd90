"""Demonstrations to datasets: collect, resume, replay."""
