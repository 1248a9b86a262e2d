"""What goes wrong at the beginning is one sentence that names the file and what to do."""

from __future__ import annotations

import gzip
import importlib
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import bimodal
from bimodal import predict_file
from bimodal.batch.options import Options
from bimodal.cli import main
from bimodal.cli.options import split
from bimodal.errors import BimodalError, ModelError, TooManyRejects, UsageError
from bimodal.formats import recognise
from bimodal.settings import joined
from tests.batch.places import FEATURES, read, shop, write

Make = Callable[[Path], Any]


def saved(frame: pd.DataFrame, path: Path, **how: Any) -> Path:
    frame.to_csv(path, index=False, **how)
    return path


def under(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def plain(folder: Path) -> Path:
    return saved(shop(20), folder / "in.csv")


def renamed(folder: Path) -> Path:
    return saved(shop(20).rename(columns={"spent": "Spent"}), folder / "in.csv")


WRONG: dict[str, tuple[Make, dict[str, Any], str]] = {
    "another name": (renamed, {}, "in.csv: the column 'spent' is missing; 'Spent' is near: --rename Spent=spent"),
    "the target is a feature": (plain, {"target": "spent"}, "--target spent: the model predicts from this column"),
    "no header": (
        lambda folder: saved(shop(20)[["spent", "plan"]], folder / "in.csv", header=False),
        {},
        "the first row looks like data, not like the names of columns; if it is, write a first line with the names",
    ),
    "gzip as csv": (
        lambda folder: under(folder / "in.csv", gzip.compress(b"a,b\n1,2\n")),
        {},
        "in.csv holds gzip, not text as its name says: give it in.csv.gz",
    ),
    "gzip as jsonl": (lambda folder: under(folder / "in.jsonl", gzip.compress(b"{}\n")), {}, "in.jsonl holds gzip"),
    "csv as gzip": (
        lambda folder: under(folder / "in.csv.gz", b"a,b\n1,2\n"),
        {},
        "is not compressed, though its name",
    ),
    "csv as zstd": (
        lambda folder: under(folder / "in.csv.zst", b"a,b\n1,2\n"),
        {},
        "is not compressed, though its name",
    ),
    "parquet as csv": (
        lambda folder: under(folder / "in.csv", write(shop(5), folder / "in.parquet").read_bytes()),
        {},
        "in.csv holds Parquet, not text as its name says: give it a name that ends in .parquet",
    ),
    "a pickle as csv": (
        lambda folder: under(folder / "in.csv", pickle.dumps(shop(5))),
        {},
        "in.csv holds a pickle of Python, not text as its name says: save it as CSV",
    ),
    "an old pickle as csv": (
        lambda folder: under(folder / "in.csv", pickle.dumps(Path("a"), protocol=0)),
        {},
        "in.csv holds a pickle of Python, not text",
    ),
    "bytes as csv": (
        lambda folder: under(folder / "in.csv", np.arange(5000.0).tobytes()),
        {},
        "in.csv holds binary data, not text as its name says: save it as CSV",
    ),
    "bytes as jsonl": (
        lambda folder: under(folder / "in.jsonl", b"{" + np.arange(50.0).tobytes()),
        {},
        "in.jsonl holds binary data, not text as its name says: save it as JSON Lines",
    ),
    "an address": (
        lambda folder: "https://example.org/a b.csv",
        {},
        "curl -sSL 'https://example.org/a b.csv' | bimodal",
    ),
    "a pipe and a file": (lambda folder: [plain(folder), "-"], {}, "- is the only input of its run"),
    "a crowd of workers": (plain, {"workers": 99_999}, "--workers 99999: at most 1024"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_has_its_remedy(case: str, model: bimodal.Model, tmp_path: Path) -> None:
    make, options, words = WRONG[case]
    with pytest.raises(BimodalError) as caught:
        predict_file(model, make(tmp_path), tmp_path / "out.csv", **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_remedy_of_another_name_helps(model: bimodal.Model, tmp_path: Path) -> None:
    predict_file(model, renamed(tmp_path), tmp_path / "out.csv", rename={"Spent": "spent"})
    predict_file(model, plain(tmp_path), tmp_path / "same.csv")
    assert read(tmp_path / "out.csv")["prediction"].equals(read(tmp_path / "same.csv")["prediction"])


def test_a_row_of_data_is_not_repeated(model: bimodal.Model, tmp_path: Path) -> None:
    given = saved(shop(20)[["spent", "plan"]], tmp_path / "in.csv", header=False)
    with pytest.raises(BimodalError) as caught:
        predict_file(model, given, tmp_path / "out.csv")
    assert given.read_text().splitlines()[0].split(",")[0] not in str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_columns_of_another_order_are_found_by_name(kind: str, model: bimodal.Model, tmp_path: Path) -> None:
    first, second = shop(20), shop(20).iloc[::-1]
    write(first, tmp_path / f"a.{kind}")
    write(second[second.columns[::-1]], tmp_path / f"b.{kind}")
    predict_file(model, str(tmp_path / f"[ab].{kind}"), tmp_path / "out.parquet")
    write(second, tmp_path / f"b.{kind}")
    predict_file(model, str(tmp_path / f"[ab].{kind}"), tmp_path / "straight.parquet")
    assert read(tmp_path / "out.parquet").equals(read(tmp_path / "straight.parquet"))


# -- pipes that have a name -------------------------------------------------------------------------------------------


def test_a_pipe_is_read_under_its_name(model: bimodal.Model, tmp_path: Path) -> None:
    data = plain(tmp_path).read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    done = predict_file(model, tmp_path / "pipe", tmp_path / "out.csv")
    writer.join()
    predict_file(model, tmp_path / "in.csv", tmp_path / "same.csv")
    assert done.predicted == 20
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "same.csv").read_bytes()


def test_a_bad_row_of_a_pipe_is_told_under_its_name(model: bimodal.Model, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    data = saved(shop(3).assign(spent=[1.0, "x", 2.0]), tmp_path / "in.csv").read_bytes()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    with pytest.raises(BimodalError, match="pipe, row 2, column 'spent': text where a number is needed"):
        predict_file(model, tmp_path / "pipe", tmp_path / "out.csv")
    writer.join()


@pytest.mark.parametrize("name", ["/dev/stdout", "link"])
def test_standard_output_has_other_names(
    name: str, model: bimodal.Model, saved: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = plain(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append((tmp_path / "pipe").read_bytes()))
    if name == "link":
        reader.start()
    assert main(["predict", str(saved), str(given), "-q", "-o", str(tmp_path / name) if name == "link" else name]) == 0
    predict_file(model, given, tmp_path / "same.csv")
    if name == "link":
        reader.join()
        assert seen == [(tmp_path / "same.csv").read_bytes()]
    else:
        assert capfd.readouterr().out == (tmp_path / "same.csv").read_text()


# -- options ----------------------------------------------------------------------------------------------------------


def test_a_name_with_a_comma_stands_in_quotes() -> None:
    names = ("a,b", 'c "d"', 'say "no", or', '"', "e f")
    assert split(joined(names)) == names
    assert split("a, b,,c") == ("a", "b", "c")
    with pytest.raises(UsageError, match="a quote too many or too few"):
        split('"a,b')


def test_a_column_with_a_comma_is_kept(model: bimodal.Model, tmp_path: Path) -> None:
    given = saved(shop(5).rename(columns={"note": "note, long"}), tmp_path / "in.csv")
    predict_file(model, given, tmp_path / "out.csv", keep=split('"note, long"') or ())
    assert list(read(tmp_path / "out.csv").columns) == ["note, long", "prediction"]


def test_the_default_output_is_not_printed() -> None:
    plain = Options(model="m.pkl", input=("in.csv",), output="o.csv", outputs=("prediction",))
    assert plain.command(3) == "bimodal predict m.pkl in.csv -o o.csv --max-rejects 3"


def test_a_model_without_permission_is_not_called_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "m.pkl").write_bytes(b"x")
    monkeypatch.setattr("builtins.open", refuse)  # root may read everything
    with pytest.raises(ModelError, match="may not be read: no permission"):
        recognise(str(tmp_path / "m.pkl"))


def test_all_features_are_named_that_are_missing(model: bimodal.Model, tmp_path: Path) -> None:
    given = saved(shop(5).drop(columns=FEATURES), tmp_path / "in.csv")
    with pytest.raises(BimodalError) as caught:
        predict_file(model, given, tmp_path / "out.csv")
    assert all(repr(name) in str(caught.value) for name in FEATURES)


# -- what a value means ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_true_and_false_are_one_and_zero_in_a_number(kind: str, model: bimodal.Model, tmp_path: Path) -> None:
    truths, numbers = shop(4).assign(spent=[True, False, True, False]), shop(4).assign(spent=[1.0, 0.0, 1.0, 0.0])
    told = [
        predict_file(model, write(frame, tmp_path / f"{name}.{kind}"), tmp_path / f"{name}.out.csv", proba=True)
        for name, frame in (("truths", truths), ("numbers", numbers))
    ]
    assert [each.predicted for each in told] == [4, 4]
    assert (tmp_path / "truths.out.csv").read_bytes() == (tmp_path / "numbers.out.csv").read_bytes()


OWN = """
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin


class Ratio(BaseEstimator, TransformerMixin):
    def fit(self, frame, y=None):
        self.feature_names_in_ = np.array(list(frame.columns), dtype=object)
        self.n_features_in_ = frame.shape[1]
        return self

    def transform(self, frame):
        return np.c_[frame["age"] / frame["spent"], frame["plan"].str.len()]
"""


def test_types_that_are_not_known_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ownratio.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ratio = importlib.import_module("ownratio").Ratio()
    frame = shop(30).dropna()
    joblib.dump(make_pipeline(ratio, LogisticRegression()).fit(frame[FEATURES], frame["spent"] > 50), "own.pkl")
    saved(frame, tmp_path / "in.csv")
    command = ["predict", "own.pkl", "in.csv", "--code", "ownratio.py", "-o", "out.csv"]
    assert main(command) == 1
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert "the types of its columns are not known from the model" in told
    assert main([*command, "--sample", "in.csv"]) == 0


def test_a_model_that_answers_no_made_up_row_says_why_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text('class Own:\n    def predict(self, rows):\n        return rows["age"]\n')
    with bimodal.load(f"{tmp_path}/own.py:Own") as own:
        assert "no made-up row (IndexError: " in " ".join(own.warnings)
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_is_offered_where_all_rows_are_refused(model: bimodal.Model, tmp_path: Path) -> None:
    given = saved(shop(5).assign(spent="x"), tmp_path / "in.csv")
    with pytest.raises(TooManyRejects, match="5 rows of 5 rejected") as caught:
        predict_file(model, given, tmp_path / "out.csv")
    assert "to publish" not in str(caught.value)
    assert str(caught.value).endswith("out.csv.rejects.jsonl")
