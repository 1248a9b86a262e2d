"""Asks every estimator, or those that are named, and writes docs/models.md: python -m tests.sweep.table [NAME…]"""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.sweep import page
from tests.sweep.asking import Asked, ask
from tests.sweep.fitting import CLASSES, answers, trained


def asked(name: str, folder: Path) -> list[Asked]:
    """One estimator, in each way in which it is trained and saved; it is compiled in the first of them."""
    first, *others = trained(name)
    return [ask(first, folder), *(ask(one, folder, "native") for one in others)]


def main(names: list[str]) -> int:
    """Write the lines of the named estimators (all, without names); 1 where an answer is another than the library's."""
    lines = page.read() if names else {}
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BIMODAL_CACHE"] = str(Path(folder, "cache"))  # what is told is measured now
        for name in names or [each for each in CLASSES if answers(each)]:
            start = time.monotonic()
            found = asked(name, Path(folder))
            lines[name] = page.Line.of(found)
            wrong = [fault for each in found for fault in each.faults()]
            faults += len(wrong)
            print(lines[name], f"{time.monotonic() - start:.0f} s", *wrong, flush=True)
    page.write(lines, datetime.datetime.now(datetime.UTC).date().isoformat())
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
