"""Address: a database URL as the user writes it, and its password by reference.

    sqlite:///shop.db#customers     postgresql://ann@db.example/shop#sales.customers     duckdb:///x.duckdb#t
    mysql://ann@db.example/shop#customers     env:SHOP_URL#customers (the whole URL stands in the variable)

A password stands in the environment (`postgresql://ann:env:SHOP_PASSWORD@…`), in a file
(`…?password=file:/run/secrets/shop`), in the driver's own files (~/.pgpass, ~/.my.cnf), or, as it should not, in the
URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, unquote

from bimodal.batch.databases.contract import Database, TableName
from bimodal.errors import UsageError
from bimodal.field import listed, nearest
from bimodal.formats.library import library

SCHEMES = ("postgresql", "postgres", "sqlite", "duckdb", "mysql", "mariadb")
ADAPTERS = {  # the adapter's module and class; every other kind is the general one's
    "postgresql": ("postgres", "PostgreSQL"),
    "sqlite": ("sqlite", "SQLite"),
    "duckdb": ("duckdb", "DuckDB"),
    "mysql": ("mysql", "MySQL"),
    "mariadb": ("mysql", "MySQL"),
}
DIALECTS = ("mssql", "oracle")  # those that SQLAlchemy brings beside SCHEMES
STORES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "file", "hdfs")  # what stands there is no database
FILES = ("sqlite", "duckdb")
MEANT = (*SCHEMES, *DIALECTS, "pg", "pgsql", "psql", "jdbc", "odbc")  # how an address that is written wrongly begins
WITH_USER = r"(?:^|[/\\:])[^/\\:@]*:[^/\\@]*@"  # user:password@
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
REFERENCES = ("env:", "file:")
SECRET = re.compile(r"pass|pwd|secret|token|credential|api.?key|private|auth|connect$", re.IGNORECASE)
HELD = re.compile(r"(pass\w*|pwd|secret|token)\s*=", re.IGNORECASE)  # an option's value that holds such an option
USER_FROM_FILE = re.compile(r"([^/@:?#]*:file:[^@?#]*)@(.*)", re.DOTALL)  # slashes before the @ belong to the path
PART = re.compile(r'"((?:[^"]|"")+)"|([^."]+)')


class Secret:
    """A value that is told to drivers alone: no text of it, no copy in a pickle, no attribute."""

    __slots__ = ("read",)

    def __init__(self, read: Callable[[], str]) -> None:
        self.read = read

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a password is not pickled")


@dataclass(frozen=True)
class Address:
    """Where a database is, and a table in it.

    kind: postgresql, sqlite, duckdb, mysql, mariadb, or a SQLAlchemy dialect. driver: what stands behind the kind's
    `+`. database: its name, or the path of its file. table: None where the URL names none (`named` insists on one).
    options: those of the URL that hold no secret, as they are for the driver. notes: sentences worth a warning.
    `password` and `settings` hold the secrets; nothing else does.
    """

    kind: str
    driver: str | None = None
    host: str | None = None
    port: int | None = None
    user: str | None = None
    database: str = ""
    table: TableName | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False, compare=False)
    text: str | None = field(default=None, repr=False, compare=False)  # as it was written, where it holds no secret

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises UsageError, without a word of the URL that could be a password."""
        for mark in REFERENCES:
            if text.startswith(mark):
                return _by_reference(text, mark)
        return _parsed(text)

    @property
    def name(self) -> str:
        """For messages, plans and records: neither user nor password nor options."""
        host = f"[{self.host}]" if self.host and ":" in self.host else quote(self.host or "", safe="/,")
        port = f":{self.port}" if self.port is not None else ""
        table = f"#{_spelled(self.table)}" if self.table is not None else ""
        return f"{self.kind}://{host}{port}/{self.database}{table}"

    @property
    def identity(self) -> str:
        """Which database it is, whoever asks: for the lock on a target, and its digest."""
        if self.kind in FILES:
            return f"{self.kind}://{Path(self.database).resolve()}"
        kind = "mysql" if self.kind == "mariadb" else self.kind
        host = self.options.get("unix_socket") or self.host or "localhost"
        return f"{kind}://{host.lower()}:{self.port or PORTS.get(self.kind, '')}/{self.database}"

    @property
    def named(self) -> TableName:
        """The table; UsageError where the URL names none."""
        if self.table is None:
            raise UsageError(f"{self.name} names no table: add #table, or --query (to read) or --into (to write)")
        return self.table

    def at(self, table: TableName | None) -> Address:
        """The same database, another table."""
        text = self.text
        if text is not None:
            text = text.partition("#")[0] + (f"#{quote(_spelled(table), safe='')}" if table is not None else "")
        return replace(self, table=table, text=text)

    def password(self) -> str | None:
        """Read where it stands, now; None where the driver is to find it."""
        secret = self.secrets.get("password")
        return secret.read() if secret is not None else None

    def settings(self) -> dict[str, str]:
        """The URL's options for the driver, those that are secret too, without the password."""
        secret = {name: each.read() for name, each in self.secrets.items() if name != "password"}
        return {**self.options, **secret}

    def open(self) -> Database:
        """The database behind it. Raises MissingLibrary with the command that installs its driver."""
        module, adapter = ADAPTERS.get(self.kind, ("general", "General"))
        if self.kind in FILES and self.driver is not None:
            module, adapter = "general", "General"
        database: Database = getattr(library(f"bimodal.batch.databases.{module}"), adapter)(self)
        return database

    def __deepcopy__(self, _: object) -> Address:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.text is None:
            raise TypeError(f"{self.name} has a password in it, which is not pickled: refer to it by env: or file:")
        return Address.parse, (self.text,)


