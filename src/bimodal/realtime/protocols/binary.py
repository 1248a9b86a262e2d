"""Bodies of Open Inference over REST: JSON alone, or JSON and then the bytes of tensors.

Triton's extension_binary_data.md: the header Inference-Header-Content-Length tells where the JSON ends; a tensor with
the parameter `binary_data_size` has its values behind it, in the order of the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from bimodal.errors import InputError, MalformedInput
from bimodal.realtime.exchange import Request, Respond, Response
from bimodal.realtime.protocols import body, tensors
from bimodal.realtime.protocols.inference import Asked, Parameter, Tensor, Wanted

LENGTH = b"inference-header-content-length"
OCTETS = b"application/octet-stream"
SIZE = "binary_data_size"


class Input(msgspec.Struct):
    """One input, as it is on the wire."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Parameter] | None = None


class Output(msgspec.Struct):
    """One output that is asked for."""

    name: str
    parameters: dict[str, Parameter] | None = None


class Inference(msgspec.Struct):
    """A request."""

    inputs: list[Input]
    id: str | None = None
    outputs: list[Output] | None = None
    parameters: dict[str, Parameter] | None = None


LACKS = re.compile(r"Object missing required field `(.*)`")
STEPS = re.compile(r"\.(\w+)|\[(\d+)\]")
NEEDS = re.compile(r"Expected `(.*)`, got `(.*)`")
WORDS = {
    "array": "a list", "object": "an object", "str": "text", "int": "a whole number", "float": "a number",
    "bool": "true or false", "null": "null",
}  # fmt: skip
_decode = msgspec.json.Decoder(Inference).decode


def asked(request: Request, depth: int) -> Asked:
    """The request that a body holds. Raises InputError (MalformedInput, TooLarge)."""
    text, rest = _split(request)
    told = _told(text, depth)
    given, at = [], 0
    for each in told.inputs:
        size = _size(each)
        if size is None:
            if each.data is msgspec.UNSET:
                raise tensors.wrong(each.name, "it has neither data nor binary_data_size")
            given.append(Tensor(each.name, each.datatype, each.shape, each.data, each.parameters))
            continue
        if each.data is not msgspec.UNSET:
            raise tensors.wrong(each.name, "it has both data and binary_data_size")
        if size > len(rest) - at:
            raise tensors.wrong(each.name, f"binary_data_size is {size} bytes, {len(rest) - at} are left of the body")
        values = tensors.decode(each.datatype, each.shape, rest[at : at + size], each.name)
        given.append(Tensor(each.name, each.datatype, each.shape, values, each.parameters))
        at += size
    if at != len(rest):
        raise InputError(f"{len(rest) - at} bytes follow the last tensor of the body")
    wanted = None if told.outputs is None else [Wanted(each.name, each.parameters) for each in told.outputs]
    return Asked(given, told.id, told.parameters or {}, wanted)


def names(request: Asked, outputs: Sequence[str]) -> frozenset[str]:
    """The outputs to be answered as bytes. Raises InputError."""
    common = _flag("binary_data_output", request.parameters, False, None)
    own = {each.name: _flag("binary_data", each.parameters, common, each.name) for each in request.wanted or ()}
    return frozenset(name for name in outputs if own.get(name, common))


class Reply:
    """A request with its answer on the way out. length: of the JSON, where bytes follow it."""

    __slots__ = ("asked", "binary", "length")

    def __init__(self, asked: Asked, binary: frozenset[str]) -> None:
        self.asked = asked
        self.binary = binary
        self.length = 0

    def told(self, head: Mapping[str, Any], given: Sequence[Tensor], encode: Callable[[Any], bytes]) -> bytes:
        """The body: `head` and the tensors, those of binary outputs (and the validity of one) behind the JSON."""
        outputs, parts = [], []
        for each in given:
            entry: dict[str, Any] = {"name": each.name, "shape": each.shape, "datatype": each.datatype}
            if each.name.removesuffix(":validity") in self.binary:
                parts.append(tensors.encode(each.values, each.datatype))  # type: ignore[arg-type]  # an answer's are arrays
                entry["parameters"] = {SIZE: len(parts[-1])}
            else:
                entry["data"] = each.values.reshape(-1).tolist()  # type: ignore[union-attr]  # the same
            outputs.append(entry)
        text = encode({**head, "outputs": outputs})
        if not parts:
            return text
        self.length = len(text)
        return b"".join([text, *parts])

    def over(self, respond: Respond) -> Respond:
        """`respond`, with the headers of a body that has bytes."""

        def answered(response: Response) -> None:
            if self.length and response.status == 200:
                response.content_type = OCTETS
                response.headers = (*response.headers, (LENGTH, b"%d" % self.length))
            respond(response)

        return answered


def _split(request: Request) -> tuple[bytes, memoryview]:
    told = request.headers.get(LENGTH)
    whole = request.body
    if told is None:
        return whole, memoryview(b"")
    if not told.isdigit() or len(told) > 18:
        raise MalformedInput("the header Inference-Header-Content-Length needs the number of bytes of the JSON")
    length = int(told)
    if length > len(whole):
        raise MalformedInput(
            f"the header Inference-Header-Content-Length tells of {length} bytes of JSON, the body has {len(whole)}"
        )
    return whole[:length], memoryview(whole)[length:]


def _told(text: bytes, depth: int) -> Inference:
    if text.isascii() and body.shallow(text, depth):
        try:
            return _decode(text)
        except body.BROKEN:
            pass  # what is wrong is told below
    value = body.decode(text, depth)
    try:
        return msgspec.convert(value, Inference)
    except msgspec.ValidationError as error:
        raise MalformedInput(f"the body is no inference request: {sentence(_keyed(str(error), value))}") from None


def _keyed(reason: str, told: Any) -> str:
    """The same with the key of a parameter where the decoder leaves it out."""
    path, dots, _ = reason.partition(" - at ")[2].partition("[...]")
    if not dots:
        return reason
    for key, place in STEPS.findall(path):
        told = told[key] if key else told[int(place)]
    wrong = next((key for key, value in told.items() if not isinstance(value, Parameter)), "...")
    return reason.replace(dots, f"[{wrong[:20]!r}]")


def sentence(reason: str) -> str:
    """What the decoder found wrong in the shape of a body, in words of JSON."""
    what, _, place = reason.partition(" - at ")
    where = place.strip("`").removeprefix("$").removeprefix(".")
    lacks = LACKS.fullmatch(what)
    if lacks:
        return f'it needs "{lacks[1]}"' + (f" in {where}" if where else "")
    needs = NEEDS.fullmatch(what)
    if needs:
        wanted = " or ".join(WORDS.get(kind, kind) for kind in needs[1].split(" | "))
        return f"{where or 'it'} is {WORDS.get(needs[2], needs[2])} where {wanted} is needed"
    return f"{where or 'it'} cannot be read"


def _size(each: Input) -> int | None:
    size = (each.parameters or {}).get(SIZE)
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise tensors.wrong(each.name, "the parameter binary_data_size needs a number of bytes")
    return size


def _flag(name: str, parameters: Mapping[str, Parameter] | None, default: bool, column: str | None) -> bool:
    value = (parameters or {}).get(name, default)
    if not isinstance(value, bool):
        sentence = f"the parameter {name} needs true or false"
        raise InputError(sentence) if column is None else tensors.wrong(column, sentence)
    return value
