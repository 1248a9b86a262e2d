"""Arrow tables as Rows: which column feeds which input, the verdict on every cell, and results as flat columns."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bimodal.errors import InputError, Problem, UsageError
from bimodal.field import EXACT, FLOATS, INTEGERS, YEARS, Field, is_null, listed, nearest, wrong_width
from bimodal.longdouble import ROUNDED, is_long, short
from bimodal.rows import Array, Column, Dictionary, Rows
from bimodal.signature import Signature

_PLAIN = (pa.float64(), pa.float32(), pa.int64(), pa.int32())
ARROW_TYPES = {
    "string": pa.string(),
    "bool": pa.string(),
    "timestamp": pa.string(),
    **dict.fromkeys(INTEGERS, pa.string()),
}
SMALL = 1 << 16  # values that are copied more quickly than their columns are looked at one by one
JSON = {b"bimodal": b"json"}  # what marks a text column that holds JSON
NO_FEATURE = re.compile(r"^(unnamed.*|index|key|name|date|time|target|label|y|class)$|(^|_)(id|uuid|key|date|name)$")
INTEGER_TEXT = re.compile(r"[+-]?\d+")
Faults = list[tuple[NDArray[np.bool_], Problem]]


@dataclass(frozen=True)
class Binding:
    """Which columns of a table feed the model, made once per source from its column names.

    features: the source's columns in the order of the model's inputs (or of the vector's places). kept: the columns
    that are no feature. mapping: one sentence to print where columns were taken by position. nameless: the source's
    columns have no names, so a Problem tells the place in the model's vector, counted from 1 as in JSON.
    """

    signature: Signature
    features: tuple[str, ...]
    kept: tuple[str, ...]
    mapping: str | None = None
    nameless: bool = False

    @classmethod
    def bind(
        cls,
        signature: Signature,
        names: Sequence[str],
        *,
        features: Sequence[str] | None = None,
        rename: Mapping[str, str] | None = None,
        target: str | None = None,
    ) -> Binding:
        """Find the features among the column names, or raise InputError naming the first that is not there.

        features: the columns, in the order in which the model was trained. rename: from a column's name to the
        feature's. target: a column that is never a feature.
        """
        _refuse_unknown(names, [*(features or ()), *(rename or ()), *([target] if target else ())])
        _refuse_strange(signature, rename or {})
        if len(set(names)) < len(names):
            twice = min(name for name, times in Counter(names).items() if times > 1)
            raise InputError(f"two columns are called {twice!r}; rename one of them", column=twice)
        free = [name for name in names if name != target]
        if features is not None:
            chosen, mapping = _positions(signature, list(features), list(features)), None
        elif signature.named:
            chosen, mapping = _by_name(signature, free, rename or {}), None
        else:
            chosen = _positions(signature, free, free)
            mapping = f"columns are taken by position: {', '.join(chosen)}" if not signature.open else None
        if features is None and any(each.optional for each in signature.inputs):
            signature = _given(signature, chosen, rename or {})
        fed = set(chosen)
        return cls(signature, tuple(chosen), tuple(name for name in names if name not in fed), mapping)

    def field(self, place: int) -> Field:
        """What the model needs in the feature column at this place."""
        vector = self.signature.vector
        if vector is not None and (len(self.features) > 1 or vector.shape[0] in (1, -1)):
            return replace(
                vector, name=f"{vector.name}[{place + 1}]" if self.nameless else self.features[place], shape=()
            )
        return self.signature.inputs[place]

    def _scalar(self, place: int) -> Field | None:
        """The same, under any name: the vector itself, where the column is one place of it; None where a column is more
        than numbers.
        """
        vector = self.signature.vector
        if vector is not None and len(self.features) > 1:
            return vector
        each = self.signature.inputs[place]
        return None if each.shape else each

    def arrow_types(self) -> dict[str, pa.DataType]:
        """As what to read each feature column of a text file: numbers typed, all else as text."""
        fields = {name: self.field(i) for i, name in enumerate(self.features)}
        return {name: ARROW_TYPES.get(each.type, pa.float64()) for name, each in fields.items() if each.type != "any"}

    def rows(
        self, table: pa.Table, first_row: int = 1, *, text: bool = False
    ) -> tuple[Rows, NDArray[np.bool_], list[Problem]]:
        """Judge a table: the Rows of its good rows, which those are (bool [n]), and the Problems with the others.

        first_row: the number of the table's first row. text: the table was read from a text file, so text in a
        number's column is read as a number before it is judged.
        """
        good = np.ones(table.num_rows, bool)
        at_once = self._at_once(table)
        if at_once is not None:
            return at_once, good, []
        faults: Faults = []
        columns: dict[str, Column] = {}
        for place, name in enumerate(self.features):
            column = table.column(name)
            quick = _plainly(self._scalar(place), column)
            columns[name] = _take(self.field(place), column, faults, text=text) if quick is None else quick
        for bad, _ in faults:
            good &= ~bad
        rows = self._inputs(columns)
        problems = sorted(_spread(faults, first_row), key=lambda problem: problem.row or 0)
        return (rows if good.all() else rows.take(good)), good, problems

    @cached_property
    def _plain(self) -> tuple[Field, float] | None:
        """What all features need, and between which bounds a value needs no further look; None where they differ, or
        where they are more than numbers.
        """
        fields = [self._scalar(place) for place in range(len(self.features))]
        kinds = {None if each is None or each.closed or each.type not in FLOATS else each.type for each in fields}
        if len(kinds) != 1 or fields[0] is None or None in kinds:
            return None
        return fields[0], min(each.ordinary for each in fields if each is not None)

    def _at_once(self, table: pa.Table) -> Rows | None:
        """A table of good plain numbers of one type, judged as one array; None where its columns need looking at."""
        vector = self.signature.vector
        size = table.num_rows * len(self.features)
        if self._plain is None or not size or (vector is None and size > SMALL):
            return None
        batches = (table if table.schema.names == list(self.features) else table.select(self.features)).to_batches()
        kinds = set(batches[0].schema.types)
        if len(batches) > 1 or len(kinds) > 1 or not kinds.issubset(_PLAIN):
            return None
        try:
            values = np.asarray(batches[0].to_tensor(row_major=False))
        except pa.ArrowTypeError:  # there are nulls
            return None
        each, most = self._plain
        if not (values.min() > -most and values.max() < most):  # NaN fails the comparisons
            return None
        values = values.astype(each.dtype, copy=False)
        if vector is not None:
            return Rows({vector.name: np.ascontiguousarray(values)}, len(values))
        return Rows({each.name: values[:, place] for place, each in enumerate(self.signature.inputs)}, len(values))

    def _inputs(self, columns: Mapping[str, Column]) -> Rows:
        vector = self.signature.vector
        if vector is not None and not (len(self.features) == 1 and self.field(0).shape):
            stacked = [column.decode() if isinstance(column, Dictionary) else column for column in columns.values()]
            return Rows({vector.name: np.column_stack(stacked).astype(vector.dtype, copy=False)})
        inputs = self.signature.inputs
        return Rows({each.name: column for each, column in zip(inputs, columns.values(), strict=True)})


def _given(signature: Signature, chosen: Sequence[str], rename: Mapping[str, str]) -> Signature:
    """Without the columns that may be left out, and are."""
    there = {rename.get(name, name) for name in chosen}
    return replace(signature, inputs=tuple(each for each in signature.inputs if each.name in there), _cache={})


def _refuse_unknown(names: Sequence[str], asked: Sequence[str]) -> None:
    for name in asked:
        if name not in names:
            near = nearest(name, names)
            hint = f"; did you mean {near!r}?" if near else f"; the columns are {listed(list(names))}"
            raise UsageError(f"the input has no column {name!r}{hint}")


def _refuse_strange(signature: Signature, rename: Mapping[str, str]) -> None:
    """A rename leads to a feature."""
    known = [each.name for each in signature.inputs]
    for column, feature in rename.items():
        if signature.named and feature not in known:
            near = nearest(feature, known)
            hint = f"did you mean {column}={near}?" if near else f"its features are {listed(known)}"
            raise UsageError(f"--rename {column}={feature}: the model has no feature {feature!r}; {hint}")


def _by_name(signature: Signature, names: Sequence[str], rename: Mapping[str, str]) -> list[str]:
    found = {rename.get(name, name): name for name in names}
    missing = [each for each in signature.inputs if each.name not in found and not each.optional]
    if missing:
        raise InputError.of([each.missing(signature.spare(list(found))) for each in missing])
    return [found[each.name] for each in signature.inputs if each.name in found]


def _positions(signature: Signature, chosen: list[str], names: Sequence[str]) -> list[str]:
    width = signature.width
    if width in (-1, len(chosen)) or (len(chosen) == 1 and signature.vector is not None):
        return chosen
    problem = wrong_width(width, len(chosen))
    error = InputError(
        f"{problem.message} ({listed(list(names))}); leave out what is no feature: the {width} features are needed, in "
        "the order of training"
    )
    error.code = problem.code
    raise error


def suggested(names: Sequence[str], width: int) -> str:
    """The columns without those that are called like keys and targets, if as many are left as are needed."""
    likely = [name for name in names if not NO_FEATURE.search(name.casefold())]
    return ",".join(likely) if len(likely) == width else "a,b,c"


def _spread(faults: Faults, first_row: int) -> list[Problem]:
    """One Problem a bad row: the first that was found."""
    told: dict[int, Problem] = {}
    for bad, problem in faults:
        for place in np.flatnonzero(bad):
            told.setdefault(int(place), problem.at(first_row + int(place)))
    return list(told.values())


# -- one column ------------------------------------------------------------------------------------------------------


def _plainly(each: Field | None, column: pa.ChunkedArray) -> Array | None:
    """A column of good plain numbers for a field of floats (or a place of a vector), which needs no look at each; None
    where one is needed. NaN fails the comparisons.
    """
    if each is None or each.type not in FLOATS or each.closed or column.type not in _PLAIN:
        return None
    if column.num_chunks != 1 or column.null_count or not len(column):
        return None
    values = column.chunk(0).to_numpy()
    plain = values.min() > -each.ordinary and values.max() < each.ordinary
    return values.astype(each.dtype, copy=False) if plain else None


def _take(each: Field, column: pa.ChunkedArray, faults: Faults, *, text: bool) -> Column:
    """The column as the model takes it; what is wrong goes to `faults`."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, column.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type) and each.type not in ("string", "any"):
        array = array.dictionary_decode()
    if text and each.type not in ("string", "any") and _is_text(array.type):
        return _by_value(each, [_parsed(each, value) for value in array.to_pylist()], faults)
    taker = _vectors if each.shape else _TAKERS.get(each.type, _integers if each.type in INTEGERS else _numbers)
    taken = taker(each, array, faults)
    if each.closed and isinstance(taken, np.ndarray) and each.type not in ("string", "any") and not each.shape:
        _fault(faults, ~np.isin(taken, list(each.known)) & ~_nulls(array), each.unknown())  # texts were judged already
    return taken


def _fault(faults: Faults, bad: Array, problem: Problem) -> None:
    if bad.any():
        faults.append((bad, problem))


def _nulls(array: pa.Array) -> NDArray[np.bool_]:
    return (
        np.asarray(array.is_null(nan_is_null=True))
        if array.null_count or pa.types.is_floating(array.type)
        else np.zeros(len(array), bool)
    )


def _numbers(each: Field, array: pa.Array, faults: Faults) -> Column:
    kind = array.type
    values: Array
    null = _nulls(array)
    if not each.nullable:
        nan = null & ~np.asarray(array.is_null())
        _fault(faults, nan, each.null("NaN"))
        _fault(faults, null & ~nan, each.null())
    if pa.types.is_decimal(kind):  # by way of text: Arrow's own conversion may miss the nearest number
        array = array.cast(pa.string()).cast(pa.float64())
    elif pa.types.is_boolean(kind) or pa.types.is_null(kind):
        array = array.cast(pa.float64())
    elif pa.types.is_integer(kind):
        values = np.asarray(array.fill_null(0)) if array.null_count else array.to_numpy(zero_copy_only=False)
        _fault(faults, (values > EXACT) | ((values < -EXACT) if values.dtype.kind == "i" else False), each.inexact())
        if each.bound < EXACT:
            _fault(faults, (values > each.bound) | (values < -each.bound), each.beyond())
            values = np.clip(values.astype(np.float64), -each.bound, each.bound)
        floats = values.astype(each.dtype)
        floats[null] = np.nan
        return floats
    elif not pa.types.is_floating(kind):
        _fault(faults, ~null, each.wrong(_kind(kind)))
        return np.full(len(array), np.nan, each.dtype)
    values = array.to_numpy(zero_copy_only=False)
    if values.dtype == np.float16:
        values = values.astype(np.float32)  # a float16 cannot be compared with what it cannot hold
    if each.finite:
        _fault(faults, np.isinf(values), each.infinite())
    if each.bound != math.inf:
        _fault(faults, (np.abs(values) > each.bound) & np.isfinite(values), each.beyond())
        values = np.where(np.abs(values) > each.bound, np.sign(values) * each.bound, values)
    return values.astype(each.dtype, copy=False)


def _integers(each: Field, array: pa.Array, faults: Faults) -> Column:
    if pa.types.is_integer(array.type) and not array.null_count:
        limits, values = np.iinfo(each.type), array.to_numpy(zero_copy_only=False)
        bad = np.zeros(len(values), bool)
        if limits.min > np.iinfo(values.dtype).min:
            bad |= values < limits.min
        if limits.max < np.iinfo(values.dtype).max:
            bad |= values > limits.max
        _fault(faults, bad, each.outside())
        return np.asarray(values, each.dtype)
    return _by_value(each, _listed(array), faults)


def _texts(each: Field, array: pa.Array, faults: Faults) -> Column:
    if each.nested:
        return _by_value(each, _listed(array), faults)
    kind = array.type
    if not (_is_text(kind) or pa.types.is_null(kind) or (pa.types.is_dictionary(kind) and _is_text(kind.value_type))):
        null = _nulls(array)
        _fault(faults, ~null, each.wrong(_kind(kind)))
        if not each.nullable:
            _fault(faults, null, each.null())
        return Dictionary(np.full(len(array), -1, np.int32), np.empty(0, object))
    column = _dictionary(array)
    if not each.nullable:
        _fault(faults, column.codes < 0, each.null())
    if each.closed:
        strange = np.array([value not in each.known for value in column.values] + [False], bool)
        _fault(faults, strange[column.codes], each.unknown())
    return column


def _dictionary(array: pa.Array) -> Dictionary:
    if pa.types.is_null(array.type):
        return Dictionary(np.full(len(array), -1, np.int32), np.empty(0, object))
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    values = np.empty(len(array.dictionary), object)
    values[:] = array.dictionary.to_pylist()
    indices = array.indices
    codes = np.asarray(indices.fill_null(-1) if indices.null_count else indices).astype(np.int32, copy=False)
    if any(value is None for value in values):
        kept = np.array([value is not None for value in values])
        place = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1).astype(np.int32)
        return Dictionary(place[codes], values[kept])
    return Dictionary(codes, values)


