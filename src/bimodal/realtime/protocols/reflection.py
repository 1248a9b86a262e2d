"""grpc.reflection: a client asks the server for the .proto files of its services, and needs none of its own.

https://grpc.io/docs/guides/reflection/. `v1alpha` is the same under its earlier name.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from bimodal.errors import Unavailable
from bimodal.messages.pool import files, message, pool, services
from bimodal.realtime.calls import Call, Status, Streaming
from bimodal.realtime.protocols import statuses
from bimodal.realtime.protocols.tensor_messages import parsed
from bimodal.realtime.service import Service

DRAINING = "the server is shutting down; ask another"
PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


def streaming(service: Service) -> dict[str, Streaming]:
    """The methods by path."""
    return {f"/{each}.ServerReflection/ServerReflectionInfo": Kind(each, service) for each in PACKAGES}


class Kind:
    """The method of one package."""

    def __init__(self, package: str, service: Service) -> None:
        self.service = service
        self.request = message(f"{package}.ServerReflectionRequest")
        self.response = message(f"{package}.ServerReflectionResponse")

    def __call__(self, call: Call) -> Asking:
        return Asking(self, call)

    def answered(self, request: Any) -> Any:
        """The response to one request."""
        told = self.response(valid_host=request.host, original_request=request)
        asked = request.WhichOneof("message_request")
        if asked == "list_services":
            for name in sorted(services()):
                told.list_services_response.service.add(name=name)
        elif asked == "file_by_filename" and request.file_by_filename in files():
            _add(told, request.file_by_filename)
        elif asked == "file_containing_symbol" and (found := _symbols().get(request.file_containing_symbol)):
            _add(told, found)
        elif asked == "all_extension_numbers_of_type" and _message(request.all_extension_numbers_of_type):
            told.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
        elif asked is None:
            _error(told, Status.INVALID_ARGUMENT, "the request asks for nothing")
        else:
            _error(told, Status.NOT_FOUND, "no such file, symbol, type or extension; list_services tells what there is")
        return told


class Asking:
    """One caller: each message is answered at once, in order."""

    def __init__(self, kind: Kind, call: Call) -> None:
        self._kind = kind
        self._call = call
        kind.service.leaving.add(self._leave)

    def feed(self, message: bytes) -> None:
        try:
            request = parsed(self._kind.request, message)
        except Exception as error:
            self.abort()
            statuses.fail(self._call, error)
            return
        self._call.write(self._kind.answered(request).SerializeToString())

    def finish(self) -> None:
        self.abort()
        self._call.end()

    def abort(self) -> None:
        self._kind.service.leaving.discard(self._leave)

    def _leave(self) -> None:
        """The server drains, and everything that was asked is answered."""
        self.abort()
        statuses.fail(self._call, Unavailable(DRAINING))


def _add(told: Any, name: str) -> None:
    """The file, and behind it all that it imports."""
    told.file_descriptor_response.file_descriptor_proto.extend(
        files()[each].SerializeToString() for each in dict.fromkeys(_with_imports(name))
    )


def _with_imports(name: str) -> Iterator[str]:
    yield name
    for each in files()[name].dependency:
        yield from _with_imports(each)


@cache
def _symbols() -> dict[str, str]:
    """The file of every service, method, message, field, enum and value, by its full name."""
    return {f"{file.package}.{symbol}": file.name for file in files().values() for symbol in _named(file)}


def _named(file: Any) -> Iterator[str]:
    for service in file.service:
        yield service.name
        yield from (f"{service.name}.{method.name}" for method in service.method)
    for each in file.enum_type:
        yield each.name
        yield from (value.name for value in each.value)
    for each in file.message_type:
        yield from _inside(each, each.name)


def _inside(message: Any, name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}.{each.name}" for each in (*message.field, *message.oneof_decl))
    for each in message.enum_type:
        yield f"{name}.{each.name}"
        yield from (f"{name}.{value.name}" for value in each.value)  # values stand beside their enum
    for each in message.nested_type:
        yield from _inside(each, f"{name}.{each.name}")


def _message(name: str) -> bool:
    try:
        pool().FindMessageTypeByName(name)
    except KeyError:
        return False
    return True


def _error(told: Any, status: Status, sentence: str) -> None:
    told.error_response.error_code = status
    told.error_response.error_message = sentence
