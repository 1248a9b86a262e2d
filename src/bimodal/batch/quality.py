"""Quality: how good predictions are, measured against the right answers that stand in a column of the input.

`tally.scored_of` makes a few bytes of each chunk; `measure` computes the figures from those of all chunks, in memory
that does not grow with the rows, and with the same bits however the rows were cut.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bimodal.batch.ranks import Pack, area, ascending
from bimodal.batch.sums import FINEST, mean
from bimodal.batch.tally import CURVES, OTHERS, Label, Total, classes_of, decode, scored_of, wanted
from bimodal.batch.targets import kind_of, shown
from bimodal.signature import Signature

__all__ = ["Labelled", "Measured", "Numbered", "Quality", "lines", "measure", "scored_of", "wanted"]

Chunks = Callable[[], Iterator[bytes]]
WIDEST = 50  # labels up to which the report holds the whole confusion matrix
SMALL = 8  # labels up to which a terminal shows it
LETTERS = 14  # of a label on a terminal
OTHER = "(others)"
ARE = {"boolean": "booleans", "integer": "integers", "number": "numbers", "text": "text", "mixed": "of several types"}


@dataclass(frozen=True)
class PerClass:
    """One label: rows: in which it is right, predicted: in which it was predicted. None: nothing to divide by."""

    label: Any
    rows: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Labelled:
    """A classifier's quality.

    rows: with a target and a prediction; unlabelled: the others that were predicted. log_loss, auc: None without
    probabilities, a note says why. auc: of two classes the second's, of more the mean of each class against the rest.
    labels: the model's classes in their order, then those that only the data has. confusion: [right][predicted], in the
    order of the labels.
    """

    kind: str
    rows: int
    unlabelled: int
    accuracy: float | None
    log_loss: float | None
    auc: float | None
    labels: tuple[Any, ...]
    classes: tuple[PerClass, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Numbered:
    """A regressor's quality: mean absolute error, root of the mean squared error, R², bias (mean of prediction less
    target). None where it is not defined; a note says why.
    """

    kind: str
    rows: int
    unlabelled: int
    mae: float | None
    rmse: float | None
    r2: float | None
    bias: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unmeasured:
    """A target that cannot be measured; a note says why."""

    kind: str
    rows: int
    notes: tuple[str, ...]


Measured = Labelled | Numbered | Unmeasured


@dataclass(frozen=True)
class Quality:
    """The measures for a target's column, one for each target of the model."""

    target: str
    measured: tuple[Measured, ...] = field(default_factory=tuple)

    def told(self) -> dict[str, Any]:
        """Plain values for JSON. A model of several targets has them under `targets`."""
        told = [asdict(each) for each in self.measured]
        return {"target": self.target, **(told[0] if len(told) == 1 else {"kind": "several", "targets": told})}

    def lines(self) -> list[str]:
        """The same for a terminal: a sentence, what is to be noted, a small table."""
        return lines(self.told())


def measure(chunks: Chunks, signature: Signature, target: str) -> Quality | None:
    """The figures from what `scored_of` made of every chunk; None where there was no chunk.

    chunks: gives them in order, anew each time it is called. signature: the model's. target: the column's name.
    """
    totals: list[Total] = []
    places: list[int | None] = []
    for tallies in _decoded(chunks):
        if len(totals) < len(tallies):
            totals = [Total(each.kind) for each in tallies]
            places = [None] if len(totals) == 1 else list(range(len(totals)))
        for total, tally, place in zip(totals, tallies, places, strict=True):
            total.add(tally, len(classes_of(signature, place) or ()))
    if not totals:
        return None
    measured = [_measured(total, chunks, signature, place) for total, place in zip(totals, places, strict=True)]
    return Quality(target, tuple(measured))


def _decoded(chunks: Chunks) -> Iterator[list[Any]]:
    for data in chunks():
        if data:
            yield decode(data)


def _measured(total: Total, chunks: Chunks, signature: Signature, place: int | None) -> Measured:
    if total.kind == "numbers":
        return _numbered(total)
    if total.kind != "labels":
        return Unmeasured("none", total.rows, (total.kind,))
    return _labelled(total, chunks, signature, place)


