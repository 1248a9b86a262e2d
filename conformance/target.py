"""The server under test: raw HTTP, raw gRPC, what it tells of itself, and the models that can be asked."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as messages

from conformance.catalogue import Absent, Fault
from conformance.models.twins import TWINS
from conformance.tensors import DATATYPES, Tensor, flat, from_json, from_raw, plain, raw, tensor

SERVICE = "/inference.GRPCInferenceService/"
LENGTH = "inference-header-content-length"
SHOWN = 300  # characters of a request or an answer in the report


@dataclass(frozen=True)
class Reply:
    """An answer over HTTP, with what was asked."""

    asked: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"{self.status} {shown(self.body)}"

    def json(self) -> Any:
        """The body as strict JSON: NaN and Infinity are none."""
        return strict(self.body, self)

    def object(self) -> dict[str, Any]:
        """The JSON object of an answer that must be 200."""
        expect(self.status == 200, f"the status is {self.status}, not 200", self)
        value = self.json()
        expect(isinstance(value, dict), "the body is no JSON object", self)
        return dict(value)


@dataclass(frozen=True)
class Called:
    """How a gRPC call ended."""

    asked: str
    code: grpc.StatusCode
    details: str
    message: Any
    trailers: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.code is grpc.StatusCode.OK:
            return shown(str(self.message).replace("\n", " ").encode())
        return f"{self.code.name}: {shown(self.details.encode())}"

    def good(self) -> Any:
        expect(self.code is grpc.StatusCode.OK, f"the status is {self.code.name}, not OK", self)
        return self.message


def shown(data: bytes) -> str:
    text = data[:SHOWN].decode(errors="replace")
    return text + (f" … ({len(data)} bytes)" if len(data) > SHOWN else "")


def strict(data: bytes, reply: Any = None) -> Any:
    """JSON by RFC 8259. Raises Fault."""

    def refuse(name: str) -> None:
        raise Fault(f"{name} is no JSON", getattr(reply, "asked", ""), str(reply))

    try:
        return json.loads(data, parse_constant=refuse)
    except ValueError:
        raise Fault("the body is no JSON", getattr(reply, "asked", ""), str(reply)) from None


def expect(holds: object, told: str, answer: Reply | Called | None = None) -> None:
    """Raises Fault, with what was asked and answered, unless it holds."""
    if not holds:
        raise Fault(told, answer.asked if answer else "", str(answer) if answer else "")


@dataclass(frozen=True)
class Subject:
    """A model that can be asked: its ports as the server tells them.

    given: of inputs that it takes, values by name, one a row; without them they are made up.
    """

    name: str
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    versions: tuple[str, ...]
    given: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"/v2/models/{quote(self.name, safe='')}"

    def batched(self) -> bool:
        """Whether rows are the first dimension of every input."""
        return all(each["shape"] and each["shape"][0] == -1 for each in self.inputs)

    def sample(self, rows: int = 1, seed: int = 0) -> list[Tensor]:
        """Inputs out of those that were given, else made from the metadata: numbers from 1 to 9, digits as text; -1 is
        the number of rows.
        """
        dice = random.Random(seed)
        if self.given:
            places = [dice.randrange(min(map(len, self.given.values()))) for _ in range(rows)]
            ports = [each for each in self.inputs if each["name"] in self.given]
            return [_taken(port, [self.given[port["name"]][place] for place in places]) for port in ports]
        made = []
        for each in self.inputs:
            shape = [rows if size == -1 else int(size) for size in each["shape"]] or [rows]
            count = 1
            for size in shape:
                count *= size
            numbers = [dice.randint(1, 9) for _ in range(count)]
            values: Sequence[Any] = [str(number) for number in numbers]
            if each["datatype"] == "BOOL":
                values = [number > 4 for number in numbers]
            elif each["datatype"] != "BYTES":
                values = numbers
            made.append(tensor(each["name"], each["datatype"], shape, values))
        return made


def _taken(port: Mapping[str, Any], values: Sequence[Any]) -> Tensor:
    """An input with these values, one a row. What is no text where text is one value goes as JSON."""
    if port["datatype"] == "BYTES" and len(port["shape"]) == 1:
        values = [each if isinstance(each, str) else json.dumps(each) for each in values]
    return tensor(port["name"], port["datatype"], np.shape(np.array(values, object)), flat(list(values)))


class Target:
    """url: of the HTTP port. grpc_address: host:port, or None. model: the one to ask where no known one is there.

    headers: sent with every request, as metadata over gRPC. inputs: what the model takes, as Subject.given.
    """

    def __init__(
        self,
        url: str,
        grpc_address: str | None,
        model: str | None = None,
        timeout: float = 30,
        headers: Mapping[str, str] | None = None,
        inputs: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.address = f"{self.host}:{self.port}"
        self.grpc_address, self.timeout, self._named = grpc_address, timeout, model
        self.headers = dict(headers or {})
        self._given = dict(inputs or {})
        self._connection: http.client.HTTPConnection | None = None

    # -- HTTP -------------------------------------------------------------------------------------------------------

    def http(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request. A connection is kept; one that the server has closed is opened anew, once."""
        fields = {**self.headers, **(headers or {})}
        if body is not None:
            fields.setdefault("Content-Type", "application/json")
        asked = f"{method} {path} {shown(body or b'')}".strip()
        for attempt in (1, 2):
            connection = self._connection or http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
            self._connection = None
            try:
                connection.request(method, path, body, fields)
                response = connection.getresponse()
                data = response.read()
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                if attempt == 2 or isinstance(error, TimeoutError):
                    raise Fault(f"no answer ({type(error).__name__}: {error})", asked) from None
                continue
            if not response.will_close:
                self._connection = connection
            told = {name.lower(): value for name, value in response.getheaders()}
            return Reply(asked, response.status, told, data)
        raise AssertionError("not reached")

    def get(self, path: str) -> Reply:
        return self.http("GET", path)

    def post(self, path: str, value: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """value: sent as JSON, or as it is when it is bytes; None: an empty body."""
        body = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
        return self.http("POST", path, body, headers)

    def infer(self, subject: Subject, value: Any, headers: Mapping[str, str] | None = None) -> Reply:
        return self.post(f"{subject.path}/infer", value, headers)

    def answers(self, subject: Subject, inputs: Sequence[Tensor], **rest: Any) -> list[Tensor]:
        """The output tensors of an inference in JSON that must succeed."""
        return outputs(self.infer(subject, asking(inputs, **rest)))

    def binary(
        self, subject: Subject, inputs: Sequence[Tensor], *, told: Mapping[str, Any] | None = None, tail: bytes = b""
    ) -> Reply:
        """An inference with every input as binary data. told: members of the request beside its inputs."""
        head: dict[str, Any] = {"inputs": [], **(told or {})}
        pieces = []
        for each in inputs:
            data = raw(each)
            pieces.append(data)
            about = {"name": each.name, "shape": list(each.shape), "datatype": each.datatype}
            head["inputs"].append({**about, "parameters": {"binary_data_size": len(data)}})
        return self.framed(subject, head, b"".join(pieces) + tail)

    def framed(self, subject: Subject, head: Any, data: bytes, length: str | None = None) -> Reply:
        """A body of JSON and bytes behind it. length: of the JSON, where it is not to be the true one."""
        text = json.dumps(head).encode()
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
        if length is not None:
            headers["Inference-Header-Content-Length"] = length
        return self.infer(subject, text + data, headers)

    # -- gRPC -------------------------------------------------------------------------------------------------------

    @cached_property
    def channel(self) -> grpc.Channel:
        if self.grpc_address is None:
            raise Absent("no gRPC address was given")
        return grpc.insecure_channel(self.grpc_address, options=[("grpc.max_receive_message_length", -1)])

    def call(self, method: str, message: Any = None, *, timeout: float | None = None, service: str = SERVICE) -> Called:
        """A unary call by the name of its method. message: of the protocol, or bytes to send as they are."""
        kind = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name.get(method)
        sent = message if isinstance(message, bytes) else b"" if message is None else message.SerializeToString()
        answer = getattr(messages, kind.output_type.name).FromString if kind and service == SERVICE else None
        asked = f"{method} {shown(str(message or '').replace(chr(10), ' ').encode())}"
        unary = self.channel.unary_unary(f"{service}{method}", response_deserializer=answer)
        try:
            got, call = unary.with_call(sent, timeout=timeout or self.timeout, metadata=self.sent_along)
        except grpc.RpcError as error:
            return Called(asked, error.code(), error.details() or "", None, tuple(error.trailing_metadata() or ()))
        return Called(asked, call.code(), "", got, tuple(call.trailing_metadata() or ()))

    @property
    def sent_along(self) -> list[tuple[str, str]]:
        """The headers of every request, as metadata."""
        return [(name.lower(), value) for name, value in self.headers.items()]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if "channel" in self.__dict__:
            self.channel.close()

    # -- what it tells of itself --------------------------------------------------------------------------------------

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return self.get("/v2").object()

    @cached_property
    def extensions(self) -> frozenset[str]:
        told = self.metadata.get("extensions", [])
        return frozenset(told if isinstance(told, list) else ())

    def model(self, name: str) -> Subject | None:
        """A model by name, or None where the server has none of that name."""
        reply = self.get(f"/v2/models/{quote(name, safe='')}")
        if reply.status != 200:
            return None
        told = reply.object()
        ports = [tuple(told.get(each) or ()) for each in ("inputs", "outputs")]
        known = TWINS.get(name)
        if known and not ports[0]:  # a server that tells no signature still has the model that the suite knows
            ports = [tuple(_told(port) for port in each) for each in (known.inputs, known.outputs)]
        given = self._given if name == self._named else {}
        return Subject(name, ports[0], ports[1], tuple(map(str, told.get("versions") or ())), given)

    @cached_property
    def known(self) -> dict[str, Subject]:
        """Those of the known models that are there."""
        found = {name: self.model(name) for name in TWINS}
        return {name: subject for name, subject in found.items() if subject is not None}

    def needs(self, name: str) -> Subject:
        """A known model. Raises Absent."""
        if name not in self.known:
            raise Absent(f"the model {name} is not there")
        return self.known[name]

    @cached_property
    def subject(self) -> Subject:
        """The model of the general checks: the one that was named, else pair, else any known one."""
        if self._named is None:
            for name in ("pair", *self.known):
                if name in self.known:
                    return self.known[name]
            raise SystemExit("no known model is there: name one with --model, or see `python -m conformance.models`")
        found = self.model(self._named)
        if found is None:
            raise SystemExit(f"the server has no model {self._named!r}")
        return found

    def announced(self, extension: str) -> bool:
        return extension in self.extensions

    def refusal(self) -> str | None:
        """Why the model does not answer inputs that are made up; None where it does, or where some were given."""
        if self._named is None or self._given:
            return None
        reply = self.infer(self.subject, asking(self.subject.sample()))
        return None if reply.status == 200 else str(reply)

    @cached_property
    def decoupled(self) -> bool:
        """Whether the model of the general checks says that it answers one request by several."""
        config = self.call("ModelConfig", messages.ModelConfigRequest(name=self.subject.name))
        return config.message is not None and bool(config.message.config.model_transaction_policy.decoupled)


def _told(port: Any) -> dict[str, Any]:
    return {"name": port.name, "datatype": port.datatype, "shape": [-1, *port.shape]}


def asking(inputs: Sequence[Tensor], **rest: Any) -> dict[str, Any]:
    """A request in JSON."""
    tensors = [
        {"name": each.name, "shape": list(each.shape), "datatype": each.datatype, "data": plain(each)}
        for each in inputs
    ]
    return {"inputs": tensors, **rest}


def outputs(reply: Reply) -> list[Tensor]:
    """The outputs of an answer, in JSON or binary."""
    expect(reply.status == 200, f"the status is {reply.status}, not 200", reply)
    size = int(reply.headers.get(LENGTH, len(reply.body)))
    head = strict(reply.body[:size], reply)
    expect(isinstance(head, dict) and isinstance(head.get("outputs"), list), "the answer has no outputs", reply)
    read, at = [], size
    for each in head["outputs"]:
        try:
            length = (each.get("parameters") or {}).get("binary_data_size")
            if length is None:
                read.append(from_json(each))
                continue
            read.append(from_raw(each["name"], each["datatype"], each["shape"], reply.body[at : at + length]))
            at += length
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise Fault(f"an output cannot be read: {error!r}", reply.asked, str(reply)) from None
    expect(at == len(reply.body), "the body is longer than its tensors", reply)
    return read


def check_equal(
    seen: Sequence[Tensor], wanted: Sequence[Tensor], told: str, answer: Any = None, *, exact: bool = False
) -> None:
    """The same tensors by name; exact: bit for bit."""
    by_name = {each.name: each for each in seen}
    for each in wanted:
        expect(each.name in by_name, f"{told}: the output {each.name} is missing", answer)
        held = by_name[each.name]
        if not (held.same(each) if exact else held.near(each)):
            raise Fault(
                f"{told}: {each.name} is {held.datatype} {list(held.shape)} {str(held.values)[:120]}, "
                f"not {each.datatype} {list(each.shape)} {str(each.values)[:120]}",
                getattr(answer, "asked", ""),
                str(answer or ""),
            )


__all__ = ["DATATYPES", "Called", "Reply", "Subject", "Target", "asking", "check_equal", "expect", "outputs"]
