"""A run gives the library's own answers, in the order of the input, beside the columns that are no features."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

import bimodal
from bimodal import predict_file
from bimodal.errors import InputError, OutputExists, SinkError, SourceError, UsageError
from tests.batch.places import FEATURES, expected, left_over, read, shop, texts, write
from tests.models import IRIS, SPECIES

INPUTS = ["csv", "csv.gz", "csv.zst", "tsv", "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "arrow", "arrows", "feather"]
OUTPUTS = ["csv", "csv.gz", "csv.zst", "tsv", "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "arrow", "arrows", "feather"]


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("other", OUTPUTS)
def test_every_format_goes_into_every_other(
    kind: str, other: str, model: bimodal.Model, estimator: Any, tmp_path: Path
) -> None:
    frame = shop()
    source = write(frame, tmp_path / f"in.{kind}")
    report = predict_file(model, source, tmp_path / f"out.{other}", proba=True)
    answer = read(tmp_path / f"out.{other}")
    assert (report.read, report.predicted, report.rejected) == (300, 300, 0)
    assert answer.columns.tolist() == ["id", "day", "note", "prediction", "probability_leaves", "probability_stays"]
    pd.testing.assert_frame_equal(answer[["id", "day", "note"]], frame[["id", "day", "note"]], check_dtype=False)
    right = expected(estimator, frame)
    assert answer["prediction"].tolist() == right["prediction"].tolist()
    np.testing.assert_allclose(answer["probability_leaves"], right["probability_leaves"], rtol=1e-12)


def test_an_input_of_features_only_gives_predictions_only(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression(max_iter=500).fit(IRIS, SPECIES), tmp_path / "my_model.pkl")
    pd.DataFrame(IRIS, columns=list("abcd")).to_csv(tmp_path / "batch_input.csv", index=False)
    report = predict_file(tmp_path / "my_model.pkl", tmp_path / "batch_input.csv", tmp_path / "predicted_output.csv")
    right = joblib.load(tmp_path / "my_model.pkl").predict(pd.read_csv(tmp_path / "batch_input.csv").to_numpy())
    answer = pd.read_csv(tmp_path / "predicted_output.csv")
    assert answer.columns.tolist() == ["prediction"]
    assert answer["prediction"].tolist() == right.tolist()
    assert any("by position" in note for note in report.notes)


def test_many_chunks_and_workers_give_the_same_bytes_as_one(
    model: bimodal.Model, estimator: Any, tmp_path: Path
) -> None:
    frame = pd.concat([shop(1000)] * 200, ignore_index=True).assign(id=[f"{n:06}" for n in range(200_000)])
    frame.to_parquet(tmp_path / "in.parquet", row_group_size=90_000)
    for workers in (1, 3):
        report = predict_file(model, tmp_path / "in.parquet", tmp_path / f"{workers}.parquet", workers=workers)
        assert report.chunks == 5
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "3.parquet").read_bytes()
    answer = arrow_parquet.read_table(tmp_path / "1.parquet")
    assert answer.column("id").to_pylist() == frame["id"].tolist()
    assert answer.column("prediction").to_pylist() == estimator.predict(frame[FEATURES]).tolist()
    assert arrow_parquet.read_metadata(tmp_path / "1.parquet").num_row_groups == 5


@pytest.mark.parametrize("kind", ["csv", "jsonl", "arrow"])
def test_long_files_of_text_are_cut_into_chunks(
    kind: str, model: bimodal.Model, estimator: Any, tmp_path: Path
) -> None:
    frame = pd.concat([shop(1000)] * 150, ignore_index=True).assign(id=[f"{n:06}" for n in range(150_000)])
    report = predict_file(model, write(frame, tmp_path / f"in.{kind}"), tmp_path / "out.parquet", workers=2)
    assert report.chunks == 3
    answer = read(tmp_path / "out.parquet")
    assert answer["id"].tolist() == frame["id"].tolist()
    assert answer["prediction"].tolist() == estimator.predict(frame[FEATURES]).tolist()


# -- what is carried --------------------------------------------------------------------------------------------------


def test_columns_that_are_no_features_stay_what_they_are(model: bimodal.Model, tmp_path: Path) -> None:
    table = pa.table(
        {
            "key": pa.array([2**63 - 1, None, 9_007_199_254_740_993], pa.int64()),
            "id": ["001", "", None],
            "when": pa.array([0, None, 86_400_000_001], pa.timestamp("us", "Europe/Oslo")),
            "day": pa.array([0, 1, None], pa.date32()),
            "cost": pa.array([None, "1.10", "2.00"]).cast(pa.decimal128(9, 2)),
            "tags": [["a"], [], None],
            "size": pa.array([3.0, None, 1.5]),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "age": [30.0, 40.0, 50.0],
            "spent": [1.0, 2.0, 3.0],
            "plan": ["free", "pro", "team"],
        }
    )
    arrow_parquet.write_table(table, tmp_path / "in.parquet")
    predict_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet")
    answer = arrow_parquet.read_table(tmp_path / "out.parquet")
    for name in table.column_names[:8]:
        kind = table.column(name).type  # a category is written as its values: the next chunk may have others
        plain = table.column(name).cast(kind.value_type) if name == "kind" else table.column(name)
        assert answer.column(name).equals(plain), name
    predict_file(model, tmp_path / "in.parquet", tmp_path / "out.jsonl")
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert first["key"] == 2**63 - 1
    assert first["tags"] == ["a"]
    assert first["size"] == 3.0
    predict_file(model, tmp_path / "in.parquet", tmp_path / "out.csv", keep=["key", "id", "size", "day"])
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == [
        "9223372036854775807,001,3.0,1970-01-01,stays",
        ",,,1970-01-02,stays",
        "9007199254740993,,1.5,,stays",
    ]


def test_text_of_a_csv_file_stays_text(model: bimodal.Model, tmp_path: Path) -> None:
    rows = [
        ["001", "NA", "1e5", " x ", "2024-1-5"],
        ["", "nan", "1.50", 'a "b", c', "null"],
        ["x\ny", "", "+7", "é", "TRUE"],
    ]
    frame = pd.DataFrame(rows, columns=list("abcde")).join(shop(3)[FEATURES])
    frame.to_csv(tmp_path / "in.csv", index=False)
    predict_file(model, tmp_path / "in.csv", tmp_path / "out.csv")
    assert [row[:5] for row in texts_with_lines(tmp_path / "out.csv")] == rows


def texts_with_lines(path: Path) -> list[list[str]]:
    import csv

    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def test_keep_chooses_what_is_carried(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(5), tmp_path / "in.csv")
    columns = {}
    for number, keep in enumerate(["auto", "none", "all", ["note", "age"]]):
        predict_file(model, source, tmp_path / f"{number}.csv", keep=keep)
        columns[str(keep)] = (tmp_path / f"{number}.csv").read_text().splitlines()[0].split(",")
    assert columns == {
        "auto": ["id", "day", "note", "prediction"],
        "none": ["prediction"],
        "all": ["id", "age", "spent", "day", "plan", "note", "prediction"],
        "['note', 'age']": ["note", "age", "prediction"],
    }
    assert [row[1] for row in texts(tmp_path / "2.csv")] == [row[1] for row in texts(source)]
    with pytest.raises(UsageError, match="did you mean 'note'"):
        predict_file(model, source, tmp_path / "x.csv", keep=["note "])


def test_the_target_is_carried_and_never_a_feature(tmp_path: Path) -> None:
    model = LinearRegression().fit(IRIS[:, :2], IRIS[:, 2])
    frame = pd.DataFrame(IRIS[:, :3], columns=["a", "b", "y"])
    source = write(frame, tmp_path / "in.csv")
    with bimodal.load(model) as loaded:
        with pytest.raises(InputError, match="--features"):
            predict_file(loaded, source, tmp_path / "out.csv")
        predict_file(loaded, source, tmp_path / "out.csv", target="y")
        predict_file(loaded, source, tmp_path / "named.csv", features=["a", "b"])
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "named.csv").read_bytes()
    answer = pd.read_csv(tmp_path / "out.csv")
    assert answer.columns.tolist() == ["y", "prediction"]
    np.testing.assert_array_equal(answer["prediction"], model.predict(IRIS[:, :2]))


def test_an_index_is_carried_and_feeds_no_model(tmp_path: Path) -> None:
    frame = pd.DataFrame(IRIS, columns=list("abcd"), index=np.arange(1000, 1150))
    frame.to_csv(tmp_path / "in.csv")
    with bimodal.load(LogisticRegression(max_iter=500).fit(IRIS, SPECIES)) as loaded:
        report = predict_file(loaded, tmp_path / "in.csv", tmp_path / "out.csv")
    answer = pd.read_csv(tmp_path / "out.csv")
    assert answer["Unnamed: 0"].tolist() == frame.index.tolist()
    assert any("index" in note for note in report.notes)


def test_renamed_and_reordered_columns_find_their_features(
    model: bimodal.Model, estimator: Any, tmp_path: Path
) -> None:
    frame = shop(50)
    shuffled = frame[["plan", "note", "age", "spent"]].rename(columns={"spent": "amount"})
    predict_file(model, write(shuffled, tmp_path / "in.csv"), tmp_path / "out.csv", rename={"amount": "spent"})
    assert read(tmp_path / "out.csv")["prediction"].tolist() == estimator.predict(frame[FEATURES]).tolist()


def test_a_kept_column_that_is_called_like_a_result_is_refused(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(5).assign(prediction=1), tmp_path / "in.csv")
    with pytest.raises(UsageError, match="--keep id,day,note"):
        predict_file(model, source, tmp_path / "out.csv")


# -- CSV as people have it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "encoding"),
    [
        ({"sep": ";", "decimal": ","}, "utf-8"),
        ({"sep": "\t"}, "utf-8"),
        ({"sep": "|"}, "utf-8-sig"),
        ({"lineterminator": "\r\n"}, "utf-16"),
        ({"sep": ";", "lineterminator": "\r"}, "cp1252"),
        ({"quoting": 1}, "utf-8"),
    ],
)
def test_a_csv_dialect_is_recognised(
    changed: dict[str, Any], encoding: str, model: bimodal.Model, estimator: Any, tmp_path: Path
) -> None:
    frame = shop(100).assign(note="Zürich")
    frame.to_csv(tmp_path / "in.csv", index=False, encoding=encoding, **changed)
    predict_file(model, tmp_path / "in.csv", tmp_path / "out.csv")
    answer = read(tmp_path / "out.csv")
    assert answer["prediction"].tolist() == estimator.predict(frame[FEATURES]).tolist()
    assert set(answer["note"]) == {"Zürich"}


def test_the_markers_of_pandas_are_missing_values(model: bimodal.Model, estimator: Any, tmp_path: Path) -> None:
    markers = ["", "NA", "NaN", "null", "None", "n/a", "#N/A", "-nan", "<NA>", "7.5", "NULL"]
    (tmp_path / "in.csv").write_text("age,spent,plan\n" + "".join(f"{marker},50.5,pro\n" for marker in markers))
    predict_file(model, tmp_path / "in.csv", tmp_path / "out.csv", proba=True)
    right = expected(estimator, pd.read_csv(tmp_path / "in.csv"))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv"), right, check_dtype=False)
    report = predict_file(model, tmp_path / "in.csv", tmp_path / "few.csv", na=["", "NA"], max_rejects=20)
    assert report.rejected == 6  # NaN and -nan spell a number that is missing


def test_a_first_row_of_numbers_is_told_where_the_columns_do_not_fit(model: bimodal.Model, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("30,50,1\n31,51,2\n")
    with pytest.raises(InputError, match="not taken for a header"):
        predict_file(model, tmp_path / "in.csv", tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("first", "refused", "header"),
    [("5.1,,1.4,0.2", "", None), ("NA,3,5,2", "", None), ("5.1,x,1.4,0.2", "--header absent", None),
     ("5.1,x,1.4,0.2", "", "absent")],
)  # fmt: skip
def test_a_first_row_that_is_not_all_numbers_is_never_lost(
    first: str, refused: str, header: str | None, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text(f"{first}\n6,3,5,2\n")
    flowers = bimodal.load(LogisticRegression(max_iter=500).fit(IRIS, SPECIES))
    if refused:
        with pytest.raises(InputError, match=refused):
            predict_file(flowers, tmp_path / "in.csv", tmp_path / "out.csv", header=header)
    else:
        report = predict_file(flowers, tmp_path / "in.csv", tmp_path / "out.csv", header=header, max_rejects=1)
        assert (report.read, report.rejected) == (2, 1)
    report = predict_file(flowers, tmp_path / "in.csv", tmp_path / "said.csv", header="present")
    assert (report.read, report.rejected) == (1, 0)


@pytest.mark.parametrize(("first", "read", "told"), [("0,1,2,3", 2, True), ("1,2,3,4", 3, False)])
def test_a_first_row_that_counts_is_the_header_of_pandas_only_from_0(
    first: str, read: int, *, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `DataFrame(array).to_csv(index=False)` writes it, and not as numbers that are data."""
    (tmp_path / "in.csv").write_text(f"{first}\n6,3,5,2\n5.1,3.5,1.4,0.2\n")
    flowers = bimodal.load(LogisticRegression(max_iter=500).fit(IRIS, SPECIES))
    assert predict_file(flowers, tmp_path / "in.csv", tmp_path / "out.csv", progress="auto").read == read
    assert ("if it is data: --header absent" in capsys.readouterr().err) is told
    assert predict_file(flowers, tmp_path / "in.csv", tmp_path / "all.csv", header="absent").read == 3


