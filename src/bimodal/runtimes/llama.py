"""Text piece by piece from llama.cpp, through llama-cpp-python: its own template, sampling and stops.

What an answer with the same options says depends on nothing that was asked before. Of the question, as much as was also
the beginning of the one before and had been computed in whole batches is not computed again, which gives the same bits.
"""

from __future__ import annotations

import codecs
import ctypes
import inspect
import logging
import os
import queue
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from bimodal.errors import InputError
from bimodal.rows import Rows
from bimodal.runtimes.collected import collected
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.stops import Stops
from bimodal.runtimes.yielding import Yielding
from bimodal.signature import Signature

log = logging.getLogger("bimodal.model")
ROOM = 4096  # tokens, where the model was trained for more and nobody says: its memory grows with them
USUAL = 256  # tokens of an answer, where the caller does not say
WAITING = 8  # answers that wait for the end of others before one more is refused
WAIT = 1.0  # seconds between two signs of life of an answer that waits
SEED = 1  # of an answer for which the caller leaves all to the model: the same each time
TRIED = 4  # tokens that are computed to see how fast a number of threads is
GENERATE = {"temperature": "temp"}  # what `generate` calls otherwise than `create_completion`
NEAR = 1.1  # times the shortest time that fewer threads may take


@dataclass(frozen=True)
class Options:
    """As llama.cpp calls them. None: as the model and the machine are.

    n_ctx: tokens of question and answer together. n_batch: tokens of a question computed at once. n_gpu_layers: layers
    on the GPU, -1 for all. n_threads: of the processor. streams: answers side by side, each with memory of its own.
    """

    n_ctx: int | None = None
    n_batch: int = 512
    n_gpu_layers: int | None = None
    n_threads: int | None = None
    streams: int = 1


class Llamas(Runtime):
    """As many contexts of one model as it gives answers side by side; its file is mapped into memory once."""

    name = "native"

    def __init__(self, llama_cpp: Any, path: str, options: Options, *, may_try: bool) -> None:
        self._llama_cpp = llama_cpp
        self._contexts = options.streams
        self.streams = options.streams + WAITING
        self._free: queue.Queue[Any] = queue.Queue()
        for _ in range(options.streams):
            self._free.put(llama_cpp.Llama(path, **_settings(llama_cpp, path, options)))
        first = self._free.queue[0]
        self._threads = options.n_threads or _threads(llama_cpp, first, may_try=may_try)
        for each in self._free.queue:
            llama_cpp.llama_set_n_threads(each.ctx, self._threads, self._threads)
        self._first = first
        self._room = int(min(first.n_ctx(), _trained(first.metadata.get) or first.n_ctx()))

    def facts(self) -> dict[str, Any]:
        told = self._first.metadata
        architecture = told.get("general.architecture", "")
        return {
            "architecture": architecture,
            "causal": told.get(f"{architecture}.attention.causal"),
            "tokens": self._room,
            "template": "tokenizer.chat_template" in told,
            "threads": self._threads,
            "streams": self._contexts,
        }

    def promise(self, signature: Signature) -> None:
        """What it takes and gives."""
        self._signature = signature
        self._yielding = Yielding(self._answer, signature.inputs, self.streams)
        self._yielding.promise(signature.outputs)

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        return collected(self.stream, rows, outputs, self._signature, 1)

    def stream(self, rows: Rows, outputs: Sequence[str]) -> Generator[Rows]:
        return self._yielding.stream(rows, outputs)

    def _answer(self, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
        question = _question(self._first, record)
        most = self._most(record, len(question.tokens))
        yield {"prompt_tokens": len(question.tokens)}
        while (llama := self._taken()) is None:
            yield {"completion_tokens": 0}  # that its reader has left is noticed here
        try:
            yield from self._said(llama, question, most)
        finally:
            self._free.put(llama)

    def _taken(self) -> Any | None:
        """A context, once one is free; None where that takes longer than WAIT."""
        try:
            return self._free.get(timeout=WAIT)
        except queue.Empty:
            return None

    def _said(self, llama: Any, question: Question, most: int) -> Iterator[dict[str, Any]]:
        """The pieces: one a token, also where its text is still to come, so that a reader who left is noticed."""
        over = partial(self._llama_cpp.llama_vocab_is_eog, self._llama_cpp.llama_model_get_vocab(llama.model))
        words, stops = codecs.getincrementaldecoder("utf-8")("ignore"), Stops(question.stops)
        reason, count = "stop", 0
        with closing(begun(llama, question)) as tokens:
            for token in tokens:
                if over(token):
                    break
                count += 1
                yield {"text": stops.feed(words.decode(llama.detokenize([token]))), "completion_tokens": count}
                if stops.found:
                    break
                if count == most:
                    reason = "length"
                    break
        rest = stops.feed(words.decode(b"", final=True)) + stops.rest()
        yield {"text": rest, "completion_tokens": count, "finish_reason": reason}

    def _most(self, record: dict[str, Any], there: int) -> int:
        """How many tokens the answer may have. Raises InputError."""
        wanted = record.get("max_tokens")
        if wanted is not None and wanted < 1:
            raise InputError("an integer from 1 on is needed", column="max_tokens")
        if not there:
            raise InputError("the text has no token", column="text")
        if there >= self._room:
            raise InputError(f"{there} tokens, where the model has room for {self._room} with its answer")
        return min(int(wanted or USUAL), self._room - there)


def _settings(llama_cpp: Any, path: str, options: Options) -> dict[str, Any]:
    layers = options.n_gpu_layers
    if layers is None:
        layers = -1 if llama_cpp.llama_supports_gpu_offload() else 0
    room = options.n_ctx
    if room is None:
        room = min(_ahead(llama_cpp, path) or ROOM, ROOM)
    return {"n_ctx": room, "n_batch": options.n_batch, "n_gpu_layers": layers, "verbose": False}


def _ahead(llama_cpp: Any, path: str) -> int:
    """Tokens that the model was trained to see at once, before its weights are read. 0 where the file does not say."""
    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)  # it tells all about the file otherwise
    llama_cpp.llama_backend_init()
    how = llama_cpp.llama_model_default_params()
    how.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(path.encode(), how)
    if not model:
        return 0  # loading it tells more

    def told(key: str) -> str | None:
        written = ctypes.create_string_buffer(256)
        length = llama_cpp.llama_model_meta_val_str(model, key.encode(), written, len(written))
        return written.value.decode("utf-8", "replace") if length >= 0 else None

    try:
        return _trained(told)
    finally:
        llama_cpp.llama_model_free(model)


