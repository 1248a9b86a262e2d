"""GGUF files: models of llama.cpp, run by llama-cpp-python, without a network.

No code from the file but its chat template, in the library's sandbox.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
import logging
import platform
import re
from pathlib import Path
from typing import Any

from bimodal.errors import ModelError
from bimodal.field import listed, nearest
from bimodal.formats.causal import inputs
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.library import library
from bimodal.formats.yielded import ANSWER
from bimodal.runtimes.llama import Llamas, Options
from bimodal.signature import Signature

log = logging.getLogger("bimodal.model")
MAGIC = b"GGUF"
PART = re.compile(r"(?P<name>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


class Gguf(Format):
    name = "gguf"
    describes = "language models of llama.cpp (.gguf)"

    def matches(self, path: str, head: bytes) -> bool:
        return head.startswith(MAGIC)

    def files(self, path: Path) -> tuple[Path, ...]:
        """All parts of a model in several files, and its options. Raises ModelError where a part is not there."""
        options = options_file(path)
        return (*_parts(path), *([options] if options.is_file() else []))

    def load(self, source: Source) -> Loaded:
        _parts(source.file)
        options = read(options_file(source.file))
        llama_cpp = library("llama_cpp")
        try:
            runtime = Llamas(llama_cpp, source.path, options, may_try=source.may_try())
        except (ValueError, RuntimeError) as error:  # the library's words name the file alone
            log.error("llama.cpp refused the model", exc_info=error)
            raise ModelError(
                f"{source.path} is damaged, needs more memory than there is, or is of a kind that llama-cpp-python "
                f"{llama_cpp.__version__} does not know (the log has its words); see what options it has: {OPTIONS}"
            ) from error
        facts = runtime.facts()
        if facts["causal"] == "false":
            raise ModelError(f"{source.path} makes vectors of texts, and generates none; export it to ONNX")
        signature = Signature(inputs(template=facts["template"]), ANSWER)
        runtime.promise(signature)
        versions = {"python": platform.python_version(), "llama-cpp-python": str(llama_cpp.__version__)}
        told = {name: value for name, value in facts.items() if name != "causal"}
        return Loaded(runtime, signature, versions, (), {"kind": "text generation", **told})


OPTIONS = ", ".join(Options.__dataclass_fields__)


def options_file(model: Path) -> Path:
    """Where the options of a model stand: `llm.gguf.json` beside `llm.gguf`."""
    return model.with_name(f"{model.name}.json")


def read(file: Path) -> Options:
    """The options in a file; those of a model without one where there is none. Raises ModelError."""
    try:
        told: Any = json.loads(file.read_bytes())
    except FileNotFoundError:
        return Options()
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(told, dict):
        raise ModelError(f'{file} holds no JSON object; write it like {{"n_ctx": 8192}}')
    for name, value in told.items():
        if name not in Options.__dataclass_fields__:
            near = nearest(name, list(Options.__dataclass_fields__))
            hint = f"did you mean {near}?" if near else f"there are {OPTIONS}"
            raise ModelError(f"{file}: there is no option {name!r}; {hint}")
        least = -1 if name == "n_gpu_layers" else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ModelError(f"{file}: {name} is an integer from {least} on")
    return Options(**told)


def _parts(path: Path) -> tuple[Path, ...]:
    found = PART.fullmatch(path.name)
    if found is None:
        return (path,)
    count = int(found["count"])
    parts = [path.with_name(f"{found['name']}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]
    if int(found["number"]) != 1:
        raise ModelError(f"{path} is a part of a model; name the first: {parts[0].name if parts else 'there is none'}")
    absent = [each.name for each in parts if not each.is_file()]
    if absent:
        raise ModelError(f"{path} lacks its other parts {listed(absent, 3)}; copy them beside it")
    return tuple(parts)