def _booleans(each: Field, array: pa.Array, faults: Faults) -> Column:
    if pa.types.is_boolean(array.type) and not array.null_count:
        return np.asarray(array).astype(each.dtype, copy=False)
    return _by_value(each, _listed(array), faults)


def _times(each: Field, array: pa.Array, faults: Faults) -> Column:
    kind = array.type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return _by_value(each, _listed(array), faults)
    if not each.nullable:
        _fault(faults, _nulls(array), each.null())
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        array = array.cast(pa.timestamp(kind.unit))  # in UTC
    values: Array = array.to_numpy(zero_copy_only=False)
    bad = each.untimely(values)
    _fault(faults, bad, each.timeless())
    return np.where(bad, np.datetime64("NaT"), values).astype("datetime64[us]")


def _anything(each: Field, array: pa.Array, faults: Faults) -> Column:
    kind = array.type
    if _is_text(kind) or pa.types.is_null(kind) or pa.types.is_dictionary(kind):
        if pa.types.is_dictionary(kind) and not _is_text(kind.value_type):
            array = array.dictionary_decode()
        else:
            return _texts(each, array, faults)
    if pa.types.is_integer(array.type) and not array.null_count:
        return np.asarray(array)
    if pa.types.is_integer(array.type):  # beside a null it keeps its digits too
        return _by_value(each, _listed(array), faults)
    if pa.types.is_boolean(array.type) and not array.null_count:
        return np.asarray(array)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _times(each, array, faults)
    return _numbers(replace(each, type="float64"), array, faults)