@pytest.mark.parametrize("first", ["0", "0,1"])
def test_a_short_first_row_that_counts_from_0_is_refused_until_it_is_said_what_it_is(
    first: str, tmp_path: Path
) -> None:
    width = first.count(",") + 1
    (tmp_path / "in.csv").write_text("\n".join([first, *[",".join("1" * width)] * 3]) + "\n")
    narrow = bimodal.load(LogisticRegression().fit(IRIS[:, :width], SPECIES))
    with pytest.raises(InputError, match="--header absent or --header present"):
        predict_file(narrow, tmp_path / "in.csv", tmp_path / "out.csv")
    for header, count in (("absent", 4), ("present", 3)):
        assert predict_file(narrow, tmp_path / "in.csv", tmp_path / f"{header}.csv", header=header).read == count


def test_a_memory_ceiling_keeps_further_processes_away(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(), tmp_path / "in.csv")
    assert predict_file(model, source, tmp_path / "out.csv", memory="100MB", workers=4).workers == 1


# -- several files ----------------------------------------------------------------------------------------------------


def test_several_files_are_one_output_in_the_order_of_their_names(
    model: bimodal.Model, estimator: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    frames = {part: shop(50).assign(id=part) for part in "cab"}
    for part, frame in frames.items():
        write(frame, folder / f"{part}.csv")
    whole = pd.concat([frames[part] for part in "abc"])
    ways: list[Any] = [folder, str(folder / "*.csv"), sorted(folder.iterdir())]
    for number, named in enumerate(ways):
        predict_file(model, named, tmp_path / f"{number}.csv")
        answer = read(tmp_path / f"{number}.csv")
        assert answer["id"].tolist() == whole["id"].tolist()
        assert answer["prediction"].tolist() == estimator.predict(whole[FEATURES]).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="note"), "b.parquet has no column 'note'"),
        (lambda frame: frame.assign(more=1), "b.parquet has a column 'more'"),
        (lambda frame: frame.assign(id=1), "b.parquet: column 'id' is int64"),
    ],
)
def test_a_file_that_differs_is_named(change: Any, message: str, model: bimodal.Model, tmp_path: Path) -> None:
    write(shop(5), tmp_path / "a.parquet")
    write(change(shop(5)), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=message):
        predict_file(model, str(tmp_path / "*.parquet"), tmp_path / "out.parquet")


