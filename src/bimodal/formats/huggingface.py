"""Hugging Face folders: text classification, and text generation (`causal.py`).

Never code from the folder, never the network.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bimodal.errors import BimodalError, MissingLibrary, ModelError
from bimodal.field import Field, listed
from bimodal.formats import causal
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.device import device, one_thread
from bimodal.formats.library import library
from bimodal.runtimes.texts import Texts
from bimodal.signature import Signature

log = logging.getLogger("bimodal.model")
CONFIG, WEIGHTS = "config.json", ("model.safetensors", "model.safetensors.index.json")
TASK = "ForSequenceClassification"
AUTO = {False: "AutoModelForSequenceClassification", True: "AutoModelForCausalLM"}  # by whether it generates text
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
SAVE = 'model.save_pretrained("folder"); tokenizer.save_pretrained("folder")'
LONGEST = 10**6  # tokens: a tokenizer that names more than that names no limit


class HuggingFace(Format):
    name = "huggingface"
    describes = (
        "folders of Hugging Face models for text classification and text generation (config.json, model.safetensors, "
        "tokenizer)"
    )

    def matches(self, path: str, head: bytes) -> bool:
        return not head and {"architectures", "model_type"} & set(_config(Path(path))) != set()

    def files(self, path: Path) -> tuple[Path, ...]:
        """Without what version control and downloads leave behind."""
        kept = (each for each in super().files(path) if not _is_hidden(each.relative_to(path)))
        return tuple(kept)

    def load(self, source: Source) -> Loaded:
        _require_usable(source.file)
        os.environ.update(OFFLINE)
        torch, transformers = library("torch"), library("transformers")
        one_thread(torch)
        place = device()
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        generates = causal.is_causal(_config(source.file).get("architectures") or [])
        tokenizer, model = _read(transformers, source, AUTO[generates])
        versions = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": str(torch.__version__),
            "transformers": str(transformers.__version__),
        }
        if generates:
            made, signature, told = causal.runtime(torch, transformers, tokenizer, model.to(place))
            return Loaded(made, signature, versions, (), {**told, "device": place})
        kind, labels = _kind(model.config), _labels(model.config)
        limit = _limit(tokenizer, model, torch)
        runtime = Texts(torch, tokenizer, model.to(place), labels, kind, limit, place)
        facts = {"architecture": type(model).__name__, "kind": kind, "tokens": limit, "device": place}
        return Loaded(runtime, _signature(kind, labels), versions, (), facts)


def _config(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts)


def _require_usable(folder: Path) -> None:
    """Raise ModelError where it is another task, or weights that run code when they are read."""
    kinds = _config(folder).get("architectures") or []
    if not any(str(kind).endswith(TASK) for kind in kinds) and not causal.is_causal(kinds):
        what = listed([str(kind) for kind in kinds]) if kinds else "a model that does not say what it is for"
        raise ModelError(
            f"{folder} holds {what}; supported are text classification (…{TASK}) and text generation (…ForCausalLM)"
        )
    if any((folder / name).is_file() for name in WEIGHTS):
        return
    if any(folder.glob("*.bin")):
        raise ModelError(
            f"{folder} holds its weights as a pickle, which runs code when it is read; where you trust it, save it "
            f'again:\nmodel = transformers.{AUTO[causal.is_causal(kinds)]}.from_pretrained("{folder}")\n'
            f'model.save_pretrained("{folder}")'
        )
    raise ModelError(f"{folder} has no {WEIGHTS[0]}; save the whole model into it: {SAVE}")


def _read(transformers: Any, source: Source, kind: str) -> tuple[Any, Any]:
    """Tokenizer and model. Raises ModelError where a weight is not in the folder: it would be made up."""
    told = {"local_files_only": True, "trust_remote_code": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers says to those who train
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source.path, **told)
            model, found = getattr(transformers, kind).from_pretrained(
                source.path, use_safetensors=True, output_loading_info=True, **told
            )
        except Exception as error:  # a damaged folder raises anything
            raise _refused(source.file, error) from error
    if found["missing_keys"]:
        absent = listed(sorted(found["missing_keys"]), 3)
        raise ModelError(f"{source.path} lacks the weights {absent}; train the model, and save it whole: {SAVE}")
    return tokenizer, model.eval()


def _refused(folder: Path, error: Exception) -> BimodalError:
    text = str(error).strip()
    first = text.splitlines()[0][:200] if text else "no reason given"
    if "trust_remote_code" in text:
        return ModelError(
            f"{folder} needs Python code of its own, which Bimodal does not run; export the model to ONNX"
        )
    if isinstance(error, ImportError):
        return MissingLibrary(f"{folder} needs another library: {first}")
    log.error("the model cannot be read", exc_info=error)
    return ModelError(f"{folder} is damaged or not whole ({type(error).__name__}: {first}); save it again: {SAVE}")


def _kind(config: Any) -> str:
    """What the scores are, as transformers' own pipeline takes them: classes, labels (several at once), score."""
    if config.problem_type == "regression":
        return "score"
    if config.problem_type == "multi_label_classification":
        return "labels"
    return "chance" if config.num_labels == 1 else "classes"


def _labels(config: Any) -> tuple[str, ...]:
    return tuple(str(config.id2label[place]) for place in range(config.num_labels))


def _limit(tokenizer: Any, model: Any, torch: Any) -> int | None:
    """The most tokens of a text: the tokenizer's limit, and the places that the model has an embedding for."""
    places = getattr(model.config, "max_position_embeddings", None)
    for name, part in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, torch.nn.Embedding):
            # RoBERTa and its like begin to count after the padding's place
            places = part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
    limits = [each for each in (tokenizer.model_max_length, places) if each is not None and 0 < each <= LONGEST]
    return min(limits, default=None)


def _signature(kind: str, labels: tuple[str, ...]) -> Signature:
    text = Field("text", "string", example="good food")
    if kind in ("score", "chance"):
        shape = () if len(labels) == 1 else (len(labels),)
        return Signature((text,), (Field("prediction", "float32", shape),))
    outputs = (Field("prediction", "string"), Field("probability", "float32", (len(labels),)))
    return Signature((text,), outputs, classes=labels)
