"""Which columns of a source feed the model, which are carried to the output, and as what each is read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from bimodal.batch.sources.contract import MISSING, Reading, Source
from bimodal.errors import InputError, UsageError
from bimodal.field import INTEGERS, Field, listed, nearest
from bimodal.signature import Signature
from bimodal.table import Binding, suggested

Keep = str | Sequence[str]
SHOWN = 40  # characters of a name in a message


@dataclass(frozen=True)
class Columns:
    """The parts of a source: the features' binding, the kept columns in the source's order, and the reading.

    truth: the column with the right answers, which is read with the kept ones, and written only if it is one of them.
    """

    binding: Binding
    kept: tuple[str, ...]
    reading: Reading
    notes: tuple[str, ...] = ()
    truth: str | None = None

    @classmethod
    def find(
        cls,
        signature: Signature,
        source: Source,
        *,
        keep: Keep = "auto",
        features: Sequence[str] | None = None,
        rename: Mapping[str, str] | None = None,
        target: str | None = None,
        missing: Sequence[str] | None = None,
    ) -> Columns:
        """The arguments are those of `predict_file`."""
        meant = {each.name for each in signature.inputs} | set(features or ()) | set(rename or ()) | {target}
        hidden = source.index if source.index not in meant else None
        names = [name for name in source.columns if name != hidden]
        refuse_as_truth(signature, target, features or (), rename or {})
        try:
            binding = Binding.bind(signature, names, features=features, rename=rename, target=target)
        except InputError as error:
            free = [name for name in features or names if name != target]
            error.message = "; ".join(filter(None, (in_file(error, source, free, signature), source.hint)))
            raise
        if source.doubt and not (signature.named or features or target):
            raise InputError(source.doubt)  # by position, the first row would be lost without a word
        kept = chosen(keep, source.columns, binding.features)
        strict = isinstance(keep, str) and keep in ("auto", "all")
        carried = kept if target is None or target in kept else (*kept, target)
        fields = {name: binding.field(place) for place, name in enumerate(binding.features)}
        kinds = {name: read_as(each, source.kind) for name, each in fields.items()}
        optional = frozenset(name for name, each in fields.items() if each.optional)
        reading = Reading(kinds, carried, MISSING if missing is None else tuple(missing), strict, optional)
        notes = [binding.mapping] if binding.mapping else []
        if hidden and hidden in kept:
            notes.append(f"the nameless first column is taken for an index and carried along as {hidden!r}")
        return cls(binding, kept, reading, tuple(notes), target)


def refuse_as_truth(
    signature: Signature, target: str | None, features: Sequence[str], rename: Mapping[str, str]
) -> None:
    """The model must not be shown what it is measured by."""
    if target is None:
        return
    named = signature.named and rename.get(target, target) in {each.name for each in signature.inputs}
    if named or target in features:
        raise UsageError(
            f"--target {target}: the model predicts from this column; name the one that holds the right answers"
        )


def in_file(error: InputError, source: Source, names: Sequence[str], signature: Signature) -> str:
    """The error with the source's name; of missing columns all, with the option that mends it."""
    missing = [each.column for each in error.problems if each.code == "missing_column" and each.column is not None]
    if error.code == "wrong_width":
        return f"{source.name}: {error.message}: --features {suggested(names, signature.width)}"
    if not missing:
        return f"{source.name}: {error.message}"
    what = f"the column {missing[0]!r} is" if len(missing) == 1 else f"the columns {listed(missing)} are"
    spare = signature.spare(list(names))
    near = {other: name for name in missing if (other := nearest(name, spare))}
    if not near:
        there = "" if source.hint else f"; it has {listed(short(names))}"  # what looks like data is not repeated
        return f"{source.name}: {what} missing{there}"
    if all(other.strip() == name for other, name in near.items()):
        return f"{source.name}: {what} missing; in its header are spaces around the names: take them away there"
    remedy = " ".join(f"--rename {shlex.quote(f'{other}={name}')}" for other, name in near.items())
    return f"{source.name}: {what} missing; {listed(list(near))} {'is' if len(near) == 1 else 'are'} near: {remedy}"


def short(names: Sequence[str]) -> list[str]:
    """Names as a message shows them: of a file that is no text, they are anything."""
    plain = ["".join(each if each.isprintable() else "?" for each in name) for name in names]
    return [name if len(name) <= SHOWN else f"{name[: SHOWN - 1]}…" for name in plain]


def chosen(keep: Keep, names: Sequence[str], features: Sequence[str]) -> tuple[str, ...]:
    """The columns to carry: "auto" (those that are no features), "all", "none", or a list."""
    if keep == "auto":
        return tuple(name for name in names if name not in features)
    if keep in ("all", "none"):
        return tuple(names) if keep == "all" else ()
    wanted = (keep,) if isinstance(keep, str) else tuple(keep)
    for name in wanted:
        if name not in names:
            near = nearest(name, names)
            hint = f"did you mean {near!r}?" if near else f"the columns are {listed(short(names))}"
            raise UsageError(f"--keep: the input has no column {name!r}; {hint}")
    return tuple(dict.fromkeys(wanted))


def read_as(field: Field, kind: str) -> pa.DataType | None:
    """As what a text file's column is read for this field; None: as it is."""
    if kind not in ("csv", "jsonl") or (field.type == "any" and not field.shape):
        return None
    if field.shape:
        return pa.list_(pa.float64()) if kind == "jsonl" and len(field.shape) == 1 else None
    if field.type in INTEGERS:
        return pa.int64()
    if field.type == "bool":
        return pa.bool_()
    return pa.string() if field.type in ("string", "timestamp") else pa.float64()