# -- labels -----------------------------------------------------------------------------------------------------------


def _labelled(total: Total, chunks: Chunks, signature: Signature, place: int | None) -> Labelled:
    classes = classes_of(signature, place)
    known = len(classes or ())
    matched = not total.labelled or any(right == given or _is_known(right, known) for right, given in total.pairs)
    notes = _told_missing(total)
    if not matched:
        notes.append(_types_differ(total, signature, place))
    labels: list[Label] = [*range(known), *_strange(total, known, matched=matched)]
    auc, told = _auc(total, chunks, place or 0, known) if matched else (None, None)
    notes += [told] if told else []
    unknown = sum(count for (right, _), count in total.pairs.items() if not _is_known(right, known)) if known else 0
    if unknown and matched:
        notes.append(f"{_rows(unknown)} with a label that the model does not know: wrong in the accuracy, not in AUC")
    right = sum(count for (one, other), count in total.pairs.items() if one == other and one != OTHERS)
    names = tuple(_name(label, classes) for label in labels)
    return Labelled(
        "labels",
        total.labelled,
        total.rows - total.labelled,
        right / total.labelled if total.labelled and matched else None,
        mean(total.loss, total.scored) if total.scored and matched else None,
        auc,
        names,
        _classes(total, labels, names) if matched else (),
        _confusion(total, labels) if matched and len(labels) <= WIDEST else None,
        tuple(notes),
    )


def _auc(total: Total, chunks: Chunks, place: int, known: int) -> tuple[float | None, str | None]:
    if not total.labelled:
        return None, None
    if not known or not total.scored:
        return None, "no AUC and no log loss: there are no probabilities of the classes"
    if not total.curves:
        return None, f"no AUC: it is computed for up to {CURVES} classes, this model has {known}"
    areas = [area(ascending(lambda at=at: _packs(chunks, place, at))) for at in range(total.curves)]  # type: ignore[misc]  # mypy infers no type for a lambda's default
    defined = [each for each in areas if each is not None]
    if not defined:
        return None, "no AUC: all the rows have one label"
    left_out = len(areas) - len(defined)
    told = f"the AUC leaves out {left_out} of {known} classes, which no row has" if left_out else None
    return math.fsum(defined) / len(defined), told


def _packs(chunks: Chunks, place: int, at: int) -> Iterator[Pack]:
    for tallies in _decoded(chunks):
        if at < len(tallies[place].packs):
            yield tallies[place].packs[at]


def _classes(total: Total, labels: Sequence[Label], names: Sequence[Any]) -> tuple[PerClass, ...]:
    rows, predicted = Counter[Label](), Counter[Label]()
    for (right, given), count in total.pairs.items():
        rows[right] += count
        predicted[given] += count
    told = []
    for label, name in zip(labels, names, strict=True):
        both = total.pairs[label, label] if label != OTHERS else 0
        many, said = rows[label], predicted[label]
        precision, recall = both / said if said else None, both / many if many else None
        told.append(PerClass(name, many, said, precision, recall, 2 * both / (many + said) if many + said else None))
    return tuple(told)


def _confusion(total: Total, labels: Sequence[Label]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(total.pairs[right, given] for given in labels) for right in labels)


def _strange(total: Total, known: int, *, matched: bool) -> list[Label]:
    """The labels that are no class, in order, numbers by their size; none of them where the types differ."""
    if not matched:
        return []
    met = {label for pair in total.pairs for label in pair if not _is_known(label, known)}
    texts = sorted((label for label in met if isinstance(label, str)), key=_by_size)
    return [*texts, *([OTHERS] if OTHERS in met else [])]


