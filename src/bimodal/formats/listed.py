"""Listed: a format known by its name; its module is imported once the format itself is asked for something."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from bimodal.formats.contract import Format, Loaded, Source


class Listed(Format):
    """Stands for the class `kind` of the module `bimodal.formats.NAME`, made of the arguments.

    A server of a compiled package needs a format's name alone, and starts without the readers of all formats.
    """

    def __init__(self, name: str, kind: str, *arguments: Any, inline: bool = False) -> None:
        self.name, self.inline = name, inline
        self._kind, self._arguments = kind, arguments

    @cached_property
    def format(self) -> Format:
        module = import_module(f"bimodal.formats.{self.name}")
        return cast(Format, getattr(module, self._kind)(*self._arguments))

    @property
    def describes(self) -> str:  # type: ignore[override] # read only here
        return self.format.describes

    def matches(self, path: str, head: bytes) -> bool:
        return self.format.matches(path, head)

    def files(self, path: Path) -> tuple[Path, ...]:
        return self.format.files(path)

    def load(self, source: Source) -> Loaded:
        return self.format.load(source)
