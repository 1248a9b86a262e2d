"""A bad row is refused with its place, its column and the reason; the others go on, and the books balance."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest

import bimodal
from bimodal import predict_file
from bimodal.batch.rejects import Allowed
from bimodal.errors import InputError, ModelFailed, SourceError, TooManyRejects, UsageError
from tests.batch.places import FEATURES, command, left_over, lines, read, shop, write

GOOD = ["0001,30,50.5,pro,x", "0002,40,9.5,free,y"]
HEADER = "id,age,spent,plan,note"


def file(folder: Path, *rows: str | bytes, ending: str = "\n") -> Path:
    """A CSV file of a good row, the rows, and another good row."""
    whole = [HEADER, GOOD[0], *rows, GOOD[1]]
    data = b"".join((row if isinstance(row, bytes) else row.encode()) + b"\n" for row in whole)
    path = folder / "in.csv"
    path.write_bytes(data.removesuffix(b"\n") + ending.encode())
    return path


@pytest.mark.parametrize(
    ("row", "code", "column", "reason"),
    [
        ("0009,30,50.5,pro", "short_row", None, "4 fields where 5 are needed"),
        ("0009,30,50.5,pro,x,y,z", "long_row", None, "7 fields where 5 are needed"),
        ("0009,30,much,pro,x", "wrong_type", "spent", "text where a number is needed"),
        ("0009,30,5 0,pro,x", "wrong_type", "spent", "text where a number is needed"),
        ("0009,30,1_0,pro,x", "wrong_type", "spent", "text where a number is needed"),
        ('0009,30,"5,0",pro,x', "wrong_type", "spent", "text where a number is needed"),
        ("0009,30,9007199254740993,pro,x", "inexact_integer", "spent", "beyond 2**53"),
        ("0009,30,-9007199254740993,pro,x", "inexact_integer", "spent", "beyond 2**53"),
        ("0009,30,inf,pro,x", "not_finite", "spent", "infinity"),
        ("0009,30,50.5,gold,x", "unknown_category", "plan", "does not know"),
        ("0009,30,50.5,,x", "null", "plan", "null"),
        ('0009,30,50.5,"pro"fessional,x', "bad_quotes", None, "after its closing quote"),
        ('0009,30,50.5,pro,"x', "unclosed_quote", None, "ends inside a quoted field"),
        (b"0009,30,50.5,pro,\xff\xfe", "bad_encoding", "note", "no UTF-8"),
        (b"0009,30,50.5,pr\xff,x", "bad_encoding", "plan", "no UTF-8"),
    ],
)
def test_a_bad_row_of_a_csv_file_is_refused_alone(
    row: str | bytes, code: str, column: str | None, reason: str, model: bimodal.Model, tmp_path: Path
) -> None:
    # good letters beyond ASCII, so that the file is taken for UTF-8
    path = file(tmp_path, "0003,50,60.5,team,Größe Übung", row)
    report = predict_file(model, path, tmp_path / "out.csv", max_rejects=1)
    open_end = code == "unclosed_quote"
    assert (report.read, report.predicted, report.rejected) == (3 if open_end else 4, 2 if open_end else 3, 1)
    answer = read(tmp_path / "out.csv")
    assert answer["id"].tolist() == ["0001", "0003"] if open_end else ["0001", "0003", "0002"]
    (reject,) = lines(tmp_path / "out.csv.rejects.jsonl")
    assert (reject["row"], reject["source"], reject["column"], reject["code"]) == (3, "in.csv", column, code)
    assert reason in reject["reason"]
    text = row.decode("utf-8", "replace") if isinstance(row, bytes) else row
    assert reject["raw"] == (text + "\n" + GOOD[1] if open_end else text)


def test_numbers_that_are_unusual_but_right_are_taken(model: bimodal.Model, estimator: Any, tmp_path: Path) -> None:
    path = file(
        tmp_path, "0003, 50 ,+6.5e1,team,x", "0004,NA,1e300,pro,x", "0005,9007199254740992,.5,pro,x", "0006,-0,5.,pro,x"
    )
    predict_file(model, path, tmp_path / "out.csv")
    right = pd.DataFrame(
        {
            "age": [30, 50, np.nan, 9007199254740992, -0.0, 40],
            "spent": [50.5, 65, 1e300, 0.5, 5, 9.5],
            "plan": ["pro", "team", "pro", "pro", "pro", "free"],
        }
    )
    assert read(tmp_path / "out.csv")["prediction"].tolist() == estimator.predict(right).tolist()


def test_a_file_that_ends_in_the_middle_of_a_row_loses_that_row_only(model: bimodal.Model, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("\n".join([HEADER, *GOOD, "0003,50,6"]))
    report = predict_file(model, path, tmp_path / "out.csv", max_rejects=1)
    assert report.predicted == 2
    (reject,) = lines(tmp_path / "out.csv.rejects.jsonl")
    assert (reject["row"], reject["code"]) == (3, "short_row")
    assert "the input ends in this row" in reject["reason"]


def test_bad_rows_far_apart_keep_their_numbers(model: bimodal.Model, estimator: Any, tmp_path: Path) -> None:
    frame = pd.concat([shop(1000)] * 150, ignore_index=True).assign(id=[f"{n:06}" for n in range(150_000)])
    rows = frame.to_csv(index=False).splitlines()
    bad = [1, 2, 65_536, 65_537, 131_073, 150_000]
    for number in bad[:3]:
        rows[number] = rows[number] + ",more"
    for number in bad[3:]:
        rows[number] = rows[number].replace(",", ",none,", 1).replace(",,", ",", 1)
        cells = rows[number].split(",")
        rows[number] = ",".join([cells[0], "old", *cells[-4:]])
    rows.insert(500, "")  # a blank line is no row
    (tmp_path / "in.csv").write_text("\n".join(rows) + "\n")
    report = predict_file(model, tmp_path / "in.csv", tmp_path / "out.csv", max_rejects="1%")
    assert (report.read, report.rejected) == (150_000, len(bad))
    assert [reject["row"] for reject in lines(tmp_path / "out.csv.rejects.jsonl")] == bad
    good = frame.drop(index=[number - 1 for number in bad])
    answer = read(tmp_path / "out.csv")
    assert answer["id"].tolist() == good["id"].tolist()
    assert answer["prediction"].tolist() == estimator.predict(good[FEATURES]).tolist()


def test_the_same_bad_row_gets_the_same_verdict_in_every_format(model: bimodal.Model, tmp_path: Path) -> None:
    frame = shop(20)
    frame.loc[4, "plan"] = "gold"
    frame.loc[7, "plan"] = None
    frame.loc[9, "spent"] = np.inf
    told = {}
    for kind in ("csv", "parquet", "arrow", "jsonl"):
        source = write(frame, tmp_path / f"in.{kind}")
        if kind == "jsonl":
            source.write_text(source.read_text().replace('"id":"0009","age":', '"id":"0009","spent":1e999,"age":'))
            source.write_text("\n".join(_without_second(line) for line in source.read_text().splitlines()))
        predict_file(model, source, tmp_path / f"out.{kind}", max_rejects=3)
        rejects = lines(tmp_path / f"out.{kind}.rejects.jsonl")
        told[kind] = [(each["row"], each["column"], each["code"], each["reason"]) for each in rejects]
    assert [row for row, *_ in told["csv"]] == [5, 8, 10]
    assert told["csv"] == told["parquet"] == told["arrow"] == told["jsonl"]


def _without_second(line: str) -> str:
    return line.replace('"spent":null,', "", 1) if "1e999" in line else line


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        ('{"age": 1, "spent": 2, "plan": "pro"', "malformed", "broken JSON"),
        ("[1, 2]", "malformed", "must be an object"),
        ('{"age": 1, "spent": "2", "plan": "pro", "id": "1"}', "wrong_type", "text where a number is needed"),
        ('{"age": 1, "spent": 9007199254740993, "plan": "pro", "id": "1"}', "inexact_integer", "2**53"),
        ('{"age": 1, "age": 2, "spent": 2, "plan": "pro"}', "malformed", "stands twice"),
        ('{"age": 1, "spent": NaN, "plan": "pro", "id": "1"}', "malformed", "NaN is no JSON"),
        ('{"age": 1, "spent": 2, "plan": 3, "id": "1"}', "wrong_type", "a number where text is needed"),
        ('{"age": 1, "spent": 2, "plan": "pro", "id": 4}', None, ""),
        ('{"age": 1, "spent": 2, "plan": "pro", "visits": "many"}', None, ""),
        ('{"age": 1, "spent": 2, "plan": "pro", "late": 1}', None, ""),
        ("[" * 5000, "malformed", ""),
    ],
)
def test_a_bad_line_of_json_is_refused_alone(
    line: str, code: str | None, reason: str, model: bimodal.Model, tmp_path: Path
) -> None:
    good = '{"age": 30, "spent": 50.5, "plan": "pro", "id": "1", "visits": 1}'
    (tmp_path / "in.jsonl").write_text(f"{good}\n{line}\n\n{good}\n")
    report = predict_file(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", max_rejects=1)
    if code is None:
        assert report.predicted == 3
        return
    assert (report.read, report.predicted, report.rejected) == (3, 2, 1)
    (reject,) = lines(tmp_path / "out.jsonl.rejects.jsonl")
    assert (reject["row"], reject["code"], reject["raw"]) == (2, code, line)
    assert reason in reject["reason"]


def test_a_carried_value_of_another_kind_than_was_seen_is_refused_not_changed(
    model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bimodal.batch.sources.jsonl.SPOTS", 0)
    good = '{"age": 30, "spent": 50.5, "plan": "pro", "visits": 1}\n'
    late = [good.replace("1}", each) for each in ('"many"}', "1.5}", "true}", "null}")]
    (tmp_path / "in.jsonl").write_text(good * 30_000 + "".join(late))
    predict_file(model, tmp_path / "in.jsonl", tmp_path / "out.parquet", max_rejects=3)
    rejects = lines(tmp_path / "out.parquet.rejects.jsonl")
    assert [(each["row"], each["column"]) for each in rejects] == [(n, "visits") for n in (30_001, 30_002, 30_003)]
    assert "write JSON Lines or CSV, or name what to carry with --keep" in rejects[0]["reason"]
    assert read(tmp_path / "out.parquet")["visits"].isna().tolist()[-2:] == [False, True]


def test_a_column_that_appears_late_is_refused_not_dropped(
    model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bimodal.batch.sources.jsonl.SPOTS", 0)
    good = '{"age": 30, "spent": 50.5, "plan": "pro", "id": "1"}\n'
    late = good.replace("}", ', "late": 1}')
    (tmp_path / "in.jsonl").write_text(good * 30_000 + late)
    predict_file(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", max_rejects=1)
    (reject,) = lines(tmp_path / "out.jsonl.rejects.jsonl")
    assert "'late' is not in the first lines" in reject["reason"]
    report = predict_file(model, tmp_path / "in.jsonl", tmp_path / "chosen.jsonl", keep=["id"])
    assert report.rejected == 0


# -- columns ----------------------------------------------------------------------------------------------------------


def test_a_missing_column_is_refused_before_anything_is_predicted(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(5).rename(columns={"spent": "Spend"}), tmp_path / "in.csv")
    with pytest.raises(InputError, match="'Spend' is near") as caught:
        predict_file(model, source, tmp_path / "out.csv")
    assert caught.value.column == "spent"
    with pytest.raises(InputError, match="missing"):
        predict_file(model, write(shop(5).drop(columns="age"), tmp_path / "in.parquet"), tmp_path / "out.csv")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.csv", "in.parquet"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "arrow", "csv.gz"])
def test_a_file_of_no_bytes_is_an_error(kind: str, model: bimodal.Model, tmp_path: Path) -> None:
    (tmp_path / f"in.{kind}").write_bytes(b"")
    with pytest.raises(SourceError):
        predict_file(model, tmp_path / f"in.{kind}", tmp_path / "out.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow"])
@pytest.mark.parametrize("other", ["csv", "parquet", "jsonl", "arrow"])
def test_a_header_without_rows_gives_an_output_without_rows(
    kind: str, other: str, model: bimodal.Model, tmp_path: Path
) -> None:
    source = write(shop(5)[:0].astype({"id": str, "day": str, "note": str, "plan": str}), tmp_path / f"in.{kind}")
    report = predict_file(model, source, tmp_path / f"out.{other}", proba=True)
    assert (report.read, report.predicted) == (0, 0)
    if other == "jsonl":
        assert (tmp_path / "out.jsonl").read_bytes() == b""
        return
    answer = read(tmp_path / f"out.{other}")
    assert answer.columns.tolist() == ["id", "day", "note", "prediction", "probability_leaves", "probability_stays"]
    assert len(answer) == 0


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl.zst", "parquet", "arrow", "arrows"])
def test_a_file_that_is_cut_off_is_an_error_and_leaves_nothing(kind: str, model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(3000), tmp_path / f"in.{kind}")
    source.write_bytes(source.read_bytes()[:-700])
    with pytest.raises(SourceError, match=r"ends in the middle|is broken|cannot be read"):
        predict_file(model, source, tmp_path / "out.csv")
    assert [each.name for each in tmp_path.iterdir()] == [source.name]


def test_a_missing_file_is_told_with_the_files_that_may_be_meant(model: bimodal.Model, tmp_path: Path) -> None:
    write(shop(5), tmp_path / "customers.csv")
    for named, message in [
        ("costumers.csv", r"did you mean .*/customers\.csv"),
        ("zzz.csv", r"in that folder are 'customers\.csv'"),
        ("*.parquet", "no file matches"),
        ("nowhere/x.csv", "there is no folder"),
    ]:
        with pytest.raises(SourceError, match=message):
            predict_file(model, str(tmp_path / named), tmp_path / "out.csv")
    with pytest.raises(UsageError, match="no format"):
        predict_file(model, tmp_path / "customers.csv", tmp_path / "out.xlsx")
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(SourceError, match="no format"):
        predict_file(model, tmp_path / "a.xlsx", tmp_path / "out.csv")


# -- how many are too many --------------------------------------------------------------------------------------------


def test_more_rejects_than_allowed_publish_nothing_and_tell_the_command(saved: Path, tmp_path: Path) -> None:
    frame = shop(30)
    frame.loc[[3, 7, 11, 12, 25], "plan"] = "gold"
    write(frame, tmp_path / "in.csv")
    done = command("predict", saved, "in.csv", "-o", "out.csv", "--keep", "id", cwd=tmp_path)
    error = done.stderr.decode()
    assert done.returncode == 3
    assert not (tmp_path / "out.csv").exists()
    assert [each["row"] for each in lines(tmp_path / "out.csv.rejects.jsonl")] == [4, 8, 12, 13, 26]
    assert [f"in.csv, row {row}, column 'plan'" in error for row in (4, 8, 12, 13)] == [True, True, True, False]
    words = shlex.split(error.split("to publish the other 25: ")[1].splitlines()[0])
    assert words[-2:] == ["--max-rejects", "5"]
    again = command(*words[1:], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert read(tmp_path / "out.csv")["id"].tolist() == frame["id"].drop([3, 7, 11, 12, 25]).tolist()
    assert left_over(tmp_path) == []


def test_what_is_accepted_later_is_not_predicted_again(
    model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = shop(30)
    frame.loc[3, "plan"] = "gold"
    source = write(frame, tmp_path / "in.csv")
    with pytest.raises(TooManyRejects):
        predict_file(model, source, tmp_path / "out.csv")
    monkeypatch.setattr(model, "run", None)  # nobody may ask it
    with pytest.raises(TooManyRejects, match="row 4"):
        predict_file(model, source, tmp_path / "out.csv")
    report = predict_file(model, source, tmp_path / "out.csv", max_rejects=1)
    assert (report.predicted, report.rejected) == (29, 1)
    assert json.loads((tmp_path / "out.csv.run.json").read_text())["rejected"] == 1
    assert len(read(tmp_path / "out.csv")) == 29
    assert left_over(tmp_path) == []
    assert predict_file(model, source, tmp_path / "out.csv").status == "already complete"


def test_a_run_without_rejects_takes_the_file_of_an_earlier_one_away(model: bimodal.Model, tmp_path: Path) -> None:
    frame = shop(5)
    source = write(frame.assign(plan="gold"), tmp_path / "in.csv")
    with pytest.raises(TooManyRejects):
        predict_file(model, source, tmp_path / "out.csv")
    write(frame, source)
    predict_file(model, source, tmp_path / "out.csv")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.csv", "out.csv", "out.csv.run.json"]


@pytest.mark.parametrize(
    ("told", "rejected", "read", "accepted"),
    [
        (0, 0, 9, True),
        (0, 1, 9, False),
        ("2", 2, 9, True),
        ("1%", 1, 100, True),
        ("1%", 2, 100, False),
        (None, 1, 9, False),
    ],
)
def test_rejects_are_allowed_by_number_or_share(told: Any, rejected: int, read: int, accepted: bool) -> None:
    assert Allowed.read(told).accepts(rejected, read) is accepted


@pytest.mark.parametrize("told", ["many", "-1", "200%", "%"])
def test_an_impossible_allowance_is_refused(told: str) -> None:
    with pytest.raises(UsageError, match="--max-rejects"):
        Allowed.read(told)


# -- a model that fails -----------------------------------------------------------------------------------------------


def test_rows_on_which_the_model_fails_stand_alone(model: bimodal.Model, tmp_path: Path) -> None:
    real = model.run

    def run(rows: Any, *words: Any, **named: Any) -> Any:
        if (np.asarray(rows["age"]) == 13).any():
            raise ModelFailed("the model failed: unlucky")
        return real(rows, *words, **named)

    frame = pd.concat([shop(1000)] * 3, ignore_index=True)
    frame.loc[[5, 1700, 1701, 2999], "age"] = 13.0
    source = write(frame, tmp_path / "in.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "run", run)
        report = predict_file(model, source, tmp_path / "out.parquet", max_rejects=4)
    assert (report.predicted, report.rejected) == (2996, 4)
    rejects = lines(tmp_path / "out.parquet.rejects.jsonl")
    assert [(each["row"], each["code"]) for each in rejects] == [(n, "model_failed") for n in (6, 1701, 1702, 3000)]
    assert rejects[0]["raw"]["age"] == 13.0
    left = frame.drop(index=[5, 1700, 1701, 2999])
    assert read(tmp_path / "out.parquet")["id"].tolist() == left["id"].tolist()


def test_a_model_that_fails_everywhere_ends_the_run(model: bimodal.Model, tmp_path: Path) -> None:
    def run(*_: Any, **__: Any) -> Any:
        raise ModelFailed("the model failed: always")

    source = write(shop(100), tmp_path / "in.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "run", run)
        with pytest.raises(ModelFailed, match="always"):
            predict_file(model, source, tmp_path / "out.csv", max_rejects="100%")
    assert [each.name for each in tmp_path.iterdir()] == ["in.csv"]


def test_numbers_of_a_typed_file_are_judged_like_those_of_text(model: bimodal.Model, tmp_path: Path) -> None:
    table = pa.table({"age": [1.0, 2.0], "spent": pa.array([1, 2**53 + 1], pa.int64()), "plan": ["pro", "pro"]})
    arrow_parquet.write_table(table, tmp_path / "in.parquet")
    predict_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet", max_rejects=1)
    (reject,) = lines(tmp_path / "out.parquet.rejects.jsonl")
    assert (reject["row"], reject["code"], reject["raw"]["spent"]) == (2, "inexact_integer", 2**53 + 1)
