"""The protobuf messages of the gRPC services, in a descriptor pool of their own.

A pool refuses two files with the same names, and client libraries (tritonclient, mlserver, kserve) register theirs in
the default one: in a pool of its own the server shares a process with any of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTO = Path(__file__).with_name("proto")  # the .proto files, and what `python tasks.py protos` makes of them
DESCRIPTORS = PROTO / "descriptors.binpb"


@cache
def files() -> dict[str, Any]:
    """The FileDescriptorProto of each .proto file, by its name."""
    kept = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    return {each.name: each for each in kept.file}


@cache
def pool() -> Any:
    """The pool with all files."""
    made = descriptor_pool.DescriptorPool()
    for each in _ordered():
        made.Add(each)
    return made


@cache
def message(name: str) -> Any:
    """The class of a message, by its full name, such as `inference.ModelInferRequest`."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


@cache
def services() -> tuple[str, ...]:
    """The full names of all services."""
    return tuple(f"{each.package}.{service.name}" for each in files().values() for service in each.service)


def _ordered() -> Iterator[Any]:
    """The files, each behind those that it imports."""
    given: set[str] = set()

    def follow(name: str) -> Iterator[Any]:
        if name not in given:
            given.add(name)
            for other in files()[name].dependency:
                yield from follow(other)
            yield files()[name]

    for name in files():
        yield from follow(name)