# -- what is there already --------------------------------------------------------------------------------------------


def test_an_output_is_not_replaced_unless_asked(model: bimodal.Model, tmp_path: Path) -> None:
    source, out = write(shop(5), tmp_path / "in.csv"), tmp_path / "out.csv"
    out.write_text("precious")
    with pytest.raises(OutputExists, match="--overwrite"):
        predict_file(model, source, out)
    assert out.read_text() == "precious"
    predict_file(model, source, out, overwrite=True)
    assert out.read_text().startswith("id,")
    assert left_over(tmp_path) == []


def test_the_input_is_never_the_output(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(5), tmp_path / "in.csv")
    before = source.read_bytes()
    for named in (source, [source]):
        with pytest.raises(UsageError, match="is the input itself"):
            predict_file(model, named, source, overwrite=True)
    assert source.read_bytes() == before


def test_the_same_plan_again_is_already_complete(model: bimodal.Model, tmp_path: Path) -> None:
    source, out = write(shop(5), tmp_path / "in.csv"), tmp_path / "out.csv"
    predict_file(model, source, out)
    before = out.stat()
    report = predict_file(model, source, out)
    assert (report.status, report.predicted) == ("already complete", 5)
    assert out.stat() == before
    with pytest.raises(OutputExists):
        predict_file(model, source, out, proba=True)
    source.write_text(source.read_text() + "9999,1,2,2024-01-01,pro,x\n")
    with pytest.raises(OutputExists):
        predict_file(model, source, out)