def _by_size(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return math.inf, label


def _is_known(label: Label, known: int) -> bool:
    return isinstance(label, int) and 0 <= label < known


def _name(label: Label, classes: Sequence[Any] | None) -> Any:
    if isinstance(label, str):
        return label
    return OTHER if label == OTHERS or classes is None else classes[label]


def _types_differ(total: Total, signature: Signature, place: int | None) -> str:
    """No value of the target is a label of the model: the types are told, not the values."""
    classes = classes_of(signature, place)
    kind = ARE[kind_of(classes or (), signature.output("prediction").type)]
    told = " and ".join(sorted(total.kinds))
    whose = "the model's classes are" if classes else "the model predicts"
    if told == kind:
        return f"no value of the target is a label of the model, though both are {told}: is it the right column?"
    return f"no value of the target is a label of the model: the target holds {told}, {whose} {kind}"


# -- numbers ----------------------------------------------------------------------------------------------------------


def _numbered(total: Total) -> Numbered:
    notes, count = _told_missing(total), total.labelled
    if total.unreadable:
        told = " and ".join(sorted(total.kinds))
        notes.append(f"{_rows(total.unreadable)} whose target is no finite number (the column holds {told})")
    unlabelled = total.rows - count
    if not count or total.sums is None:
        notes += ["no figures: some numbers are too large to be squared"] if count else []
        return Numbered("numbers", count, unlabelled, None, None, None, None, tuple(notes))
    error, magnitude, squared, plain, squares = total.sums
    # n·Σy² - (Σy)², in units of 2**-1074 twice: exactly n times the sum of squares around the mean
    spread = ((count * squares) << FINEST) - plain * plain
    if spread <= 0:
        notes.append("no R²: the target is the same in all rows")
    r2 = 1 - ((count * squared) << FINEST) / spread if spread > 0 else None
    mae, rmse, bias = mean(magnitude, count), math.sqrt(mean(squared, count)), mean(error, count)
    return Numbered("numbers", count, unlabelled, mae, rmse, r2, bias, tuple(notes))


def _told_missing(total: Total) -> list[str]:
    notes = []
    if not total.labelled:
        notes.append("no row has both a target and a prediction")
    if total.unscored:
        notes.append(f"{_rows(total.unscored)} for which the model gave no number; left out of what needs one")
    return notes


# -- telling ----------------------------------------------------------------------------------------------------------


def lines(told: Mapping[str, Any]) -> list[str]:
    """What `Quality.told` gives, for a terminal of 80 columns."""
    if told["kind"] != "several":
        return [_sentence(told), *told["notes"], *_table(told)]
    many = [[_sentence(each), *each["notes"], *_table(each)] for each in told["targets"]]
    return [f"{told['target']}[{place}]: {line}" for place, each in enumerate(many) for line in each]


def _sentence(told: Mapping[str, Any]) -> str:
    if told["kind"] == "none":
        return "quality was not measured"
    named: tuple[tuple[str, str, str], ...]
    if told["kind"] == "labels":
        named = (("accuracy", "accuracy", ".3f"), ("auc", "AUC", ".3f"), ("log_loss", "log loss", ".3f"))
    else:
        named = (("mae", "MAE", ".4g"), ("rmse", "RMSE", ".4g"), ("r2", "R²", ".3f"), ("bias", "bias", "+.3g"))
    figures = [f"{name} {told[key]:{form}}" for key, name, form in named if told[key] is not None]
    rest = f" ({told['unlabelled']:,} unlabelled)" if told["unlabelled"] else ""
    return f"{', '.join(figures) or 'no figures'} on {told['rows']:,} labelled rows{rest}"


def _table(told: Mapping[str, Any]) -> list[str]:
    """The confusion matrix, where it is small."""
    matrix = told.get("confusion")
    if not matrix or len(matrix) > SMALL or not told["rows"]:
        return []
    names = [_short(label) for label in told["labels"]]
    cells = [[f"{count:,}" for count in row] for row in matrix]
    widths = [max(len(each[at]) for each in (names, *cells)) for at in range(len(names))]
    first = max(len(name) for name in names)
    if first + sum(widths) + 2 * len(widths) + 8 > 80:
        return []
    head = "  ".join(name.rjust(width) for name, width in zip(names, widths, strict=True))
    shown_rows = [f"{'right':<5} {'':{first}}  {head}  <- predicted"]
    for name, row in zip(names, cells, strict=True):
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        shown_rows.append(f"      {name:<{first}}  {numbers}")
    return shown_rows


def _short(label: Any) -> str:
    text = shown(label)
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
