"""The configuration: bimodal.toml, read and checked as a whole."""

from bimodal.config.reading import find, read
from bimodal.config.tables import Config, JobTable, ModelTable, NotifyTable, StoreTable

__all__ = ["Config", "JobTable", "ModelTable", "NotifyTable", "StoreTable", "find", "read"]
