"""Format: how one kind of saved model is recognised and loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

TRUSTED = "trusted"  # of `Loaded.facts`: what the file called because it is trusted

if TYPE_CHECKING:  # a server's parent process knows where a model is, and does without all that runs one
    from bimodal.field import Field
    from bimodal.runtimes.contract import Runtime
    from bimodal.runtimes.exact.program import Program
    from bimodal.signature import Signature


@dataclass(frozen=True)
class Source:
    """Where a model is: all that another process needs to load the same one.

    path: the file (or `file.py:attribute`, `module:attribute`). code: files and folders with the user's own classes.
    sample: the columns of the user's sample as Fields, for what the model cannot say itself. features: `--features`.
    trust: names that a pickle may call beyond those that any may (`formats/guard.py`).
    tried: the model may be called with made-up rows. patience: seconds for that; 0: as the caller thinks fit. trying:
    told before the first such call. kept: of a Python file, the copy that is run in place of what is at `path` now.
    compared: its answers are compared with those that golden rows had when it was packed. home: of a copy, the folder
    of what was copied, where it stands in `code` though nobody named it: the folder of any model is within its reach.
    """

    path: str
    code: tuple[str, ...] = ()
    sample: tuple[Field, ...] | None = None
    features: tuple[str, ...] | None = None
    tried: bool = True
    patience: float = 0.0
    trying: Callable[[], None] | None = field(default=None, compare=False, repr=False)
    trust: tuple[str, ...] = ()
    kept: str | None = None
    compared: bool = False
    home: str | None = None

    def may_try(self) -> bool:
        """Whether the model may be called with made-up rows; tells that it is about to be."""
        if self.tried and self.trying is not None:
            self.trying()
        return self.tried

    @property
    def file(self) -> Path:
        return Path(self.path)

    @classmethod
    def retold(cls, values: Mapping[str, Any]) -> Source:
        """The same from plain values: a dict of its attributes, the sample's columns each as one of a Field's."""
        told = values["sample"]
        features = values["features"]
        return cls(
            values["path"],
            tuple(values["code"]),
            None if told is None else _fields(told),
            None if features is None else tuple(features),
            values.get("tried", True),
            values.get("patience", 0.0),
            trust=tuple(values.get("trust", ())),
            kept=values.get("kept"),
            compared=values.get("compared", False),
            home=values.get("home"),
        )


def _fields(told: Sequence[Mapping[str, Any]]) -> tuple[Field, ...]:
    from bimodal.signature import Signature

    return Signature.retold({"inputs": told, "outputs": (), "classes": None, "named": True, "open": False}).inputs


@dataclass(frozen=True)
class Loaded:
    """A model as its own library loaded it: in the child process, or in this one where the format is proven.

    versions: of the libraries it needs. costs: measured seconds of one call, by number of rows. warnings: to show
    the user. lower: the model as a Program of the exact engine; raises NotCompiled with the reason. to_onnx: the model
    as ONNX in "float64" or "float32"; raises NotCompiled. None where the format knows no such way.
    """

    runtime: Runtime
    signature: Signature
    versions: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)  # for `inspect`: estimator, opset, …
    lower: Callable[[], Program] | None = None
    to_onnx: Callable[[str], bytes] | None = None


class Format(ABC):
    """One kind of saved model. `matches` runs anywhere and imports no library; `load` runs in a child process.

    name: as `inspect` shows it. describes: one line for "what is supported". inline: once it loaded and answered in
    a child, it may be loaded in the process that holds the connections.
    """

    name: str
    describes: str
    inline: bool = False

    @abstractmethod
    def matches(self, path: str, head: bytes) -> bool:
        """Whether the file looks like this format. head: its first 64 bytes (empty where the path is no file)."""

    def files(self, path: Path) -> tuple[Path, ...]:
        """The files that make up the model: what its digest covers and `pack` copies. path: a file, or a folder."""
        if path.is_dir():
            return tuple(sorted(each for each in path.rglob("*") if each.is_file()))
        return (path,)

    @abstractmethod
    def load(self, source: Source) -> Loaded:
        """Load it with its own library. Raises ModelError (what it is not), MissingCode, MissingLibrary."""
