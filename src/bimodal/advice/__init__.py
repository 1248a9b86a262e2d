"""Which mode fits: a model measured here, and what each mode would cost. `advising.py` does it all.

Nothing is imported here: the processes of the load and of the runs begin with this file.
"""
