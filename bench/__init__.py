"""Reproducible comparisons, each run by hand: `python tasks.py bench realtime | batch | start`. Never timed tests."""
