"""Where predictions go: a file a format, `file.py` and `standard.py` for the places, `outputs.py` opens."""
