"""Readers: each turns a fitted model of one library into the arrays of a Program."""
