"""Hugging Face folders: the answers of transformers' own pipeline, alone and in company."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import bimodal
from bimodal import formats
from bimodal.errors import InputError, ModelError
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.huggingface import HuggingFace
from bimodal.model import Model
from bimodal.rows import Dictionary, Rows
from bimodal.runtimes.texts import Texts
from tests.models import TEXTS

transformers: Any = import_module("transformers")  # its types know less than its documentation
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({word for text in TEXTS for word in text.split()}), "ü"]
LABELS = {0: "bad", 1: "fair", 2: "good"}
LONG = " ".join(["good", "awful", "food"] * 20)
MIXED = [*TEXTS[:8], LONG, "", "ü", "unheard of", "good " * 11, "Good food."]
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """One thread; the environment as it was."""
    threads, environment = torch.get_num_threads(), dict(os.environ)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


def tokenizer() -> Any:
    """Words of the texts, between [CLS] and [SEP]."""
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    named = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **named)


SMALL: dict[str, Any] = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZE: dict[str, Any] = {**SMALL, "intermediate_size": 32, "max_position_embeddings": 24}


def saved(
    folder: Path, config: Any = None, kind: Any = transformers.BertForSequenceClassification, **told: Any
) -> Path:
    """A tiny model with weights of a seed, large enough to tell texts apart."""
    torch.manual_seed(0)
    if config is None:
        config = transformers.BertConfig(**SIZE, id2label=LABELS, label2id={b: a for a, b in LABELS.items()}, **told)
    model = kind(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.mul_(12)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "mood-v1.5")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Model]:
    with bimodal.load(folder) as model:
        yield model


def load(folder: Path) -> Loaded:
    kind = formats.recognise(str(folder))
    assert isinstance(kind, HuggingFace)
    return kind.load(Source(str(folder)))


def pipeline(folder: Path) -> Callable[[str], Any]:
    """transformers' own answer: every label with its score."""
    made = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    return lambda text: made(text, top_k=None, truncation=True, max_length=24)


def scores(folder: Path, text: str) -> dict[str, float]:
    return {each["label"]: each["score"] for each in pipeline(folder)(text)}


def test_a_folder_says_what_it_takes_and_gives(served: Model) -> None:
    assert served.format == "huggingface"
    assert served.name == "mood-v1.5"
    assert [(each.name, each.type, each.shape) for each in served.signature.inputs] == [("text", "string", ())]
    assert [(each.name, each.type, each.shape) for each in served.signature.outputs] == [
        ("prediction", "string", ()),
        ("probability", "float32", (3,)),
    ]
    assert served.signature.classes == ("bad", "fair", "good")
    assert served.facts["tokens"] == 24


def test_its_answers_are_the_pipelines(served: Model, folder: Path) -> None:
    given = served.predict(MIXED, outputs=["prediction", "probability"])
    ask = pipeline(folder)
    for row, text in zip(given, MIXED, strict=True):
        right = {each["label"]: each["score"] for each in ask(text)}
        assert dict(zip(LABELS.values(), row["probability"], strict=True)) == right
        assert row["prediction"] == max(right, key=lambda label: right[label])
    assert len({row["prediction"] for row in given}) > 1


def test_texts_come_as_records_frames_and_lists(served: Model) -> None:
    (right,) = served.predict(["good food"])
    assert served.predict([{"text": "good food"}]) == [right]
    assert served.predict(pd.DataFrame({"text": ["good food"]}))["prediction"].tolist() == [right["prediction"]]
    with pytest.raises(InputError, match="null where text is needed"):
        served.predict([None])
    with pytest.raises(InputError, match="a number where text is needed"):
        served.predict([{"text": 3}])


def test_a_text_is_answered_alike_alone_and_in_company(folder: Path) -> None:
    runtime = load(folder).runtime
    texts = np.array(MIXED * 3, object)
    whole = runtime.run(Rows({"text": texts}), ["probability"]).array("probability")
    for place, text in enumerate(MIXED):
        alone = runtime.run(Rows({"text": np.array([text], object)}), ["probability"]).array("probability")
        for turn in range(3):
            np.testing.assert_array_equal(whole[place + turn * len(MIXED)], alone[0])


def test_texts_in_a_dictionary_are_answered_once_and_in_their_places(folder: Path) -> None:
    runtime = load(folder).runtime
    texts = np.array(["bad, bad", "never asked", "great"], object)
    rows = Rows({"text": Dictionary(np.array([2, 0, 2, 2], np.int32), texts)})
    given = runtime.run(rows, ["probability", "prediction"])
    plain = runtime.run(Rows({"text": rows.array("text")}), ["probability", "prediction"])
    for name in given:
        np.testing.assert_array_equal(given.array(name), plain.array(name))


