"""Preview: the first rows of a prediction as a table on the terminal."""

from __future__ import annotations

import sys

import pyarrow as pa
from rich.console import Console
from rich.table import Table

ROWS = 10


def show(table: pa.Table) -> None:
    """Print the rows of a small table."""
    shown = Table(header_style="bold")
    for name in table.column_names:
        shown.add_column(name, overflow="fold")
    for row in table.slice(0, ROWS).to_pylist():
        shown.add_row(*map(_cell, row.values()))
    Console(file=sys.stdout).print(shown)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