def _vectors(each: Field, array: pa.Array, faults: Faults) -> Column:
    """A list column: every row a list of the field's shape."""
    kind = array.type
    plain = len(each.shape) == 1 and (pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind))
    if plain and not array.null_count and pa.types.is_floating(kind.value_type):
        lengths = np.asarray(pc.list_value_length(array))
        flat = array.flatten()
        if len(lengths) and (lengths == lengths[0]).all() and each.shape[0] in (-1, lengths[0]) and not flat.null_count:
            values = flat.to_numpy(zero_copy_only=False).astype(each.dtype, copy=False).reshape(len(array), -1)
            if np.isfinite(values).all():
                return np.asarray(values)
    return _by_value(each, _listed(array), faults)


_TAKERS: dict[str, Callable[[Field, pa.Array, Faults], Column]] = {
    "string": _texts,
    "bool": _booleans,
    "timestamp": _times,
    "any": _anything,
}


def _by_value(each: Field, values: Sequence[Any], faults: Faults) -> Array:
    """The verdict value by value: slower, and the same as on JSON."""
    problems: dict[Problem, NDArray[np.bool_]] = {}
    judged = []
    for place, value in enumerate(values):
        good, problem = each.judge(value)
        if problem is not None:
            problems.setdefault(problem, np.zeros(len(values), bool))[place] = True
            good = each.filler
        judged.append(good)
    faults.extend((bad, problem) for problem, bad in problems.items())
    if not judged:
        return np.empty((0, *(max(n, 0) for n in each.shape)), each.dtype)
    return np.array(judged, each.dtype)


