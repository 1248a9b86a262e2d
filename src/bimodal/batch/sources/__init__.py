"""Where batch rows come from: one file a format, and `inputs.py`, which finds and opens what the user named."""