class Counting:
    """A model that gives, for each text, its tokens' sum; it notes the shapes that it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, input_ids: Any, **_: Any) -> Any:
        self.asked.append(tuple(input_ids.shape))
        return type("Output", (), {"logits": input_ids.sum(1, keepdim=True)})


class Lengths:
    """A tokenizer: a text of n letters has n tokens."""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def test_only_texts_of_one_length_go_together_where_they_may() -> None:
    model = Counting()
    runtime = Texts(torch, Lengths(), model, ["score"], "score", None, "meta")
    texts = np.array(["aa", "b", "cc", "ddd", *["e"] * 70], object)
    groups = list(runtime._groups([len(text) for text in texts]))
    assert sorted(place for group in groups for place in group) == list(range(len(texts)))
    assert [len(group) for group in groups] == [64, 7, 2, 1]
    assert all(len({len(texts[place]) for place in group}) == 1 for group in groups)
    alone = Texts(torch, Lengths(), model, ["score"], "score", None, "cpu")
    given = alone.run(Rows({"text": texts}), ["prediction"]).array("prediction")
    assert given.tolist() == [sum(map(ord, text)) for text in texts]
    assert {shape[0] for shape in model.asked} == {1}


def test_several_labels_at_once_have_a_chance_each(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", problem_type="multi_label_classification")
    loaded = load(folder)
    (row,) = loaded.runtime.run(Rows({"text": np.array(["good food"], object)}), ["probability"]).array("probability")
    assert dict(zip(LABELS.values(), row.tolist(), strict=True)) == scores(folder, "good food")


@pytest.mark.parametrize("problem", ["regression", None])
def test_one_number_is_a_score_or_a_chance(problem: str | None, tmp_path: Path) -> None:
    config = transformers.BertConfig(**SIZE, num_labels=1, problem_type=problem)
    loaded = load(saved(tmp_path / "m", config))
    assert [(each.name, each.type, each.shape) for each in loaded.signature.outputs] == [("prediction", "float32", ())]
    assert loaded.signature.classes is None
    given = loaded.runtime.run(Rows({"text": np.array(["good food"], object)}), ["prediction"]).array("prediction")
    assert given.tolist() == list(scores(tmp_path / "m", "good food").values())


def test_places_are_counted_after_the_padding_where_the_model_does(tmp_path: Path) -> None:
    config = transformers.RobertaConfig(**SIZE, pad_token_id=1, num_labels=2)
    loaded = load(saved(tmp_path / "m", config, transformers.RobertaForSequenceClassification))
    assert loaded.facts["tokens"] == 22
    assert loaded.runtime.run(Rows({"text": np.array([LONG], object)}), ["prediction"]).count == 1


def test_a_distilled_model_takes_no_token_types(tmp_path: Path) -> None:
    config = transformers.DistilBertConfig(
        vocab_size=len(WORDS), dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=24
    )
    folder = saved(tmp_path / "m", config, transformers.DistilBertForSequenceClassification)
    made = transformers.AutoTokenizer.from_pretrained(folder)
    made.model_input_names = ["input_ids", "attention_mask"]
    made.save_pretrained(folder)
    (row,) = load(folder).runtime.run(Rows({"text": np.array(["great"], object)}), ["probability"]).array("probability")
    right = scores(folder, "great")
    assert row.tolist() == [right["LABEL_0"], right["LABEL_1"]]


def changed(folder: Path, tmp_path: Path, **told: Any) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **told}))
    return copy


def test_another_task_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'BertForMaskedLM'; supported are text classification"):
        load(changed(folder, tmp_path, architectures=["BertForMaskedLM"]))


def test_weights_that_are_not_in_the_folder_are_not_made_up(tmp_path: Path) -> None:
    config = transformers.BertConfig(**SIZE, id2label=LABELS)
    transformers.BertModel(config).save_pretrained(tmp_path / "m")
    tokenizer().save_pretrained(tmp_path / "m")
    with pytest.raises(ModelError, match=r"lacks the weights 'classifier\.bias'"):
        load(changed(tmp_path / "m", tmp_path, architectures=["BertForSequenceClassification"]))


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"(?s)weights as a pickle.*AutoModelForSequenceClassification\.from_pretr"):
        load(copy)
    (copy / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        load(copy)


def test_code_in_the_folder_never_runs(folder: Path, tmp_path: Path) -> None:
    auto = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    copy = changed(folder, tmp_path, auto_map=auto, model_type="own")
    (copy / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="Python code of its own"):
        load(copy)
    assert not (tmp_path / "ran").exists()


def test_a_damaged_folder_is_told(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path)
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged or not whole"):
        load(copy)


def test_its_files_are_those_that_one_sees(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path)
    (copy / ".git").mkdir()
    (copy / ".git" / "HEAD").write_text("ref")
    names = {each.name for each in HuggingFace().files(copy)}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    before = formats.digest(str(copy), HuggingFace())
    (copy / "tokenizer.json").write_text("{}")
    assert formats.digest(str(copy), HuggingFace()) != before


def test_other_folders_are_told_what_is_supported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"layers": 3}')
    with pytest.raises(ModelError, match=r"is a folder that is no model; supported are .*Hugging Face"):
        formats.recognise(str(tmp_path))
    (tmp_path / "data.csv.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "model.onnx").write_bytes(b"\x08")
    with pytest.raises(ModelError, match=r"no model; did you mean .*model\.onnx\?"):
        formats.recognise(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"\x08")
    with pytest.raises(ModelError, match="SavedModel of TensorFlow"):
        formats.recognise(str(tmp_path))