def is_address(text: str) -> bool:
    """Whether this names a database and no file (or is meant to: a slip is told with the nearest scheme)."""
    if text.startswith("env:") or (text.startswith("file:") and not text.startswith("file://")):
        return True
    scheme, mark, _ = text.partition("://")
    kind = scheme.lower().partition("+")[0]
    if mark and kind in STORES:
        return False
    known = "+" in scheme or kind in (*SCHEMES, *DIALECTS) or kind in _installed() or nearest(kind, SCHEMES) is not None
    return (bool(mark) and known) or _is_slip(text)


def _is_slip(text: str) -> bool:
    """Whether it may be an address written wrongly, with a password that is not to be told: `postgresql:/u:p@h`,
    `pg//u:p@h`, `u:p@h/db`. A file of such a name is written with ./ before it.
    """
    if text.startswith((".", "/", "~")) or re.match(r"[A-Za-z]:[\\/]", text):
        return False
    kind = re.split(r"[^a-z]", text.lower(), maxsplit=1)[0]
    meant = kind in MEANT or nearest(kind, SCHEMES) is not None
    return re.search(r":.*@" if meant else WITH_USER, text, re.DOTALL) is not None and not os.path.exists(text)


def spoken(text: str) -> str:
    """A place as it may be told and recorded: of a database's address with a secret in it, only where that is. Raises
    UsageError for a password where none belongs.
    """
    if not is_address(text):
        if re.match(r"\w+://", text) and re.search(WITH_USER, text):
            raise UsageError("a password does not belong in the address of a file: the environment or a file holds it")
        return text
    address = Address.parse(text)
    return address.text if address.text is not None else address.name


@cache
def _installed() -> frozenset[str]:
    """The dialects that other packages add to SQLAlchemy."""
    return frozenset(each.name.partition(".")[0] for each in entry_points(group="sqlalchemy.dialects"))


def _by_reference(text: str, mark: str) -> Address:
    """`env:NAME#table`, `file:PATH#table`: the URL stands elsewhere."""
    place, _, fragment = text.partition("#")
    value, notes = _referred(mark, unquote(place.removeprefix(mark)), "the database's URL")
    if value.startswith(REFERENCES):
        raise UsageError(f"{place} holds a reference again: let it hold the URL itself")
    found = _parsed(value)
    kept = tuple(each for each in found.notes if each != PLAIN)
    table = _table(fragment) if fragment else found.table
    return replace(found, notes=notes + kept, table=table, text=text)


