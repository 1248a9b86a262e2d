"""`bimodal keys`: the API keys of a server."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bimodal import keys as library
from bimodal.cli.options import Json, option, split
from bimodal.keys import NAME, Key
from bimodal.settings import SERVE, seconds, table

keys = typer.Typer(
    help="API keys: who may call a server, and what for. They are kept as digests, in a file that a running server "
    "reads again when it changes.",
    no_args_is_help=True,
)

File = Annotated[Any, option(table(SERVE)["keys"])]
Named = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, such as shop.")]


def expiry(flag: str, text: str) -> Any:
    return typer.Option(flag, parser=seconds, metavar="TIME", help=text)


Expires = Annotated[Any, expiry("--expires", "When it ends, such as 90d; else never.")]


@keys.command("add")
def add(
    name: Named,
    scope: Annotated[
        str, typer.Option("--scope", metavar="A,B", help="What it may do: infer, metrics, admin.")
    ] = "infer",
    expires: Expires = None,
    keys: File = None,
) -> None:
    """Make a key and print it. It cannot be shown again: the file keeps its digest alone.

    \b
    Examples:
        bimodal keys add shop
        bimodal keys add grafana --scope metrics
        bimodal keys add deploy --scope infer,admin --expires 90d
    """
    path = place(keys)
    shown(library.add(path, name, split(scope) or (), expires=expires), path)


@keys.command("list")
def list_keys(keys: File = None, as_json: Json = False) -> None:
    """List the keys: names, scopes and times."""
    path = place(keys)
    known = library.load(path)
    if as_json:
        for each in known:
            print(msgspec.json.encode(told(each)).decode())
        return
    if not known:
        print(f"no key in {path}; bimodal keys add NAME makes one")
        return
    print(f"keys of {path}", file=sys.stderr)
    listed = Table(header_style="bold", box=None, pad_edge=False)
    for column in ("name", "scopes", "created (UTC)", "expires (UTC)", "state"):
        listed.add_column(column, no_wrap=True)
    for each in known:
        values = told(each)
        listed.add_row(
            each.name, ",".join(each.scopes), minute(each.created), minute(each.expires), str(values["state"])
        )
    console = Console(file=sys.stdout)
    console.width = max(console.width, 120)
    console.print(listed)


@keys.command("rotate")
def rotate(
    name: Named,
    overlap: Annotated[
        Any, expiry("--overlap", "How long the old key stays live, such as 24h; else until it is revoked.")
    ] = None,
    expires: Expires = None,
    keys: File = None,
) -> None:
    """Make a second key of a name and print it. The old one stays live until it is revoked, or for --overlap.

    \b
    Examples:
        bimodal keys rotate shop --overlap 24h
        bimodal keys rotate shop; …; bimodal keys revoke shop --old
    """
    path = place(keys)
    shown(library.rotate(path, name, overlap=overlap, expires=expires), path)


@keys.command("revoke")
def revoke(
    name: Named,
    old: Annotated[bool, typer.Option("--old", help="The old key alone, after a rotation.")] = False,
    keys: File = None,
) -> None:
    """End the keys of a name; a running server refuses them within a second or two."""
    path = place(keys)
    count = library.revoke(path, name, old=old)
    print(f"revoked {count} key{'s' * (count > 1)} of {name} in {path}")


def place(given: str | None) -> Path:
    """The file of keys: that which `bimodal serve bimodal.toml` or `bimodal up` would ask here."""
    return library.place(given)


def shown(key: str, path: Path) -> None:
    """The key alone on standard output, for programs; the rest beside it."""
    print(key, flush=True)
    print(f"kept as a digest in {path}; copy the key now, it is not shown again", file=sys.stderr)
    if path.absolute() == library.place().absolute():
        hint = (
            "bimodal serve asks for one from now on, where this file is beside its bimodal.toml or where it is started"
            if path.name == NAME
            else "bimodal up, and bimodal serve bimodal.toml, ask for one from now on"
        )
    else:
        hint = f"bimodal serve … --keys {path} asks for it"
    print(hint, file=sys.stderr)


def told(key: Key) -> dict[str, Any]:
    """All of it but the digest."""
    state = "expired" if not key.live(datetime.now(UTC)) else "old, live" if key.old else "live"
    return {
        "name": key.name,
        "scopes": key.scopes,
        "created": key.created,
        "expires": key.expires,
        "old": key.old,
        "state": state,
    }


def minute(time: datetime | None) -> str:
    return "never" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"
