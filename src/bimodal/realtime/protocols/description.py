"""What the Open Inference Protocol tells of the server and of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from bimodal.field import Field
from bimodal.realtime.protocols.inference import DATATYPES, VALIDITY
from bimodal.realtime.protocols.rows import plain
from bimodal.realtime.service import Served, Service

TABULAR = "bimodal_tabular"  # nulls, categories, timestamps: docs/openinference.md
REPOSITORY = "model_repository"  # announced where callers may load and unload
INSECURE = "insecure"  # no extension, but told where everybody looks: whoever reaches the server may come in
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "generate",
    "model_configuration",
    REPOSITORY,
    "parameters",
    "schedule_policy",
    "statistics",
    TABULAR,
)
LABELS = 100  # categories of one column that the metadata lists


def extensions(service: Service) -> list[str]:
    """Those that the server announces."""
    told = [name for name in EXTENSIONS if service.loads or name != REPOSITORY]
    return [*told, *((INSECURE,) if service.insecure else ())]


def metadata(served: Served) -> dict[str, Any]:
    """What the protocol tells of a model."""
    model, signature = served.model, served.signature
    return {
        "name": model.name,
        "versions": list(served.versions),
        "platform": f"bimodal_{model.format}",
        "inputs": _tensors(signature.inputs),
        "outputs": _tensors(signature.outputs),
    }


def _tensors(fields: Sequence[Field]) -> list[dict[str, Any]]:
    return [{**told(each), **_more(each)} for each in fields]


def told(field: Field) -> dict[str, Any]:
    """One tensor of the metadata; -1 is the number of rows."""
    return {"name": field.name, "datatype": DATATYPES[field.type], "shape": [-1, *field.shape]}


def _more(field: Field) -> dict[str, Any]:
    """What our extension tells of a column, where there is something: nullable, type, categories, closed."""
    parameters: dict[str, Any] = {}
    if field.nullable:
        parameters["nullable"] = True
    if field.type in ("timestamp", "any"):
        parameters["type"] = field.type
    if field.type == "timestamp":
        parameters["unit"] = "us"
    tensor: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if field.categories:
        tensor["categories"] = list(field.categories[:LABELS])
        parameters["categories"] = len(field.categories)
        parameters["closed"] = field.closed
        tensor["parameters"] = parameters
    return tensor


def configuration(served: Served) -> dict[str, Any]:
    """The model's configuration in the names of Triton's model_config.proto, as far as they have a meaning here."""
    model, signature = served.model, served.signature
    labels = {"label_filename": "", "labels": [str(each) for each in signature.classes]} if signature.classes else {}
    return {
        "name": model.name,
        "platform": f"bimodal_{model.format}",
        "backend": "bimodal",
        "runtime": model.runtime_name,
        "version_policy": {"specific": {"versions": [model.version]}},
        "max_batch_size": served.limits.rows,
        "input": [
            {**_configured(each), "optional": False, "allow_ragged_batch": False, "is_shape_tensor": False}
            for each in signature.inputs
        ],
        "output": [
            {**_configured(each), **(labels if each.name == "probability" else {})} for each in signature.outputs
        ],
        "dynamic_batching": {
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": int(served.limits.deadline * 1e6),
                "allow_timeout_override": True,
            },
        },
        "parameters": {"validity": {"string_value": VALIDITY}, "bimodal": {"string_value": _ours(served)}},
    }


def _ours(served: Served) -> str:
    """What the protocol has no place for, as JSON: our extension's metadata, which gRPC's cannot tell, under `tensors`;
    the rest is for our own client.
    """
    signature = served.signature
    inputs = signature.inputs
    told = {
        "version": served.model.version,
        "classes": signature.classes,
        "named": signature.named,
        "outputs": served.outputs,
        "types": {each.name: each.type for each in inputs if each.type == "timestamp"},
        "times": [each.name for each in signature.outputs if each.type == "timestamp"],
        "optional": [each.name for each in inputs if each.optional],
        "nested": [each.name for each in inputs if each.nested],
        "tensors": {"inputs": _tensors(inputs), "outputs": _tensors(signature.outputs)},
    }
    return msgspec.json.encode(told, enc_hook=plain).decode()


def _configured(field: Field) -> dict[str, Any]:
    """dims: of one row, as Triton's are where there is a max_batch_size; a scalar is [1]."""
    kind = "STRING" if DATATYPES[field.type] == "BYTES" else DATATYPES[field.type]
    return {"name": field.name, "data_type": f"TYPE_{kind}", "dims": list(field.shape) or [1]}
