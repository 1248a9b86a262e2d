"""Affinity: what SQLite makes of a value that is written into a column of another declared type."""

from __future__ import annotations

from bimodal.batch.databases.storage import EXACT

NUMBERS = ("INTEGER", "REAL", "BOOLEAN")


def affinity(declared: str) -> str:
    """INTEGER, TEXT, BLOB, REAL or NUMERIC, by SQLite's five rules, in their order."""
    word = declared.upper()
    if "INT" in word:
        return "INTEGER"
    if any(part in word for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in word or not word:
        return "BLOB"
    return "REAL" if any(part in word for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def loss(column: str, have: str, want: str) -> str | None:
    """A condition for the rows whose value is changed, or is of a kind that the column of the declared type `want` is
    not for; None where there can be none. have: one of our declared types, whose values are what it says.
    """
    have, want = have.upper(), want.upper()
    if have == want or (affinity(want) == "BLOB" and (not want or have == "BLOB")):
        return None
    if "BOOL" in want:
        return f"{column} NOT IN (0, 1)"
    kind = _kind(have)
    return {"INTEGER": _to_integer, "REAL": _to_real, "TEXT": _to_text, "NUMERIC": _to_numeric, "BLOB": _any}[
        affinity(want)
    ](column, have, kind)


def _kind(have: str) -> str:
    """The class of the values: INTEGER, REAL, TEXT, BLOB."""
    if have in ("INTEGER", "BOOLEAN") or have.startswith("DURATION"):
        return "INTEGER"
    return have if have in ("REAL", "BLOB") else "TEXT"


def _any(column: str, have: str, kind: str) -> str | None:
    return f"{column} IS NOT NULL"


def _to_integer(column: str, have: str, kind: str) -> str | None:
    if kind == "INTEGER":
        return None
    if kind == "REAL":
        return f"CAST({column} AS INTEGER) <> {column}"
    return f"CAST(CAST({column} AS INTEGER) AS TEXT) <> {column}" if kind == "TEXT" else _any(column, have, kind)


def _to_real(column: str, have: str, kind: str) -> str | None:
    if kind == "REAL":
        return None
    if kind == "INTEGER":
        return f"{column} NOT BETWEEN -{EXACT} AND {EXACT}"
    return _as_double(column, have) if kind == "TEXT" else _any(column, have, kind)


def _to_text(column: str, have: str, kind: str) -> str | None:
    if kind in ("INTEGER", "TEXT"):
        return None
    return f"CAST(CAST({column} AS TEXT) AS REAL) <> {column}" if kind == "REAL" else _any(column, have, kind)


def _to_numeric(column: str, have: str, kind: str) -> str | None:
    """A number stays what it is; a text that looks like one becomes it."""
    if kind != "TEXT":
        return None if kind in NUMBERS else _any(column, have, kind)
    if have.startswith("DECIMAL"):
        return _as_double(column, have)
    if have not in ("TEXT", "JSON TEXT"):
        return None  # a moment
    looks = f"{column} GLOB '[0-9.+ -]*' AND replace(substr({column}, 2), 'e-', 'e') NOT GLOB '*[^0-9.eE+ ]*'"
    return f"{looks} AND CAST(CAST({column} AS NUMERIC) AS TEXT) <> {column}"


def _as_double(column: str, have: str) -> str:
    """Whether the double, written with as many places as the decimal has, is another text."""
    scale = have.rpartition(",")[2].rstrip(")") if "," in have else ""
    text = (
        f"printf('%.{scale}f', CAST({column} AS REAL))" if scale.isdigit() else f"CAST(CAST({column} AS REAL) AS TEXT)"
    )
    return f"{text} <> {column}"