def test_a_file_that_was_only_touched_is_the_same_input(model: bimodal.Model, tmp_path: Path) -> None:
    source, output = write(shop(5), tmp_path / "in.csv"), tmp_path / "out.csv"
    predict_file(model, source, output, progress="quiet")
    os.utime(source, (1, 1))
    assert predict_file(model, source, output, progress="quiet").status == "already complete"


def test_an_output_that_was_changed_since_is_not_complete(model: bimodal.Model, tmp_path: Path) -> None:
    source, out = write(shop(5), tmp_path / "in.csv"), tmp_path / "out.csv"
    predict_file(model, source, out)
    out.write_text(out.read_text() + "\n")
    with pytest.raises(OutputExists):
        predict_file(model, source, out)


def test_the_same_plan_gives_the_same_bytes_wherever_it_is_written(model: bimodal.Model, tmp_path: Path) -> None:
    source = write(shop(), tmp_path / "in.csv")
    (tmp_path / "other").mkdir()
    for ending in ("csv.gz", "jsonl.zst", "parquet", "arrow"):
        predict_file(model, source, tmp_path / f"a.{ending}")
        predict_file(model, source, tmp_path / "other" / f"b.{ending}")
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / "other" / f"b.{ending}").read_bytes()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).startswith(b"id,day,note,prediction\n")


