"""The exact engine: models as plain arrays, answered by a few small kernels with the library's own bits."""
