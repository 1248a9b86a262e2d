"""Opening an output: a file, a folder, an object store's URL, a database's address, or standard output."""

from __future__ import annotations

import os

from bimodal.batch import store
from bimodal.batch.databases.address import is_address
from bimodal.batch.options import Options
from bimodal.batch.sinks.contract import Sink
from bimodal.batch.sinks.outputs import output_of
from bimodal.errors import UsageError
from bimodal.formats.library import library


def open_output(named: str | os.PathLike[str] | None, options: Options, *, like: str) -> Sink:
    """The sink of that name, or UsageError with what is understood. like: the kind of the input, for an output whose
    name tells no format.
    """
    text = "" if named is None else os.fspath(named)
    if is_address(text):  # a database's libraries are loaded when one is named
        opening = library("bimodal.batch.databases.opening")
        sink: Sink = opening.open_sink(
            text, options.into, options.mode, options.key, overwrite=options.overwrite, inputs=options.input
        )
        return sink
    if options.into is not None:
        raise UsageError("--into names a database's table; name the database with -o, as in -o sqlite:///shop.db")
    if options.mode != "create":
        raise UsageError(f"--mode {options.mode} is for tables of a database; a file is replaced with --overwrite")
    if store.is_stored(text):
        remote: Sink = library("bimodal.batch.sinks.remote").open_remote(text, like=like, overwrite=options.overwrite)
        return remote
    return output_of(text, like=like).sink(overwrite=options.overwrite)
