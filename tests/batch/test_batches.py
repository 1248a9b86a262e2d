"""Frames and tables from an iterator are predicted one by one, each answered in its kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import bimodal
from bimodal import predict_batches, predict_file
from bimodal.batch.rejects import Reject
from bimodal.errors import InputError, UsageError
from tests.batch.places import FEATURES, shop


def test_frames_keep_their_index_and_their_other_columns(model: bimodal.Model, estimator: Any) -> None:
    things = pd.Series([{"any": number} for number in range(90)])
    frame = shop(90).assign(thing=things).set_index(np.arange(500, 590))
    answers = list(predict_batches(model, (frame[start : start + 40] for start in range(0, 90, 40))))
    assert [len(each) for each in answers] == [40, 40, 10]
    whole = pd.concat(answers)
    assert whole.columns.tolist() == ["id", "day", "note", "thing", "prediction"]
    assert whole.index.tolist() == frame.index.tolist()
    assert whole["thing"].tolist() == frame["thing"].tolist()
    assert whole["prediction"].tolist() == estimator.predict(frame[FEATURES]).tolist()


def test_tables_and_record_batches_answer_in_their_kind(model: bimodal.Model, estimator: Any) -> None:
    table = pa.Table.from_pandas(shop(50), preserve_index=False)
    (answer, other) = predict_batches(model, [table, table.to_batches()[0]], proba=True, keep="none")
    assert answer.column_names == ["prediction", "probability_leaves", "probability_stays"]
    assert answer.column("prediction").to_pylist() == estimator.predict(shop(50)[FEATURES]).tolist()
    assert isinstance(other, pa.RecordBatch)
    assert pa.Table.from_batches([other]).equals(answer)
    for alone in (table, table.to_batches()[0]):
        (same,) = predict_batches(model, alone, proba=True, keep="none")
        assert type(same) is type(alone)
    (frame,) = predict_batches(model, shop(50))
    assert frame["prediction"].tolist() == answer.column("prediction").to_pylist()


def test_a_value_of_another_type_refuses_its_row_alone(model: bimodal.Model, estimator: Any) -> None:
    frame = shop(30)
    frame["spent"] = frame["spent"].astype(object)
    frame.loc[4, "spent"] = "much"
    frame["plan"] = frame["plan"].astype(object)
    frame.loc[7, "plan"] = 5
    told: list[Reject] = []
    (answer,) = predict_batches(model, frame, on_reject=told.append)
    assert [(each.row, each.column) for each in told] == [(5, "spent"), (8, "plan")]
    good = shop(30).drop(index=[4, 7])
    assert answer.index.tolist() == good.index.tolist()
    assert answer["prediction"].tolist() == estimator.predict(good[FEATURES]).tolist()


@pytest.mark.parametrize("source", [5, None, {"a": 1}, b"in.csv"])
def test_what_is_no_source_is_told(source: Any, model: bimodal.Model) -> None:
    with pytest.raises(UsageError, match=f"not {type(source).__name__}"):
        next(predict_batches(model, source))
    with pytest.raises(UsageError, match="an input is the path of a file, or a list of paths"):
        predict_file(model, source, "out.csv", progress="quiet")


def test_nothing_is_predicted_ahead(model: bimodal.Model) -> None:
    taken = []

    def batches() -> Iterator[pd.DataFrame]:
        for number in range(3):
            taken.append(number)
            yield shop(5)

    answers = predict_batches(model, batches())
    next(answers)
    assert taken == [0]


def test_refused_rows_are_told_or_end_it(model: bimodal.Model) -> None:
    good, bad = shop(10), shop(10)
    bad.loc[3, "plan"] = "gold"
    with pytest.raises(InputError, match="row 14, column 'plan'"):
        list(predict_batches(model, [good, bad]))
    told: list[Reject] = []
    answers = list(predict_batches(model, [good, bad], on_reject=told.append))
    assert [(each.row, each.column, each.code) for each in told] == [(14, "plan", "unknown_category")]
    assert [len(each) for each in answers] == [10, 9]
    assert 3 not in answers[1].index


def test_another_kind_of_batch_is_refused(model: bimodal.Model) -> None:
    with pytest.raises(UsageError, match="not a list"):
        list(predict_batches(model, [[1, 2]]))
