"""Address: a database URL as the user writes it, and its password by reference.

    sqlite:///shop.db#customers     postgresql://ann@db.example/shop#sales.customers     duckdb:///x.duckdb#t
    mysql://ann@db.example/shop#customers     env:SHOP_URL#customers (the whole URL stands in the variable)

A password stands in the environment (`postgresql://ann:env:SHOP_PASSWORD@…`), in a file
(`…?password=file:/run/secrets/shop`), in the driver's own files (~/.pgpass, ~/.my.cnf), or, as it should not, in the
URL.
"""

from __future__ import annotations

SCHEMES = ("postgresql", "postgres", "sqlite", "duckdb", "mysql", "mariadb")


def is_address(text: str) -> bool:
    """Whether this names a database and no file."""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and (scheme.lower().split("+")[0] in SCHEMES or "+" in scheme)