def test_what_decides_the_result_stands_in_the_file_and_the_rest_beside_it(
    model: bimodal.Model, tmp_path: Path
) -> None:
    report = predict_file(model, write(shop(5), tmp_path / "in.csv"), tmp_path / "out.parquet")
    metadata = arrow_parquet.read_schema(tmp_path / "out.parquet").metadata
    assert metadata[b"bimodal.digest"].decode() == model.digest
    assert metadata[b"bimodal.plan"].decode() == report.plan["key"]
    told = json.loads((tmp_path / "out.parquet.run.json").read_text())
    assert (told["read"], told["predicted"], told["rejected"]) == (5, 5, 0)
    assert told["plan"]["digest"] == model.digest
    assert told["host"]
    assert told["started"]


# -- the short twins --------------------------------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(model: bimodal.Model, tmp_path: Path) -> None:
    report = predict_file(model, write(shop(), tmp_path / "in.csv"), tmp_path / "out.csv", dry_run=True)
    assert report.status == "dry run"
    assert report.columns == ("id", "day", "note", "prediction")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.csv"]
    with pytest.raises(SinkError, match="no folder"):
        predict_file(model, tmp_path / "in.csv", tmp_path / "nowhere" / "out.csv", dry_run=True)


def test_threshold_and_outputs_reach_the_model(model: bimodal.Model, estimator: Any, tmp_path: Path) -> None:
    frame = shop()
    source = write(frame, tmp_path / "in.parquet")
    predict_file(model, source, tmp_path / "out.parquet", outputs=["probability", "prediction"], threshold=0.9)
    answer = read(tmp_path / "out.parquet")
    stays = estimator.predict_proba(frame[FEATURES])[:, 1]
    assert answer["prediction"].tolist() == np.where(stays >= 0.9, "stays", "leaves").tolist()
    with pytest.raises(UsageError, match="no output 'probabilty'"):
        predict_file(model, source, tmp_path / "x.parquet", outputs=["probabilty"])


def test_a_link_keeps_pointing_to_the_file_that_is_replaced(model: bimodal.Model, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "out.csv")
    predict_file(model, write(shop(5), tmp_path / "in.csv"), tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert os.listdir(tmp_path / "real").count("out.csv") == 1
