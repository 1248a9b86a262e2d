"""grpc.reflection: a client asks the server for the .proto files of its services, and needs none of its own.

https://grpc.io/docs/guides/reflection/. `v1alpha` is the same under its earlier name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bimodal.realtime.calls import Call, Status, Streaming
from bimodal.realtime.protocols import statuses
from bimodal.realtime.protocols.messages import files, message, pool, services
from bimodal.realtime.protocols.tensor_messages import parsed

PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


def streaming() -> dict[str, Streaming]:
    """The methods by path."""
    return {f"/{each}.ServerReflection/ServerReflectionInfo": Kind(each) for each in PACKAGES}


class Kind:
    """The method of one package."""

    def __init__(self, package: str) -> None:
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
        elif asked == "file_containing_symbol" and (found := _file(request.file_containing_symbol)):
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

    def feed(self, message: bytes) -> None:
        try:
            request = parsed(self._kind.request, message)
        except Exception as error:
            statuses.fail(self._call, error)
            return
        self._call.write(self._kind.answered(request).SerializeToString())

    def finish(self) -> None:
        self._call.end()

    def abort(self) -> None:
        """Nothing goes on that could be stopped."""


def _add(told: Any, name: str) -> None:
    """The file, and behind it all that it imports."""
    told.file_descriptor_response.file_descriptor_proto.extend(
        files()[each].SerializeToString() for each in dict.fromkeys(_with_imports(name))
    )


def _with_imports(name: str) -> Iterator[str]:
    yield name
    for each in files()[name].dependency:
        yield from _with_imports(each)


def _file(symbol: str) -> str | None:
    """The name of the file in which a service, method, message, field or enum stands."""
    try:
        found: str = pool().FindFileContainingSymbol(symbol).name
    except KeyError:
        return None
    return found


def _message(name: str) -> bool:
    try:
        pool().FindMessageTypeByName(name)
    except KeyError:
        return False
    return True


def _error(told: Any, status: Status, sentence: str) -> None:
    told.error_response.error_code = status
    told.error_response.error_message = sentence
