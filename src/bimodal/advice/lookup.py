"""Lookup: the embedded prediction store with as many keys as are asked for, behind the server that is measured."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bimodal.config.tables import StoreTable
from bimodal.model import Model
from bimodal.predictions import open_writer
from bimodal.realtime.serving import store

MOST = 1_000_000  # keys
ASKED = 4096  # different keys among the requests
PART = 50_000


@dataclass(frozen=True)
class Shelf:
    """A store with results of the model. path, bodies: of requests for one key each, by lot."""

    count: int
    stores: dict[str, dict[str, Any]]
    path: str
    bodies: list[str]

    @classmethod
    def fill(cls, model: Model, keys: int, results: Sequence[bytes], outputs: Sequence[str], folder: Path) -> Shelf:
        """Integer keys, with the results in turn; a million at most."""
        count, table = min(keys, MOST), StoreTable(job="advise", key="key")
        place = folder / "predictions" / model.name
        writer = open_writer(
            table, place, job="advise", run="advise", model=f"{model.name}/{model.version}", digest=model.digest,
            kind="int", outputs=outputs,
        )  # fmt: skip
        for start in range(0, count, PART):
            part = range(start, min(start + PART, count))
            writer.add(list(part), [results[key % len(results)] for key in part], [0] * len(part))
        writer.commit(time.time())
        chosen = random.Random(0).choices(range(count), k=ASKED)  # noqa: S311 - which keys are asked for is no secret
        path = f"/models/{quote(model.name, safe='')}/lookup"
        return cls(count, {model.name: store(table, place)}, path, [json.dumps({"key": key}) for key in chosen])
