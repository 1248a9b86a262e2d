"""The checks, a file for each part of the protocol. Importing this package fills the catalogue."""

from conformance.checks import (
    binary,
    classification,
    clients,
    datatypes,
    errors,
    generate,
    health,
    infer,
    metadata,
    others,
    parameters,
    repository,
    rpc,
    rpc_errors,
    statistics,
    stream,
)

__all__ = [
    "binary",
    "classification",
    "clients",
    "datatypes",
    "errors",
    "generate",
    "health",
    "infer",
    "metadata",
    "others",
    "parameters",
    "repository",
    "rpc",
    "rpc_errors",
    "statistics",
    "stream",
]
