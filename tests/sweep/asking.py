"""One trained estimator through every door: saved, loaded, a file predicted, rows served; beside its own answers."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

import bimodal
from bimodal.model import Model
from bimodal.signature import Signature
from tests.realtime.desk import Ask, Desk, told
from tests.sweep.difference import Answers, Array, Difference, difference
from tests.sweep.fitting import Trained

ALONE = 5  # rows that are asked one by one
TOGETHER = 16  # rows that are asked in one turn of the event loop
COMPANY = 1000  # rows in a call of the library, beside which a row alone is compared
FEW = 64  # rows that are asked alone for that
PATIENCE = 20.0  # seconds: on a busy machine too no row is refused for the wait
CELL = 110  # letters of a reason
FILES = ("parquet", "csv")
ROUNDING = {"exact": 1e-9, "onnx float64": 1e-9, "onnx float32": 1e-5}


@dataclass(frozen=True)
class Asked:
    """What was found of one estimator under one choice of the runtime.

    live, bulk: the runtimes of real time and of batch. reason: why a native one is not compiled. batch, served: the
    largest difference from the library's own answers to the same rows, asked as the door asked them; company: the
    largest difference that the library itself gives one row alone and in a thousand. steady: real time gave each row
    the same bits alone and in company. proven: whether `exact` gave the library's every bit in the proof.
    """

    name: str
    way: str
    sampled: bool
    open: bool
    live: str
    bulk: str
    reason: str
    batch: Difference
    served: Difference
    company: Difference
    steady: bool
    proven: tuple[str, ...] = ()

    @property
    def compiled(self) -> bool:
        return self.live != "native" or self.bulk != "native"

    @property
    def difference(self) -> Difference:
        return self.batch | self.served

    def faults(self) -> list[str]:
        """In which way an answer is other than the library's own; none is the aim."""
        found = [
            fault
            for name, which in ((self.live, self.served), (self.bulk, self.batch))
            if (fault := _fault(name, which, self)) is not None
        ]
        swayed = self.live == "exact" and not self.steady
        return [*found, "exact: a row's bits depend on its neighbours"] if swayed else found


def _fault(name: str, found: Difference, asked: Asked) -> str | None:
    if name == "native" or (name in asked.proven and asked.company.none):
        return None if found.none else f"{name}: {found}"
    if found.labels > asked.company.labels:
        return f"{name}: {found.labels} labels differ"
    return f"{name}: {found}" if found.share > ROUNDING[name] else None


def ask(one: Trained, folder: Path, runtime: str = "auto") -> Asked:
    """Save it, load it, ask it in batch and in real time, and compare."""
    path = one.save(folder)
    one = one.loaded(path)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # the library's own, in the answers to compare with
        with closing(bimodal.load(path, sample=one.asked if one.sampled else None, runtime=runtime)) as model:
            bulk = model.in_bulk(wait=True)
            files = [kind for kind in FILES if kind != "csv" or one.way != "images"]
            batch = [in_batch(one, bulk, folder, kind) for kind in files]
            served, steady = in_real_time(one, model)
            return Asked(
                one.name,
                one.way,
                one.sampled,
                model.signature.open,
                _form(model, model, bulk=False),
                _form(model, bulk, bulk=True),
                reason(model),
                _largest(batch),
                served,
                company(one, model.signature),
                steady,
                _proven(model),
            )


def _form(model: Model, asked: Model, *, bulk: bool) -> str:
    """The runtime of the model that was asked, with the precision of ONNX."""
    if model.compiled is None or asked.runtime.name == "native":
        return "native"
    return model.compiled.report.chosen(model.location.runtime, bulk=bulk)


def _proven(model: Model) -> tuple[str, ...]:
    candidates = model.compiled.report.candidates if model.compiled is not None else ()
    same = [each for each in candidates if each.passed and each.parity is not None and not each.parity.bits]
    return tuple(each.name for each in same if each.name == "exact")  # ONNX promises no bits


def reason(model: Model) -> str:
    """Why it is native, where it is."""
    if model.compiled is None or model.runtime.name != "native":
        return ""
    report = model.compiled.report
    told: dict[str, str] = {}
    for each in report.candidates:
        told.setdefault(_short(each.reason or "passed, and is slower"), each.name)
    return "; ".join(f"{name}: {why}" for why, name in told.items()) or _short(report.note or "faster than compiled")


def _short(why: str) -> str:
    """Enough of a reason for a cell of a table."""
    plain = " ".join(why.replace("|", "/").split()).replace("float64 (", "it (").replace("float32 (", "it (")
    return plain if len(plain) <= CELL else f"{plain[:CELL].rstrip()} …"


# -- the library's own answers -----------------------------------------------------------------------------------------


def own(model: Any, rows: Any, signature: Signature) -> Answers:
    """What the library itself answers, by the names of our outputs, [rows, …]."""
    names = [each.name for each in signature.outputs]
    if not hasattr(model, "predict"):
        return _split(_dense(model.transform(rows)), names, len(rows))
    answers = {"prediction": np.asarray(model.predict(rows))}
    if hasattr(model, "predict_proba") and any(name.startswith("probability") for name in names):
        shares = model.predict_proba(rows)
        several = {f"probability_{place}": each for place, each in enumerate(shares)}
        answers |= several if isinstance(shares, list) else {"probability": shares}
    elif "score" in names:
        score = model.decision_function if hasattr(model, "decision_function") else model.score_samples
        answers["score"] = score(rows)
    return {name: _flat(values, len(rows)) for name, values in answers.items()}


