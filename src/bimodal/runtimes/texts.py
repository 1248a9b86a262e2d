"""Texts: a classifier of texts (transformers), whose answer to a text does not depend on its neighbours."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bimodal.errors import ModelFailed
from bimodal.rows import Array, Dictionary, Rows
from bimodal.runtimes.contract import Runtime

log = logging.getLogger("bimodal.model")
TOGETHER = 64  # texts of one length in a call on CUDA


class Texts(Runtime):
    """kind: what becomes of the scores: classes (softmax), labels (each for itself), chance (one of those), score.

    Nothing is ever padded. On the CPU every text goes alone: beside others its last bits would change (they did, by
    up to 3e-7, with torch 2.13). On CUDA texts of one length go together, and bits may differ there.
    """

    name = "native"

    def __init__(
        self, torch: Any, tokenizer: Any, model: Any, labels: Sequence[str], kind: str, limit: int | None, device: str
    ) -> None:
        self._torch = torch
        self._tokenizer = tokenizer
        self._model = model
        self._labels = np.array(labels, object)
        self._kind = kind
        self._limit = limit
        self._device = device
        self._lock = threading.Lock()  # a tokenizer is not thread-safe

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        column = rows["text"]
        if isinstance(column, Dictionary):  # a text that comes again is answered once
            used, places = np.unique(column.codes, return_inverse=True)
            scores = self._scores(column.values[used].tolist())[places]
        else:
            scores = self._scores(column.tolist())
        given = self._answers(scores)
        return Rows({name: given[name] for name in outputs}, rows.count)

    def _answers(self, scores: Array) -> dict[str, Array]:
        """float32 [n, labels] as outputs. The formulas are those of transformers' pipeline, in NumPy like there."""
        if self._kind in ("score", "chance"):
            values = scores if self._kind == "score" else _sigmoid(scores)
            return {"prediction": values[:, 0] if values.shape[1] == 1 else values}
        probability = _softmax(scores) if self._kind == "classes" else _sigmoid(scores)
        return {"prediction": self._labels[probability.argmax(axis=1)], "probability": probability}

    def _scores(self, texts: list[str]) -> Array:
        """The model's logits: float32 [n, labels]."""
        try:
            tokens = self._tokens(texts)
            scores = np.empty((len(texts), len(self._labels)), np.float32)
            with self._torch.inference_mode():
                for places in self._groups([len(each) for each in tokens["input_ids"]]):
                    inputs = {
                        name: self._torch.tensor([values[place] for place in places], device=self._device)
                        for name, values in tokens.items()
                    }
                    scores[places] = self._model(**inputs).logits.float().cpu().numpy()
        except Exception as error:  # the model's own code raises what it likes
            log.exception("the model raised")
            raise ModelFailed(
                f"the model raised {type(error).__name__} on these rows; the log has its traceback"
            ) from error
        return scores

    def _tokens(self, texts: list[str]) -> dict[str, list[list[int]]]:
        with self._lock:
            limit = {"truncation": True, "max_length": self._limit} if self._limit is not None else {}
            return dict(self._tokenizer(texts, padding=False, **limit))

    def _groups(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of texts that go together."""
        if self._device == "cpu":
            yield from ([place] for place in range(len(lengths)))
            return
        order = np.argsort(lengths, kind="stable")
        borders = np.flatnonzero(np.diff(np.asarray(lengths)[order])) + 1
        for group in np.split(order, borders):
            yield from (group[start : start + TOGETHER].tolist() for start in range(0, len(group), TOGETHER))


def _softmax(scores: Array) -> Array:
    powers: Array = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _sigmoid(scores: Array) -> Array:
    chances: Array = 1.0 / (1.0 + np.exp(-scores))
    return chances
