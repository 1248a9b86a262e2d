"""The page docs/models.md: one line an estimator, from what asking it found."""

from __future__ import annotations

import importlib.metadata
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from tests.sweep.asking import Asked
from tests.sweep.difference import Difference
from tests.sweep.fitting import BOOSTERS, SKLEARN, answers

PATH = Path(__file__).parents[2] / "docs" / "models.md"
WIDTH = 118
ROUNDING = 1e-9
MODULES = 5
MANY = 1_000_000  # units in the last place
ROWS = {
    "array": "a vector",
    "column": "a vector",
    "frame": "columns",
    "objects": "columns",
    "texts": "a text",
    "records": "columns",
    "labels": "a label",
    "sets": "labels",
    "images": "an image",
}
DISTRIBUTIONS = ("scikit-learn", "xgboost", "lightgbm", "catboost", "numpy", "onnxruntime", "skl2onnx")
HEAD = """# Models

What every estimator of scikit-learn, XGBoost, LightGBM and CatBoost gets here: each is fitted to data that suit it,
saved, loaded, asked a CSV and a Parquet file in batch and single rows in real time, and its answers are compared with
those that the library itself gives to the same rows. {labels} `python tasks.py models` asks
them all and writes this page; last on {date}, with {versions}.

**Runtimes.** `exact`: trees, linear models and the preparation before them as flat tables in float64 (XGBoost: its
own float32), in the library's own order of summation. `onnx`: converted by skl2onnx, in float64, or in float32 where
no label differs. `native`: the library itself, in a process of its own. A compiled runtime serves only with a proof,
on probes made from the model itself, and where it is faster: real time takes the fastest at one row, batch the
fastest at 4,096 rows, so the two may differ, and so may another machine. `--runtime` forces one; `bimodal inspect
MODEL` shows the proof.

**Same row, same bits.** Some libraries give a row other bits when it has other neighbours, because BLAS chooses its
order of summation by the shape of the call. "With itself" is how far the library's answer to a row alone is from the
one that it gives among a thousand. It differs for {wavering} of these {count}: {sorts}.{far} Trees, forests, boosting,
encoders and most scalers give the same bits in any company. The exact runtime gives a row the same bits in any
company, in real time and in batch, for every model that it serves; so did ONNX, here, for all but those marked *.

**Rows.** A model that was trained on an array takes a vector (columns by their place); one that was trained on a
frame takes columns by their names. `open`: it cannot say how many values a row has, so rows of any one width are
taken. `--sample`: it tells no names at all, and a sample does. The runtimes are those of the first way
that is named; in the others each was asked natively.

**The largest numbers** are asked of a model of scikit-learn when it is loaded: any float64, else 1e100, else the
largest float32, 3.4028234663852886e+38. Numbers beyond the first of these that it answers are refused as
`out_of_range`, in both modes. Its trees compute in float32, as XGBoost does; the sums of a linear model with several
outputs, or with scaling before it, would overflow.

**Times** with an offset become UTC, and the model gets them without one, from every door; where the model's sample has
a zone, in that zone. A model that was trained on local times without a zone is given those without their offset
(`frame["seen"].dt.tz_localize(None)`), in real time and in batch.

**From the library** is the largest difference of a number from the library's own answer: in units in the last place,
and as a share of the largest answer. 0 means the same bits.

{counts}

## scikit-learn

"""
BOOSTED = """
## Boosters

Pickles of their own classes, and their own files (`.ubj`, `.json`, `.txt`, `.cbm`).

"""
UNSERVED = "\n## What cannot be served\n"
REFUSED = """They label or embed the rows they were fitted on and have neither `predict` nor `transform` for new
ones; loading them says so: {names}. `LocalOutlierFactor` has `predict` only with `novelty=True`.
"""


@dataclass(frozen=True)
class Line:
    """One line of the table: its cells, by their headings."""

    estimator: str
    rows: str
    real_time: str
    batch: str
    from_the_library: str
    with_itself: str
    why_native: str

    @classmethod
    def of(cls, found: Sequence[Asked]) -> Line:
        """found: one estimator, in each way in which it was trained and saved, first the one that was compiled."""
        first, off, own = found[0], Difference(), Difference()
        for each in found:
            off, own = off | each.difference, own | each.company
        rows = [*dict.fromkeys(ROWS[each.way] for each in found)]
        marks = [
            mark for mark, so in (("open", first.open), ("`--sample`", first.sampled and first.name in SKLEARN)) if so
        ]
        return cls(
            first.name,
            ", ".join([*rows, *marks]),
            f"{first.live}*" if first.compiled and not first.steady else first.live,
            first.bulk,
            _far(off),
            _far(own),
            _why(first.reason),
        )

    @classmethod
    def read(cls, line: str) -> Line:
        """A line of the page."""
        return cls(*[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])

    def __str__(self) -> str:
        return f"| {' | '.join(astuple(self))} |"