def _referred(mark: str, place: str, what: str) -> tuple[str, tuple[str, ...]]:
    """What stands in a variable or a file, without the line's end, and what is to be said of it."""
    if mark == "env:":
        value = os.environ.get(place, "")
        if not value:
            state = "empty" if place in os.environ else "not set"
            raise UsageError(f"the environment variable {place} is {state}; it should hold {what}")
        return value, ()
    try:
        value = Path(place).read_text().rstrip("\r\n")
        mode = Path(place).stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        value, reason = "", getattr(error, "strerror", None) or "it is no text"
    else:
        reason = "it is empty"
    if not value:
        raise UsageError(f"the file {place} cannot be read for {what}: {reason}")
    notes = (f"{place} can be read by everybody: chmod 600 {place}",) if mode & 0o004 and os.name == "posix" else ()
    return value, notes


PLAIN = (
    "the password stands in the database's URL, where others can see it: put it into a variable or a file and write "
    "user:env:NAME@host or ?password=file:/path"
)


def _parsed(text: str) -> Address:
    url, _, fragment = text.partition("#")
    scheme, mark, rest = url.partition("://")
    kind, plus, driver = scheme.lower().partition("+")
    if not mark or not re.fullmatch(r"[a-z][a-z0-9_.]*", kind):
        raise UsageError(
            "this is no database URL: write one such as postgresql://user@host/database#table (a file whose name has : "
            "and @ in it: with ./ before it)"
        )
    kind = "postgresql" if kind == "postgres" else kind
    known = kind in (*SCHEMES, *DIALECTS) or kind in _installed() or bool(plus)
    if not known:
        raise UsageError(_unknown(kind))
    rest, _, query = rest.partition("?")
    _see_through(kind, rest, query, fragment)
    notes: list[str] = []
    secrets: dict[str, Secret] = {}
    options = _options(query, secrets, notes)
    user, place, path = _split(rest)
    _credentials(user, options, secrets, notes)
    host, port = _host(place, kind)
    if host is None:
        host = options.pop("host", None)
    if port is None and options.get("port", "").isdecimal():
        port = int(options.pop("port"))
    database = unquote(path)[1:] or ("" if kind in FILES else options.pop("database", ""))
    if kind in FILES and (host or user):
        raise UsageError(f"{kind} is a file: write {kind}:///shop.db (three slashes) or {kind}:////folder/shop.db")
    if database in ("", ":memory:") and kind in SCHEMES:
        example = f"{kind}:///shop.db" if kind in FILES else f"{kind}://host/database#table"
        raise UsageError(f"the {kind} URL names no database: write {example}")
    return Address(
        kind,
        driver or None,
        host,
        port,
        options.pop("user", None),
        database,
        _table(fragment) if fragment else None,
        options,
        tuple(notes),
        secrets,
        None if PLAIN in notes else text,
    )


def _unknown(kind: str) -> str:
    near = nearest(kind, SCHEMES)
    meant = f" (did you mean {near}?)" if near is not None else ""
    known = listed(sorted({*SCHEMES, *DIALECTS, *_installed()}))
    return f"{kind} is no known kind of database{meant}: there are {known}, and kind+driver of any SQLAlchemy dialect"


def _split(rest: str) -> tuple[str | None, str, str]:
    """What stands before the @, the host, and the path with its slash."""
    from_file = USER_FROM_FILE.fullmatch(rest)
    if from_file:
        place, slash, path = from_file[2].partition("/")
        return from_file[1], place, slash + path
    authority, slash, path = rest.partition("/")
    user, at, place = authority.rpartition("@")
    return user if at else None, place, slash + path