def _trained(told: Callable[[str], str | None]) -> int:
    """The same out of the file's metadata."""
    return int(told(f"{told('general.architecture')}.context_length") or 0)


def _threads(llama_cpp: Any, llama: Any, *, may_try: bool) -> int:
    """The number of threads with which a token takes the least time; fewer where that is about as short."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    counts = sorted({1, max(1, cores // 2), cores})
    if not may_try or len(counts) == 1:
        return max(1, cores // 2)
    token = max(llama.token_bos(), 0)
    llama.eval([token])  # reads the file
    times = {}
    for count in counts:
        llama_cpp.llama_set_n_threads(llama.ctx, count, count)
        start = time.perf_counter()
        for _ in range(TRIED):
            llama.eval([token])
        times[count] = time.perf_counter() - start
    llama.reset()
    return next(count for count in counts if times[count] <= min(times.values()) * NEAR)


@dataclass(frozen=True)
class Question:
    """tokens: with the template around them. drawing: what `generate` is told. stops: texts that end the answer."""

    tokens: list[int]
    drawing: dict[str, Any]
    seed: int
    stops: tuple[str, ...] = ()


def _question(llama: Any, record: dict[str, Any]) -> Question:
    """As the library puts it itself. Raises InputError."""
    messages, text = record.get("messages"), record.get("text")
    if (messages is None) == (text is None):
        raise InputError("either text or messages must be given", column="text")
    drawn = _drawn(record)
    seed = drawn.pop("seed")
    if text is not None:
        given = {GENERATE.get(name, name): value for name, value in drawn.items()}
        return Question(llama.tokenize(text.encode(), special=True), given, seed)
    heard = Overheard(llama)
    try:
        type(llama).create_chat_completion(heard, messages, stream=True, **drawn)
    except Exception as error:  # the template is the model's own code, in a sandbox
        log.info("a template refused messages", exc_info=error)
        raise InputError(
            "the model's chat template does not take these messages: their roles, or their order", column="messages"
        ) from error
    asked = {GENERATE.get(name, name): value for name, value in heard.asked.items()}
    known = inspect.signature(llama.generate).parameters
    given = {name: value for name, value in asked.items() if name in known}
    stops = asked.get("stop") or ()
    return Question(asked["prompt"], given, seed, tuple(each for each in stops if each))


def begun(llama: Any, question: Question) -> Generator[int]:
    """The answer's tokens. What the last question left is forgotten, but for whole batches of one that begins alike."""
    tokens, before = question.tokens, llama.__dict__.get("asked", ())
    pairs = zip(before, tokens[:-1], strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    llama.n_tokens = min(llama.n_tokens, alike // llama.n_batch * llama.n_batch)
    llama.asked = tuple(tokens)
    llama.set_seed(question.seed)
    made: Generator[int] = llama.generate(tokens, **question.drawing)
    return made


def _drawn(record: dict[str, Any]) -> dict[str, Any]:
    """How tokens are drawn: what the caller does not say is as llama-cpp-python has it; the seed is always said."""
    given = {name: record[name] for name in ("temperature", "top_p") if record.get(name) is not None}
    seed = record.get("seed")
    if seed is None:
        seed = secrets.randbits(32) if given else SEED
    return {**given, "seed": seed % 2**32}


class Overheard:
    """Stands for a Llama in its own chat: keeps what that would have been completed, and completes nothing."""

    def __init__(self, llama: Any) -> None:
        self._llama = llama
        self.asked: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llama, name)

    def create_completion(self, **asked: Any) -> Iterator[Any]:
        self.asked = asked
        return iter(())
