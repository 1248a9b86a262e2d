"""`bimodal up`: server, scheduler and worker of one bimodal.toml."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Annotated, Any

import typer

from bimodal import settings
from bimodal.cli.options import option
from bimodal.config import find, read
from bimodal.errors import UsageError
from bimodal.jobs.up import PARTS, Choice, Up
from bimodal.realtime import lines

SETTINGS = settings.table(settings.SERVE)


def up(
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="The configuration [BIMODAL_CONFIG, ./bimodal.toml].")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="PART", help="One part alone: server, scheduler or worker.")
    ] = None,
    host: Annotated[str | None, option(SETTINGS["host"])] = None,
    port: Annotated[int | None, option(SETTINGS["port"])] = None,
    grpc_port: Annotated[int | None, option(SETTINGS["grpc_port"])] = None,
    workers: Annotated[int | None, option(SETTINGS["workers"])] = None,
    keys: Annotated[str | None, option(SETTINGS["keys"])] = None,
    hosts: Annotated[Any, option(SETTINGS["hosts"])] = None,
    at_once: Annotated[int, typer.Option("--at-once", help="Runs of jobs side by side.")] = 1,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without keys or client certificates.")
    ] = False,
) -> None:
    """Serve the models of bimodal.toml and run its jobs when they are due, until Ctrl-C.

    \b
    Examples:
        bimodal up
        bimodal up --only worker                 on a machine of its own, with a state that all share
    """
    if only is not None and only not in PARTS:
        raise UsageError(f"--only {only}: it is one of {', '.join(PARTS)}")
    lines.begin("up")
    logging.getLogger("bimodal.jobs").setLevel(logging.INFO)  # runs that have succeeded, models that were replaced
    told = {"host": host, "port": port, "grpc_port": grpc_port, "workers": workers, "keys": keys, "hosts": hosts}
    given = {name: value for name, value in told.items() if value is not None}
    running = Up(read(find(config)), Choice(only, insecure, at_once, given))
    with suppress(KeyboardInterrupt):  # a signal that comes before it waits for one ends it alike
        running.start()
        for line in running.told():
            print(line, flush=True)
        running.wait()
    running.close()
