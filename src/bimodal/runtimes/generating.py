"""Text token by token, from a causal model of transformers: its own `generate`, piece by piece.

Each answer is generated in a thread that waits while nobody takes its tokens, and ends at the next token when the
reader has left. Tokens are drawn with a generator of random numbers of the answer's own, so that a seed gives the same
text whatever is generated beside it.
"""

from __future__ import annotations

import copy
import logging
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from bimodal.errors import InputError
from bimodal.rows import Rows
from bimodal.runtimes.collected import collected
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.yielding import Yielding
from bimodal.signature import Signature

log = logging.getLogger("bimodal.model")
STREAMS = 4  # answers side by side: each token is a call of the model, and they share the processor
USUAL = 256  # tokens of an answer, where neither the caller nor the model says
BEHIND = 0.1  # seconds between two looks whether the reader is still there, of an answer that waits


class Generating(Runtime):
    """places: tokens that the model has room for, those of the question among them; None where it has no bound."""

    name = "native"
    streams = STREAMS

    def __init__(
        self, torch: Any, transformers: Any, tokenizer: Any, model: Any, places: int | None, signature: Signature
    ) -> None:
        self._torch = torch
        self._transformers = transformers
        self._tokenizer = tokenizer
        self._model = model
        self._places = places
        self._signature = signature
        self._lock = threading.Lock()  # a tokenizer is not thread-safe
        ends = model.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        self._ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
        self._yielding = Yielding(self._answer, signature.inputs, STREAMS)
        self._yielding.promise(signature.outputs)

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        return collected(self.stream, rows, outputs, self._signature, 1)

    def stream(self, rows: Rows, outputs: Sequence[str]) -> Generator[Rows]:
        return self._yielding.stream(rows, outputs)

    def _answer(self, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
        tokens = self._tokens(record)
        most = self._most(record, len(tokens))
        words = Words(self._tokenizer, self._lock)
        yield {"prompt_tokens": len(tokens)}
        count, last = 0, None
        for last in self._generated(tokens, most, record):
            count += 1
            text = "" if last in self._ends else words.add(last)
            if text:
                yield {"text": text, "completion_tokens": count}
        reason = "stop" if last in self._ends else "length"
        yield {"text": words.rest(), "finish_reason": reason, "completion_tokens": count}

    def _tokens(self, record: dict[str, Any]) -> list[int]:
        """The question. Raises InputError."""
        messages, text = record.get("messages"), record.get("text")
        if (messages is None) == (text is None):
            raise InputError("either text or messages must be given", column="text")
        with self._lock:
            if messages is None:
                found = self._tokenizer(text)["input_ids"]
            else:
                found = self._tokenizer(self._written(messages), add_special_tokens=False)["input_ids"]
        if not found:
            raise InputError("the text has no token", column="text")
        return list(found)

    def _written(self, messages: Any) -> str:
        """The conversation as the model was trained to read it."""
        try:
            written = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # the template is the model's own code, in a sandbox
            log.info("a template refused messages", exc_info=error)
            raise InputError(
                "the model's chat template does not take these messages: their roles, or their order", column="messages"
            ) from error
        return str(written)

    def _most(self, record: dict[str, Any], there: int) -> int:
        """How many tokens the answer may have."""
        wanted = record.get("max_tokens")
        if wanted is not None and wanted < 1:
            raise InputError("an integer from 1 on is needed", column="max_tokens")
        most = int(wanted or self._model.generation_config.max_new_tokens or USUAL)
        if self._places is None:
            return most
        if there >= self._places:
            raise InputError(f"{there} tokens, where the model has room for {self._places} with its answer")
        return min(most, self._places - there)

    def _generated(self, tokens: list[int], most: int, record: dict[str, Any]) -> Iterator[int]:
        """The tokens, as they come."""
        handed = Handed(self._torch)
        thread = threading.Thread(target=self._generate, args=(tokens, most, record, handed), daemon=True)
        thread.start()
        try:
            yield from handed
        finally:
            handed.left.set()
            thread.join()

    def _generate(self, tokens: list[int], most: int, record: dict[str, Any], handed: Handed) -> None:
        torch = self._torch
        config = copy.deepcopy(self._model.generation_config)
        draw = Draw.of(torch, config, record, self._model.device)
        config.update(do_sample=False, temperature=None, top_p=None, top_k=None, num_beams=1)
        config.update(max_new_tokens=most, max_length=None, min_length=None)
        config.pad_token_id = config.pad_token_id if config.pad_token_id is not None else next(iter(self._ends), 0)
        asked = torch.tensor([tokens], device=self._model.device)
        error: Exception | None = None
        try:
            with torch.inference_mode():
                self._model.generate(
                    asked,
                    attention_mask=torch.ones_like(asked),
                    generation_config=config,
                    streamer=handed,
                    stopping_criteria=self._transformers.StoppingCriteriaList([handed.is_left]),
                    logits_processor=self._transformers.LogitsProcessorList([] if draw is None else [draw]),
                )
        except Exception as raised:  # told to the reader, in whose thread it is raised again
            error = raised
        handed.finish(error)


class Handed:
    """Tokens from the thread that generates them to the one that reads them: the streamer of `generate`."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._queue: queue.Queue[tuple[int | None, Exception | None]] = queue.Queue(maxsize=1)
        self._asked = False
        self.left = threading.Event()  # the reader is gone

    def put(self, value: Any) -> None:
        if not self._asked:  # the question comes first
            self._asked = True
            return
        for token in value.reshape(-1).tolist():
            self._hand((token, None))

    def end(self) -> None:
        """Nothing: `finish` tells more."""

    def finish(self, error: Exception | None) -> None:
        self._hand((None, error))

    def is_left(self, tokens: Any, scores: Any, **_: Any) -> Any:
        """The criterion that stops a generation."""
        return self._torch.full((tokens.shape[0],), self.left.is_set(), dtype=self._torch.bool, device=tokens.device)

    def __iter__(self) -> Iterator[int]:
        while True:
            token, error = self._queue.get()
            if error is not None:
                raise error
            if token is None:
                return
            yield token

    def _hand(self, item: tuple[int | None, Exception | None]) -> None:
        while not self.left.is_set():
            try:
                return self._queue.put(item, timeout=BEHIND)
            except queue.Full:
                continue
        return None


class Draw:
    """Draws the next token by temperature, top_k and top_p: a logits processor that leaves one choice."""

    def __init__(self, torch: Any, temperature: float, top_p: float, top_k: int, generator: Any) -> None:
        self._torch = torch
        self._temperature = temperature
        self._top_p = top_p
        self._top_k = top_k
        self._generator = generator

    @classmethod
    def of(cls, torch: Any, config: Any, record: dict[str, Any], device: Any) -> Draw | None:
        """None where the likeliest token is taken: the model is configured so, or the temperature is 0."""
        temperature, top_p, seed = (record.get(name) for name in ("temperature", "top_p", "seed"))
        if temperature is None:
            drawn = config.do_sample or top_p is not None or seed is not None
            temperature = (config.temperature or 1.0) if drawn else 0.0
        if not temperature > 0:
            return None
        generator = torch.Generator(device=device)
        generator.manual_seed(seed % 2**63) if seed is not None else generator.seed()
        top_k = (config.top_k or 0) if config.do_sample else 0
        return cls(torch, temperature, float(top_p or config.top_p or 1.0), top_k, generator)

    def __call__(self, tokens: Any, scores: Any) -> Any:
        torch = self._torch
        chances = torch.softmax(scores.float() / self._temperature, dim=-1)
        ordered, places = chances.sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered
        ordered = ordered.masked_fill(before >= self._top_p, 0.0)  # the likeliest always stays
        if self._top_k:
            ordered[..., self._top_k :] = 0.0
        drawn = places.gather(-1, torch.multinomial(ordered, 1, generator=self._generator))
        return torch.full_like(scores, float("-inf")).scatter(-1, drawn, 0.0)


class Words:
    """Text out of tokens: a piece is told when it can no longer change, at the end of a character.

    How a token is written depends on the one before it (a space, half a character), so each is decoded with the piece
    before; never with the whole text, which would cost ever more.
    """

    def __init__(self, tokenizer: Any, lock: threading.Lock) -> None:
        self._tokenizer = tokenizer
        self._lock = lock
        self._before: list[int] = []  # the tokens of the piece that was told last
        self._new: list[int] = []

    def add(self, token: int) -> str:
        self._new.append(token)
        text = self._text()
        if text.endswith("\ufffd"):  # a character's first bytes
            return ""
        if text:
            self._before, self._new = self._new, []
        return text

    def rest(self) -> str:
        return self._text()

    def _text(self) -> str:
        with self._lock:
            before = self._tokenizer.decode(self._before, skip_special_tokens=True)
            return str(self._tokenizer.decode(self._before + self._new, skip_special_tokens=True))[len(before) :]
