"""Batch: predict every row of a data set. `run.py` is the run; `sources/` and `sinks/` are its ends."""

from bimodal.batch.batches import predict_batches
from bimodal.batch.run import predict_file

__all__ = ["predict_batches", "predict_file"]
