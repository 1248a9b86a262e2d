"""What brings the pieces of a source through a model into a sink: `local.py`, on this machine alone."""
