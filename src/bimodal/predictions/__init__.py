"""Prediction stores: a job's committed result, by key."""

from bimodal.predictions.opening import open_reader, open_writer

__all__ = ["open_reader", "open_writer"]
