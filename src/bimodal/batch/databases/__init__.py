"""Databases as sources and sinks: `source.py` and `sink.py` for all of them, a file for what is particular to each."""
