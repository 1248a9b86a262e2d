"""Differences between two models of one name: what callers of the one would trip over at the other."""

from __future__ import annotations

from collections.abc import Sequence

from bimodal.field import Field, listed
from bimodal.signature import Signature


def differences(old: Signature, new: Signature) -> str:
    """In words; empty where callers notice nothing. Names, widths and types alone."""
    told = []
    if old.width != new.width:
        told.append(f"it takes {_width(new)} instead of {_width(old)}")
    if old.named and new.named:
        told += _fields("feature", old.inputs, new.inputs)
    elif old.named != new.named:
        told.append("its features have names now" if new.named else "its features have no names any more")
    told += _fields("output", old.outputs, new.outputs)
    if old.classes != new.classes and old.classes is not None and new.classes is not None:
        told.append("its classes are others")
    return "; ".join(told)


def _width(signature: Signature) -> str:
    return "any number of features" if signature.width < 0 else f"{signature.width} features"


def _fields(what: str, old: Sequence[Field], new: Sequence[Field]) -> list[str]:
    before, after = {each.name: each for each in old}, {each.name: each for each in new}
    come, gone = [name for name in after if name not in before], [name for name in before if name not in after]
    told = [f"new {what}s: {listed(come)}"] if come else []
    told += [f"{what}s no more: {listed(gone)}"] if gone else []
    for name in after.keys() & before.keys():
        one, other = _kind(before[name]), _kind(after[name])
        if one != other:
            told.append(f"the {what} {name!r} is {other} instead of {one}")
    return told


def _kind(field: Field) -> str:
    return field.type + (str(list(field.shape)) if field.shape else "")
