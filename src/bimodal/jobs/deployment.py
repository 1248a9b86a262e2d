"""Deployment: a model that was replaced under a running server is served as it is now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from bimodal.config import Config
from bimodal.errors import BimodalError
from bimodal.realtime import serving
from bimodal.realtime.serving import Prepared
from bimodal.realtime.stamp import stamp

log = logging.getLogger("bimodal.jobs")

EVERY = 2.0  # seconds between two looks at the files


class Deployment:
    """Looks whether the models' files are as they were. A change is taken up when the files have stood still from one
    look to the next, so that a file that is being written is left alone. take: makes the server answer from what was
    prepared anew, and returns when it does.
    """

    def __init__(
        self, config: Config, given: Mapping[str, Any], prepared: Prepared, take: Callable[[Prepared], None]
    ) -> None:
        self._config, self._given, self._take = config, given, take
        self._prepared = prepared
        self._known = self._last = stamp(prepared.locations)

    def look(self) -> None:
        """Raises nothing that a model's files may cause: the models that are served go on."""
        found = stamp(self._prepared.locations)
        still, self._last = found == self._last, found
        if found == self._known or not still:
            return
        self._known = found
        try:
            self._change(serving.of_config(self._config, self._given))
        except (BimodalError, OSError) as error:
            log.error("a model has changed, and cannot be served; the one before goes on: %s", error)

    def _change(self, prepared: Prepared) -> None:
        before = {each.name: each.digest for each in self._prepared.locations}
        changed = [each for each in prepared.locations if before[each.name] != each.digest]
        if changed:
            self._take(prepared)
            for each in changed:
                log.info("%s is served as it is now: %s/%s", each.name, each.name, each.digest[:12])
        self._prepared = prepared
