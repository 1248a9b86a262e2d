"""Places in bimodal.toml: files, addresses of databases and stores, references. Relative ones are taken from the file's
folder, and a password in one stands elsewhere.

What an address means is `batch/databases/address.py`'s to say; here only what can be told without its libraries.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

REFERENCES = ("env:", "file:")
STORES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "file", "hdfs")
FILES = re.compile(r"((?:sqlite|duckdb)(?:\+\w+)?:///)(?!/|:memory:)", re.IGNORECASE)
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
PASSWORD = re.compile(r"[^:/@?#]*:(.+)@", re.DOTALL)
SECRET = re.compile(r"pass|pwd|secret|token|credential|api.?key|private|auth|connect$", re.IGNORECASE)
HELD = re.compile(r"(pass\w*|pwd|secret|token)\s*=", re.IGNORECASE)  # an option's value that holds such an option
REMEDY = (
    "a password stands here in clear text; put it into a variable or a file and write user:env:NAME@host or "
    "?password=file:PATH, or the whole address as env:NAME"
)


def is_reference(text: str) -> bool:
    """env:NAME or file:PATH: the text itself stands elsewhere."""
    return text.startswith("env:") or (text.startswith("file:") and not text.startswith("file://"))


def scheme(text: str) -> str | None:
    """postgresql of postgresql+psycopg://…; None of what is no URL."""
    name, mark, _ = text.partition("://")
    return name.lower().partition("+")[0] if mark else None


def is_database(text: str) -> bool:
    """Whether this names a database, and no file or store."""
    name = scheme(text)
    return is_reference(text) or (name is not None and name not in STORES)


def has_secret(text: str) -> bool:
    """Whether a password stands in the URL itself."""
    if scheme(text) is None or is_reference(text):
        return False
    rest = text.partition("://")[2]
    password = PASSWORD.match(rest)
    if password is not None and not password[1].startswith(REFERENCES):
        return True
    query = rest.partition("#")[0].partition("?")[2]
    return any(_is_secret(each) for each in query.split("&"))


def _is_secret(option: str) -> bool:
    name, _, value = option.partition("=")
    if value.startswith(REFERENCES):
        return False
    return bool(SECRET.search(unquote(name)) or HELD.search(unquote(value)))


def rooted(text: str, folder: Path) -> str:
    """The place as it is called from anywhere: a relative path is taken from the folder."""
    above = quote(str(folder), safe="/")
    if is_reference(text):
        return re.sub(r"^file:(?=[^/])", lambda _: f"file:{above}/", text)
    if scheme(text) is not None:
        text = FILES.sub(lambda found: f"{found[1]}{above}/", text)
        return re.sub(r"(?<=[:=])file:(?=[^/])", lambda _: f"file:{above}/", text) if is_database(text) else text
    if text == "-" or URI.match(text):
        return text
    return os.path.join(folder, os.path.expanduser(text).removeprefix("./"))


def file_of(model: str) -> str | None:
    """The file or folder of a model's path: of file.py:Class the file, None of an address."""
    if scheme(model) is not None or URI.match(model):
        return None
    found = re.fullmatch(r"(.*\.py):\w+", model, re.DOTALL)
    return found[1] if found else model
