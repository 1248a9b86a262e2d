"""A worker with a short lease, until its run is over: python -m tests.jobs.owner FOLDER TTL [RUN]"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bimodal.config import read
from bimodal.jobs.opening import open_store
from bimodal.jobs.work import Worker


def main(folder: str, ttl: str, run: str) -> None:
    config = read(Path(folder, "bimodal.toml"))
    store = open_store(config.state, config.folder)
    worker = Worker(config, store, ttl=float(ttl), run=run, told=lambda event, values: print(event, flush=True))
    while worker.busy or not store.find(run).over:
        worker.wait(min(0.1, worker.step(time.time())))
    print("over", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
