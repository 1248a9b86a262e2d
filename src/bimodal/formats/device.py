"""Where PyTorch computes."""

from __future__ import annotations

import os
from typing import Any

from bimodal.errors import ModelError
from bimodal.formats.library import library


def device(wanted: str = "auto") -> str:
    """cuda where PyTorch finds it, else cpu; wanted: auto, cpu or cuda. Raises ModelError where there is no CUDA."""
    there = wanted != "cpu" and library("torch").cuda.is_available()
    if wanted == "cuda" and not there:
        raise ModelError("PyTorch finds no CUDA device here; use the device cpu")
    return "cuda" if there else "cpu"


def one_thread(torch: Any) -> None:
    """One thread, unless the user says otherwise: side by side, several processes would only wait for each other."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
