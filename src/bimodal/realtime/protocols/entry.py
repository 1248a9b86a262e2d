"""A model in OpenAI's list of models: https://platform.openai.com/docs/api-reference/models/object"""

from __future__ import annotations

import os
import re
from typing import Any

from bimodal.model import Model

ATTRIBUTE = re.compile(r":\w+\Z")


def entry(model: Model) -> dict[str, Any]:
    """The same wherever it is told. created: when the model's file was last written, which all workers see alike."""
    return {"id": model.name, "object": "model", "created": _written(model), "owned_by": "bimodal"}


def _written(model: Model) -> int:
    """Seconds since 1970; 0 where it is no file."""
    place = model.location.given or model.location.source.path
    try:
        return int(os.stat(ATTRIBUTE.sub("", place)).st_mtime)
    except (OSError, ValueError):
        return 0
