"""Opening a database by its address: as a source, as a sink."""

from __future__ import annotations

from collections.abc import Sequence

from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import Mode, Query, TableName
from bimodal.batch.databases.sink import TableSink
from bimodal.batch.databases.source import DatabaseSource
from bimodal.errors import UsageError


def open_source(text: str, query: str | None = None) -> DatabaseSource:
    """The table that the address names, or the rows of a query there."""
    address = Address.parse(text)
    if query is not None and address.table is not None:
        raise UsageError(f"{address.name} names a table, and --query says what to read too: choose one of them")
    source = DatabaseSource(address.open(), address.named if query is None else Query(query))
    source.notes = address.notes
    return source


def open_sink(
    text: str,
    into: str | None = None,
    mode: str = "create",
    key: tuple[str, ...] = (),
    *,
    overwrite: bool = False,
    inputs: Sequence[str] = (),
) -> TableSink:
    """The table that the address names, or `into` (`table` or `schema.table`). inputs: what the run reads, so that the
    rows it refuses are told elsewhere.
    """
    address = Address.parse(text)
    if into is not None:
        if address.table is not None:
            raise UsageError(f"{address.name} names a table, and --into names another: choose one of them")
        if "://" in into:
            raise UsageError("--into names a table, as in --into scores, and no address; the database stands at -o")
        address = address.at(Address.parse(f"sqlite:///x#{into}").table)
    target: TableName = address.named
    sink = TableSink(address.open(), target, Mode(mode, key), overwrite=overwrite, inputs=inputs)
    sink.notes = address.notes
    return sink