def _parsed(each: Field, text: str | None) -> object:
    """A cell of a text file as the value it spells, or the text itself."""
    if text is None:
        return None
    word = text.strip()
    if each.type == "timestamp":
        return word
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if INTEGER_TEXT.fullmatch(word):
        return int(word)
    try:
        return float(word) if "_" not in word else text
    except ValueError:
        return text


def _listed(array: pa.Array) -> list[Any]:
    """The values as Python's own; in place of a time beyond those of Python, one of NumPy's that no column takes."""
    try:
        return list(array.to_pylist())
    except OverflowError:
        return [_own(each) for each in array]


def _own(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except OverflowError:
        return _listed(scalar.values) if isinstance(scalar, pa.ListScalar) else YEARS[1] + np.timedelta64(1, "us")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _kind(kind: pa.DataType) -> str:
    """What the values of an Arrow type are, in the words of `signature.kind`."""
    if _is_text(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "a boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "a number"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "a date"
    if pa.types.is_nested(kind):
        return "an object" if pa.types.is_struct(kind) else "a list"
    return "a value of another type"


# -- results ---------------------------------------------------------------------------------------------------------


def flat(outputs: Rows, signature: Signature) -> pa.Table:
    """The model's outputs as flat columns: `prediction`, `probability_<class>`, one column for each place of a
    vector.
    """
    columns: dict[str, pa.Array] = {}
    gaps = {each.name: _typed(each) for each in signature.outputs if each.nullable and not each.shape}
    for name in outputs:
        column = outputs[name]
        array = column.decode() if isinstance(column, Dictionary) else column
        if array.ndim == 1 and array.dtype == object and gaps.get(name) is not None:
            columns[name] = pa.array(array.tolist(), gaps[name])
            continue
        if array.ndim == 1:
            columns[name] = arrow_column(array)
            continue
        wide = array.reshape(len(array), math.prod(array.shape[1:]))
        for place, label in enumerate(labels(name, wide.shape[1], signature)):
            columns[f"{name}_{label}"] = arrow_column(np.ascontiguousarray(wide[:, place]))
    return _nested(pa.table(columns), signature)


def _typed(each: Field) -> pa.DataType | None:
    """The type of an output that may be missing: in a whole column of nulls nothing else tells it."""
    if each.type in (*INTEGERS, "bool"):
        return pa.from_numpy_dtype(np.dtype(each.type))
    return pa.string() if each.type == "string" else None


def _nested(table: pa.Table, signature: Signature) -> pa.Table:
    """With the mark of text that holds JSON, which JSON Lines write as what it is."""
    names = {each.name for each in signature.outputs if each.nested}
    if not names & set(table.column_names):
        return table
    fields = [each.with_metadata(JSON) if each.name in names else each for each in table.schema]
    return table.cast(pa.schema(fields))


def flat_schema(names: Sequence[str], signature: Signature) -> pa.Schema:
    """The columns that `flat` gives, known before anything is predicted (for an output without rows)."""
    schema = flat(signature.empty_outputs(names), signature).schema
    return pa.schema([f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema])


def labels(name: str, width: int, signature: Signature) -> list[str]:
    """The names of a vector output's places: the classes for probabilities, else 0, 1, …"""
    classes = signature.classes
    if classes and name.startswith("probability"):
        own = classes[int(name.rpartition("_")[2])] if name != "probability" else classes
        if len(own) == width:
            return [str(each) for each in own]
    return [str(place) for place in range(width)]


def arrow_column(array: Array) -> pa.Array:
    """A result column as Arrow; NaN stays NaN (it is what the model said), None is null."""
    if array.dtype == object:
        return pa.array(array.tolist())
    return pa.array(array)


def from_frame(frame: Any) -> pa.Table:
    """A pandas frame as an Arrow table, without its index."""
    names = [str(name) for name in frame.columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two columns are called {twice!r}; rename one of them", column=twice)
    try:
        return pa.Table.from_pandas(_shortened(frame), preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InputError(f"the frame cannot be read: {error.args[-1]}") from error


def _shortened(frame: Any) -> Any:
    """The frame with float64 where it has longdoubles, which Arrow has not, or would round."""
    given = frame
    for place, (name, kind) in enumerate(given.dtypes.items()):
        if getattr(kind, "char", "") not in ("g", "O"):
            continue
        column = given[name].to_numpy()
        if not is_long(column) and not _holds_long(column):
            continue
        told = [short(each) for each in column]
        problems = [replace(ROUNDED, row=row, column=str(name)) for row, each in enumerate(told, 1) if is_long(each)]
        if problems:
            raise InputError.of(problems)
        frame = frame.copy(deep=False) if frame is given else frame
        frame.isetitem(place, np.array(told, float if is_long(column) else object))
    return frame


def _holds_long(values: Array) -> bool:
    """Whether there are longdoubles among objects: of a column that begins with text it is not asked."""
    first = next((each for each in values if not is_null(each)), None)
    return isinstance(first, float | int | np.number) and any(map(is_long, values))


def as_table(data: Any) -> pa.Table:
    """Any of Arrow's tabular kinds (table, record batch, reader), or what gives itself as such (polars), as a table."""
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if not type(data).__module__.startswith("pyarrow"):
        return pa.table(data)
    return data.read_all() if isinstance(data, pa.RecordBatchReader) else data


def spelled(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table with the JSON of what is no text in the columns of these names, as `Field.judge` writes it."""
    for place, name in enumerate(table.column_names):
        if name in names and not _is_text(table.schema.field(place).type):
            values = table.column(place).to_pylist()
            told = [v if v is None or isinstance(v, str) else msgspec.json.encode(v).decode() for v in values]
            table = table.set_column(place, name, pa.array(told, pa.string()))
    return table


def to_stream(table: pa.Table) -> bytes:
    """The table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_stream(data: bytes) -> pa.Table:
    """The table of an Arrow IPC stream; pa.ArrowInvalid where it is none."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
