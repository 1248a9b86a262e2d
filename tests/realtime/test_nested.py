"""Columns of JSON, and conversations among them: one verdict on them, whichever way they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import bimodal
from bimodal.errors import InputError
from bimodal.model import Model
from bimodal.table import to_stream
from tests.realtime.callers import Caller, Refused, request
from tests.realtime.desk import Desk

FILE = """
class Notes:
    inputs = {"note": dict, "tags": list[dict]}
    outputs = {"told": str}

    def predict(self, rows):
        return {"told": [f"{note} {tags}" for note, tags in zip(rows["note"], rows["tags"])]}


class Echo:
    def chat(self, messages, **options):
        yield f"{messages[-1]['role']}: {messages[-1]['content']}"
"""
JSON = "text that is no JSON where an object is needed"
NOTES = [("nojson", JSON), ("[1]", "a list where an object is needed"), ("null", "null where an object is needed")]
TALK = [
    ("6", "messages", "a list of messages is needed, with one at least"),
    ("[]", "messages", "a list of messages is needed, with one at least"),
    ('{"a": 1}', "messages", "a list of messages is needed, with one at least"),
    ("[3]", "messages.0", "a message is an object, with role and content"),
    ('[{"role": "user"}]', "messages.0.content", "text is needed, or a list of parts"),
    ('[{"role": "king", "content": "a"}]', "messages.0.role", "the role is one of "),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Model]]:
    file = tmp_path_factory.mktemp("nested") / "nested.py"
    file.write_text(FILE)
    models = {name: bimodal.load(f"{file}:{name}") for name in ("Notes", "Echo")}
    yield models
    for model in models.values():
        model.close()


@pytest.fixture(scope="module")
def desk(models: dict[str, Model]) -> Iterator[Desk]:
    desk = Desk(*models.values())
    yield desk
    desk.close()


def tensors(**columns: str) -> dict[str, Any]:
    return {
        "inputs": [{"name": name, "shape": [1], "datatype": "BYTES", "data": [text]} for name, text in columns.items()]
    }


def refusals(desk: Desk, model: Model, **columns: str) -> list[tuple[str, str | None]]:
    """What every door says, and in which column: tensors over REST and gRPC, rows, tables, memory, a file in batch."""
    name = model.name
    doors = [
        desk.error(tensors(**columns), path=f"/v2/models/{name}/infer"),
        desk.error({"rows": [columns]}, path=f"/models/{name}/predict"),
        desk.error(
            to_stream(pa.table({each: [text] for each, text in columns.items()})),
            path=f"/models/{name}/predict",
            kind="application/vnd.apache.arrow.stream",
        ),
    ]
    told = [(each["error"], each["column"]) for each in doors]
    for raw in (True, False):
        asked = request(name, {each: ("BYTES", [text]) for each, text in columns.items()}, raw=raw)
        with pytest.raises(Refused) as refused:
            Caller(desk).infer(asked)
        told.append((refused.value.message, refused.value.trailers["x-error-column"]))
    for given in ([columns], pa.table({each: [text] for each, text in columns.items()})):
        with pytest.raises(InputError) as caught:
            model.predict(given)
        told.append((str(caught.value), caught.value.column))
    return told


@pytest.mark.parametrize(("text", "words"), NOTES)
def test_a_column_of_json_is_judged_at_every_door(desk: Desk, models: dict[str, Model], text: str, words: str) -> None:
    for told, column in refusals(desk, models["Notes"], note=text, tags="[]"):
        assert told.startswith(f"row 1, column 'note': {words}")
        assert column == "note"


@pytest.mark.parametrize(("text", "place", "words"), TALK)
def test_messages_are_judged_at_every_door_as_chat_judges_them(
    desk: Desk, models: dict[str, Model], text: str, place: str, words: str
) -> None:
    for told, column in refusals(desk, models["Echo"], messages=text):
        assert told.startswith(f"row 1, column {place!r}: {words}")
        assert column == place
    chat = desk.ask("/v1/chat/completions", {"model": "Echo", "messages": json.loads(text)})
    assert json.loads(chat.body)["error"]["param"] == place


def test_json_that_fits_is_answered_at_every_door(desk: Desk) -> None:
    """Also what Arrow holds as lists and structs."""
    good = {"note": '{"a":1}', "tags": '[{"b":2}]'}
    answer = "{'told': ['{\"a\":1} [{\"b\":2}]']}"
    given = [{"rows": [good]}, {"rows": [{name: json.loads(text) for name, text in good.items()}]}]
    for body in given:
        assert str(desk.answer(body, "/models/Notes/predict")) == answer
    told = desk.answer(tensors(**good), "/v2/models/Notes/infer")
    assert told["outputs"][0]["data"] == ['{"a":1} [{"b":2}]']
    table = pa.table({name: [json.loads(text)] for name, text in good.items()})
    stream = desk.ask("/models/Notes/predict", to_stream(table), kind="application/vnd.apache.arrow.stream")
    assert pa.ipc.open_stream(stream.body).read_all().to_pylist() == [{"told": '{"a":1} [{"b":2}]'}]


def test_every_door_gives_a_model_messages_in_one_form(desk: Desk) -> None:
    parts = [{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    text = json.dumps(parts)
    assert desk.answer({"rows": [{"messages": parts}]}, "/models/Echo/predict")["text"] == ["system: ab"]
    told = desk.answer(tensors(messages=text), "/v2/models/Echo/infer")
    assert next(each["data"] for each in told["outputs"] if each["name"] == "text") == ["system: ab"]
    said = desk.answer({"model": "Echo", "messages": parts}, "/v1/chat/completions")
    assert said["choices"][0]["message"]["content"] == "system: ab"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_messages_are_judged_in_batch(models: dict[str, Model], tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"asked.{kind}"
    texts = ['[{"role":"user","content":"hi"}]', "6"]
    table = pa.table({"messages": texts})
    if kind == "csv":
        pa_csv.write_csv(table, file)
    elif kind == "parquet":
        pq.write_table(table, file)
    else:
        file.write_text("".join(json.dumps({"messages": each}) + "\n" for each in texts))
    report = bimodal.predict_file(models["Echo"], file, tmp_path / "told.jsonl", max_rejects=1)
    assert (report.predicted, report.rejected) == (1, 1)
    assert json.loads((tmp_path / "told.jsonl.rejects.jsonl").read_text())["code"] == "wrong_type"