def _see_through(kind: str, rest: str, query: str, fragment: str) -> None:
    """A password with a bare # / ? in it ends too early, and what follows would be told as a name: it is refused."""
    authority, _, path = rest.partition("/")
    server = bool(authority) and not USER_FROM_FILE.fullmatch(rest)
    if kind not in FILES and not authority and re.search(WITH_USER, path):
        raise _unclear(kind)
    if server and ("@" in path or "@" in fragment or (":" in authority and "@" not in authority and "@" in query)):
        raise _unclear(kind)


def _unclear(kind: str) -> UsageError:
    return UsageError(
        f"the {kind} URL has no host and port that can be understood: characters such as # / ? : @ in a name or "
        "password are written as %23 %2F %3F %3A %40 (several hosts: ?host=a,b&port=1,2)"
    )


def _host(place: str, kind: str) -> tuple[str | None, int | None]:
    """The host and its port. Says nothing of what stands there: it may be a password with a # or / in it."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^:\[\],]*)(?::(\d*))?", place)
    if found is None or (found[2] and int(found[2]) > 65535):
        raise _unclear(kind)
    host = unquote(found[1]).strip("[]")
    return host or None, int(found[2]) if found[2] else None


def _options(query: str, secrets: dict[str, Secret], notes: list[str]) -> dict[str, str]:
    """The open options; the secret ones go to `secrets`."""
    options: dict[str, str] = {}
    for each in query.split("&") if query else ():
        name, mark, value = each.partition("=")
        name = unquote(name)
        if not mark:
            raise UsageError("an option of the database's URL has no value: write ?name=value&name=value")
        if name in options or name in secrets:
            raise UsageError(f"the option {name} stands twice in the database's URL")
        if SECRET.search(name) or HELD.search(unquote(value)) or value.startswith(REFERENCES):
            secrets[name] = _secret(value, name, notes)
        else:
            options[name] = unquote(value)
    return options


def _credentials(user: str | None, options: dict[str, str], secrets: dict[str, Secret], notes: list[str]) -> None:
    """The user's name to the options, the password to the secrets."""
    name, mark, password = (user or "").partition(":")
    if name:
        options["user"] = unquote(name)
    elif "username" in options:
        options["user"] = options.pop("username")
    if not mark:
        return
    if "password" in secrets:
        raise UsageError("the database's URL has two passwords: one before the @ and the option password")
    if password:
        secrets["password"] = _secret(password, "password", notes)


def _secret(value: str, name: str, notes: list[str]) -> Secret:
    """A secret value or a reference to one, which is followed now (so that an error comes early) and again later."""
    for mark in REFERENCES:
        if value.startswith(mark):
            place, what = unquote(value.removeprefix(mark)), f"the database's {name}"
            notes.extend(_referred(mark, place, what)[1])
            return Secret(partial(_followed, mark, place, what))
    if PLAIN not in notes:
        notes.append(PLAIN)
    return Secret(partial(unquote, value))


def _followed(mark: str, place: str, what: str) -> str:
    return _referred(mark, place, what)[0]


def _table(fragment: str) -> TableName:
    """`table`, `schema.table`, and either part in double quotes where it has dots in it."""
    text = unquote(fragment)
    parts: list[str] = []
    place = 0
    while found := PART.match(text, place):
        parts.append(found[1].replace('""', '"') if found[1] is not None else found[2])
        place = found.end()
        if text[place : place + 1] != ".":
            break
        place += 1
    if place != len(text) or not 1 <= len(parts) <= 2 or text.endswith("."):
        raise UsageError(
            "what stands after the # of the database's URL is no table: write #table or #schema.table, and a name that "
            'has dots or quotes in it as "a.b" (a quote within it twice)'
        )
    return TableName(parts[-1], parts[0] if len(parts) == 2 else None)


def _spelled(table: TableName) -> str:
    """As a fragment, before it is percent-encoded."""
    parts = (part for part in (table.schema, table.name) if part is not None)
    return ".".join('"' + part.replace('"', '""') + '"' if re.search(r'[."]', part) else part for part in parts)
