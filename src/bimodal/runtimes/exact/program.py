"""Program: a compiled model as plain arrays. It predicts without the library that trained the model."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from bimodal.errors import ModelError
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.exact.finish import Finish
from bimodal.runtimes.exact.linear import Linear
from bimodal.runtimes.exact.prepare import Prepare
from bimodal.runtimes.exact.trees import Trees

Told = tuple[dict[str, Any], dict[str, Array]]  # plain values, and the arrays that go with them
HEADER = "header"
LAYOUT = 1  # of the file; a later one is told apart from a damaged one
CORES: dict[str, type[Linear] | type[Trees]] = {"Linear": Linear, "Trees": Trees}


class Core(Protocol):
    """The middle of a Program: from Rows to raw scores."""

    def score(self, prepare: Prepare, rows: Rows) -> Array:
        """Raw scores [rows, k], in the library's own order of summation."""

    def thresholds(self) -> Mapping[int, Array]:
        """By prepared column: the values at which the answer may change."""

    def told(self) -> Told: ...


@dataclass(frozen=True)
class Program:
    """prepare: from Rows to numbers. core: from numbers to raw scores. finish: from raw scores to the outputs.

    steady: a row's bits are the library's own, whatever its neighbours (trees, sparse one-hot columns); False where the
    library itself gives a row other bits with other neighbours (dense linear models, through BLAS).
    """

    prepare: Prepare
    core: Linear | Trees
    finish: Finish
    steady: bool = True

    def edges(self) -> dict[tuple[str, int | None], Array]:
        """By input (name, and place in a vector): values near which the answer may change, for probes."""
        return self.prepare.edges(self.core.thresholds())

    def save(self, path: Path) -> None:
        """Write it as one .npz file: arrays and a JSON header, nothing that runs code. The same Program gives the same
        bytes."""
        arrays: dict[str, Array] = {}
        header: dict[str, Any] = {"layout": LAYOUT, "core": type(self.core).__name__, "steady": self.steady}
        for part in ("prepare", "core", "finish"):
            values, its = getattr(self, part).told()
            header[f"{part}_values"] = values
            arrays |= {f"{part}.{name}": array for name, array in its.items()}
        encoded = np.frombuffer(msgspec.json.encode(header), np.uint8)
        with path.open("wb") as file:
            np.savez(file, **{HEADER: encoded}, **arrays)  # type: ignore[arg-type]  # the names are all strings

    @classmethod
    def load(cls, path: Path, data: bytes | None = None) -> Program:
        """Read what `save` wrote. data: the file's bytes, if they were read before. Raises ModelError."""
        try:
            with np.load(path if data is None else io.BytesIO(data), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = msgspec.json.decode(arrays.pop(HEADER).tobytes())
            if header.get("layout") != LAYOUT:
                raise ModelError(f"{path} was compiled by another version of Bimodal; pack or compile the model again")
            core = CORES[header["core"]]
            return cls(
                Prepare.retold(header["prepare_values"], _of("prepare", arrays)),
                core.retold(header["core_values"], _of("core", arrays)),
                Finish.retold(header["finish_values"], _of("finish", arrays)),
                bool(header["steady"]),
            )
        except (OSError, ValueError, KeyError, EOFError, msgspec.MsgspecError) as error:
            raise ModelError(f"{path} is no compiled model ({type(error).__name__})") from error


def _of(part: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(f"{part}."): array for name, array in arrays.items() if name.startswith(f"{part}.")}


class Exact(Runtime):
    """A Program as a runtime."""

    name = "exact"
    proven = True
    releases_gil = True

    def __init__(self, program: Program) -> None:
        self.program = program

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        program = self.program
        return program.finish.outputs(program.core.score(program.prepare, rows), outputs)
