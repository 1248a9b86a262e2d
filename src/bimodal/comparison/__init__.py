"""Two models on the same rows: what changes when one takes the other's place. `comparing.py` goes through the data."""

from bimodal.comparison.comparing import compare
from bimodal.comparison.result import Comparison

__all__ = ["Comparison", "compare"]
