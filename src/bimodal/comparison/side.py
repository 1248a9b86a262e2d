"""Side: one of the two models, and what it says of a chunk, flat and with the number of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bimodal.batch.columns import Columns
from bimodal.batch.quality import wanted
from bimodal.batch.rejects import Reject
from bimodal.batch.scoring import Scorer
from bimodal.batch.sources.contract import Chunk, Source
from bimodal.errors import UsageError
from bimodal.field import FLOATS, listed
from bimodal.model import Model
from bimodal.rows import Rows
from bimodal.signature import Signature
from bimodal.table import flat_schema, labels


@dataclass(frozen=True)
class Said:
    """One model's answers to a chunk. rows: the numbers of the rows predicted, ascending; kept, results: their columns
    in the same order. rejects: the others.
    """

    rows: NDArray[np.int64]
    kept: pa.Table
    results: pa.Table
    rejects: tuple[Reject, ...]

    def at(self, places: NDArray[np.intp]) -> Said:
        """Some of the rows."""
        if len(places) == len(self.rows):
            return self
        index = pa.array(places)
        kept = self.kept.take(index) if self.kept.num_columns else self.kept
        return Said(self.rows[places], kept, self.results.take(index), self.rejects)


class Side:
    """A model, the columns of the source that feed it, and the outputs that are compared."""

    def __init__(
        self,
        model: Model,
        source: Source,
        kept: Sequence[str],
        *,
        outputs: Sequence[str] | None,
        threshold: float | None,
        features: Sequence[str] | None,
        rename: Mapping[str, str],
        target: str | None,
        missing: Sequence[str] | None,
    ) -> None:
        self.model = model.in_bulk(wait=False)
        self.signature: Signature = model.signature
        model.check_threshold(threshold)
        columns = Columns.find(
            model.signature,
            source,
            keep=tuple(kept),
            features=features,
            rename=_known(rename, model.signature),
            target=target,
            missing=missing,
        )
        self.columns = replace(columns, truth=None)  # measured here, on the rows that both models predict
        self.compared = model.resolve_outputs(outputs) if outputs is not None else _scores(model.signature)
        base = model.resolve_outputs(None)
        asked = tuple(dict.fromkeys([*base, *self.compared]))
        self.outputs = wanted(model.signature, asked) if target is not None else asked
        self.scorer = Scorer(self.columns, self.outputs, threshold)
        self.schema: pa.Schema = flat_schema(self.outputs, model.signature)

    @property
    def kind(self) -> str:
        """Whether the model predicts labels or numbers."""
        if not any(each.name == "prediction" for each in self.signature.outputs):
            return "numbers"
        type_ = self.signature.output("prediction").type
        return "numbers" if self.signature.classes is None and type_ in FLOATS else "labels"

    def places(self, output: str) -> tuple[str, ...]:
        """The flat columns of an output."""
        return tuple(flat_schema([output], self.signature).names)

    def say(self, chunk: Chunk) -> Said:
        """Judge and predict. May be called in any thread."""
        scored = self.scorer.score(chunk, self.model)
        places = np.arange(chunk.features.num_rows) if chunk.places is None else chunk.places
        rows = chunk.first_row + places.astype(np.int64)
        rows = rows[~np.isin(rows, np.array([each.row for each in scored.rejects], np.int64))]
        many = len(self.columns.kept)
        table = scored.table
        kept = pa.table(table.columns[:many], names=list(self.columns.kept)) if many else pa.table({})
        results = pa.table(table.columns[many:], names=table.column_names[many:])
        return Said(rows, kept, results, scored.rejects)

    def answer(self, results: pa.Table) -> Rows:
        """Flat columns as the outputs that they were: what the measures of quality take."""
        columns: dict[str, Any] = {}
        for name in self.outputs:
            if name in results.column_names:
                columns[name] = _array(results.column(name))
                continue
            width = self.signature.output(name).shape
            names = [f"{name}_{each}" for each in labels(name, int(np.prod(width)), self.signature)]
            if all(each in results.column_names for each in names):
                columns[name] = np.column_stack([_array(results.column(each)) for each in names])
        return Rows(columns, results.num_rows)


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    kind = column.type
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not column.null_count):
        return column.to_numpy()  # type: ignore[no-any-return]  # Arrow has no types
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    return values


def _scores(signature: Signature) -> tuple[str, ...]:
    """The outputs whose numbers are compared beside the prediction: probabilities, else scores; without one, all."""
    names = [each.name for each in signature.outputs]
    if "prediction" not in names:
        return tuple(names)
    found = tuple(name for name in names if name.startswith("probability"))
    return found or tuple(name for name in names if name == "score")


def _known(rename: Mapping[str, str], signature: Signature) -> dict[str, str]:
    """The renames to features of this model; the other model may have those that are left."""
    if not signature.named:
        return dict(rename)
    known = {each.name for each in signature.inputs}
    return {column: feature for column, feature in rename.items() if feature in known}


def check_renames(rename: Mapping[str, str], sides: Sequence[Signature]) -> None:
    """Raise UsageError for a rename to what is a feature of neither model."""
    if not all(each.named for each in sides):
        return
    known = list(dict.fromkeys(field.name for each in sides for field in each.inputs))
    for column, feature in rename.items():
        if feature not in known:
            raise UsageError(
                f"--rename {column}={feature}: no model has a feature {feature!r}; they are {listed(known)}"
            )