def _dense(values: Any) -> Any:
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)


def _split(values: Array, names: Sequence[str], count: int) -> Answers:
    """A transformer's columns, or its one block."""
    block = _flat(values, count)
    if names == ["transformed"]:
        return {"transformed": block}
    assert block.shape[1] == len(names), (block.shape, names)
    return {name: block[:, [place]] for place, name in enumerate(names)}


def _flat(values: Any, count: int) -> Array:
    return np.asarray(values).reshape(count, -1)


# -- the doors ---------------------------------------------------------------------------------------------------------


def in_batch(one: Trained, model: Model, folder: Path, kind: str) -> Difference:
    """A file predicted, all outputs, beside the library's answers to the same file read by pandas."""
    source, sink = folder / f"rows.{kind}", folder / f"{kind}.parquet"
    if kind == "csv":
        one.asked.to_csv(source, index=False)
        frame = pd.read_csv(source, float_precision="round_trip", na_filter=one.way != "texts")
    else:
        one.asked.to_parquet(source)
        frame = pd.read_parquet(source)
    names = [each.name for each in model.signature.outputs]
    options: dict[str, Any] = {"na": []} if one.way == "texts" else {}
    bimodal.predict_file(
        model, source, sink, outputs=names, keep="none", overwrite=True, progress="quiet", workers=1, **options
    )
    answers = own(one.model, one.rows(frame), model.signature)
    table = pq.read_table(sink)
    ours, place = {}, 0
    for name, values in answers.items():
        columns = table.columns[place : place + values.shape[1]]
        ours[name] = np.column_stack([np.array(column.to_pylist(), values.dtype) for column in columns])
        place += values.shape[1]
    assert place == table.num_columns, table.column_names
    return difference(answers, ours)


def in_real_time(one: Trained, model: Model) -> tuple[Difference, bool]:
    """Rows asked one by one and rows asked in one turn; and whether those that were asked both ways got the same."""
    names = [each.name for each in model.signature.outputs]
    some = one.asked.iloc[np.unique(np.linspace(0, len(one.asked) - 1, TOGETHER).astype(int))]
    bodies = [{**body(one, model.signature, some.iloc[[place]]), "outputs": names} for place in range(len(some))]
    desk = Desk(model, queue_target=PATIENCE)
    try:
        alone = [desk.answer(each) for each in bodies[:ALONE]]
        together = [told(response) for response in desk.together([Ask(body=each) for each in bodies])]
    finally:
        desk.close()
    assert all(list(each) == names for each in (*alone, *together)), together
    found = _largest(
        [
            difference(expected, _decoded([answer], expected))
            for answer, expected in zip(alone, _one_by_one(one, model.signature, some.iloc[:ALONE]), strict=True)
        ]
    )
    expected = own(one.model, one.rows(some), model.signature)
    ours = _decoded(together, expected)
    if model.runtime.name == "native" and not difference(expected, ours).none:
        expected = _in_parts(one, model.signature, some, ours)
    return found | difference(expected, ours), alone == together[:ALONE]


def _in_parts(one: Trained, signature: Signature, rows: pd.DataFrame, ours: Answers) -> Answers:
    """The library's answers to rows that the batcher, by its measure of time, may have asked in several calls: of all
    ways to part them, for each row that which gave ours."""
    answers = {name: values.copy() for name, values in own(one.model, one.rows(rows), signature).items()}
    for start, stop in itertools.combinations(range(len(rows) + 1), 2):
        part = own(one.model, one.rows(rows.iloc[start:stop]), signature)
        for place in range(start, stop):
            given = {name: values[[place - start]] for name, values in part.items()}
            if difference(given, {name: values[[place]] for name, values in ours.items()}).none:
                for name, values in given.items():
                    answers[name][place] = values[0]
    return answers


def _one_by_one(one: Trained, signature: Signature, rows: pd.DataFrame) -> list[Answers]:
    return [own(one.model, one.rows(rows.iloc[[place]]), signature) for place in range(len(rows))]


def body(one: Trained, signature: Signature, row: pd.DataFrame) -> dict[str, Any]:
    """A row as JSON."""
    values = {str(name): _plain(value) for name, value in row.to_dict(orient="records")[0].items()}
    if signature.named:
        return {"rows": [values]}
    only = list(values.values())
    return {"input": [only[0]] if one.way == "images" else [only]}


def _plain(value: Any) -> Any:
    """As JSON carries it."""
    if isinstance(value, list | np.ndarray):
        return [_plain(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and math.isnan(value) else value


def _decoded(answers: Sequence[dict[str, Any]], expected: Answers) -> Answers:
    """Answers of one row each, as arrays of the library's types."""
    return {
        name: np.array([_flat(np.array(each[name], values.dtype), 1)[0] for each in answers], values.dtype)
        for name, values in expected.items()
    }


def company(one: Trained, signature: Signature) -> Difference:
    """How far the library's own answer to a row depends on its neighbours: alone, and in a call of a thousand."""
    many = one.asked.iloc[np.arange(COMPANY) % len(one.asked)]
    few = np.unique(np.linspace(0, len(one.asked) - 1, FEW).astype(int))
    alone = _one_by_one(one, signature, one.asked.iloc[few])
    whole = own(one.model, one.rows(many), signature)
    return difference(
        {name: values[few] for name, values in whole.items()},
        {name: np.concatenate([each[name] for each in alone]) for name in whole},
    )


def _largest(found: Sequence[Difference]) -> Difference:
    largest = Difference()
    for each in found:
        largest |= each
    return largest
