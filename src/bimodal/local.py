"""Local: names that can only be a file's of this machine. An address there is refused, and nothing of it is told."""

from __future__ import annotations

import os
import re

from bimodal.errors import UsageError

SCHEME = re.compile(r"([A-Za-z][\w+.-]*)://")
WITH_USER = re.compile(r"(?:^|[/\\:])[^/\\:@]*:[^/\\@]*@")  # user:password@, of an address that is written wrongly


def see_local(text: str, what: str, remedy: str) -> None:
    """UsageError for an address, which may have a password in it. what: such as `the model`; remedy: what to do."""
    found = SCHEME.match(text)
    if found is None and (WITH_USER.search(text) is None or os.path.exists(text)):
        return
    place = f"an address ({found[1]}://…)" if found else "an address"
    raise UsageError(f"{what} is a file or folder of this machine, not {place}: {remedy}")