def _why(reason: str) -> str:
    """The reason in the words of a table."""
    told = []
    for each in reason.split("; ") if reason else ():
        if "has no compiled form" in each:
            each = "no exact form"
        elif "MissingShapeCalculator" in each or "Unable to find" in each:
            each = "skl2onnx has no converter"
        told.append(each)
    return "; ".join(dict.fromkeys(told))


def _far(found: Difference) -> str:
    if found.none:
        return "0"
    labels = f"{found.labels} labels, " if found.labels else ""
    ulp = f"{found.ulp:,} ulp, " if found.ulp < MANY else ""  # around zero they say nothing
    return f"{labels}{ulp}{found.share:.0e}"


def read(path: Path = PATH) -> dict[str, Line]:
    """The table's lines, by the estimator."""
    text = path.read_text() if path.exists() else ""
    lines = [Line.read(line) for line in re.findall(r"^\| [A-Z]\w+ \|.*\|$", text, re.MULTILINE)]
    return {line.estimator: line for line in lines}


def write(lines: Mapping[str, Line], date: str, path: Path = PATH) -> None:
    """The whole page."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in DISTRIBUTIONS)
    known = [lines[name] for name in [*SKLEARN, *BOOSTERS] if name in lines]
    wavering = [each.estimator for each in known if each.with_itself != "0"]
    page = HEAD.format(
        date=date,
        versions=versions,
        wavering=len(wavering),
        count=len(known),
        sorts=_sorts(wavering),
        far=_beyond(known),
        counts=_counts(known),
        labels=_labels(known),
    )
    page = "\n\n".join(_wrapped(each) for each in page.split("\n\n"))
    page += _table(line for line in known if line.estimator in SKLEARN)
    page += BOOSTED + _table(line for line in known if line.estimator in BOOSTERS)
    refused = ", ".join(f"`{name}`" for name in SKLEARN if not answers(name))
    path.write_text(f"{page}{UNSERVED}\n{_wrapped(REFUSED.format(names=refused))}\n")


def _wrapped(paragraph: str) -> str:
    """A paragraph of plain text in lines of the page's width; what begins with a sign is left as it is."""
    if not paragraph.strip() or paragraph.lstrip()[0] in "#|":
        return paragraph
    return textwrap.fill(" ".join(paragraph.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _beyond(lines: Sequence[Line]) -> str:
    """Those whose library answers differ from themselves by more than rounding."""
    names = [line.estimator for line in lines if _share(line.with_itself) > ROUNDING]
    if not names:
        return ""
    why = "equally near neighbours, or iterations that end when the whole call is near enough"
    return f" By more than rounding in {', '.join(names)}: {why}."


def _share(cell: str) -> float:
    return float(cell.rpartition(" ")[2])


def _labels(lines: Sequence[Line]) -> str:
    others = [line.estimator for line in lines if "labels" in line.from_the_library]
    if not others:
        return "None gave a label other than its library's."
    return f"Other labels than the library's came from {', '.join(others)}."


def _sorts(names: Iterable[str]) -> str:
    """The modules of scikit-learn that most of them come from, with how many of each."""
    homes = Counter(SKLEARN[name].__module__.split(".")[1] for name in names if name in SKLEARN)
    most = homes.most_common(MODULES)
    others = homes.total() - sum(count for _, count in most)
    return ", ".join([*(f"{count} of `{home}`" for home, count in most), *([f"{others} of others"] if others else [])])


def _counts(lines: Sequence[Line]) -> str:
    kinds = [line.real_time.split()[0] for line in lines]
    told = ", ".join(f"{kinds.count(name)} {name}" for name in ("exact", "onnx", "native"))
    opened = sum("open" in line.rows for line in lines)
    same = sum(line.from_the_library == "0" for line in lines)
    return f"{len(lines)} estimators: in real time {told}; {opened} served open; {same} with the library's own bits."


def _table(lines: Iterable[Line]) -> str:
    names = [each.name.replace("_", " ") for each in fields(Line)]
    rule = "| " + " | ".join("---" for _ in names) + " |"
    return "\n".join([f"| {' | '.join(names)} |", rule, *map(str, lines)]) + "\n"
