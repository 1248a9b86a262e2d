"""The methods of all gRPC services, by path."""

from __future__ import annotations

from collections.abc import Mapping

from bimodal.realtime.calls import Streaming, Unary
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols import health, models_grpc, reflection, repository_grpc
from bimodal.realtime.protocols.inference_grpc import Inference
from bimodal.realtime.protocols.streams_grpc import Streams
from bimodal.realtime.service import Service

INFERENCE = "/inference.GRPCInferenceService"


class Table:
    """`calls.Methods`: what each path does."""

    def __init__(self, unary: Mapping[str, Unary], streaming: Mapping[str, Streaming]) -> None:
        self.unary = unary
        self.streaming = streaming

    def takes(self, path: str) -> bool:
        """Whether there is such a method."""
        return path in self.unary or path in self.streaming


def methods(service: Service, metrics: Metrics, *, known: bool = True) -> Table:
    """What gRPC callers can call on a worker. known: whether everybody may know what models there are."""
    inference = Inference(service, metrics)
    watched = health.Health(service, metrics, known=known)
    unary: dict[str, Unary] = {
        f"{INFERENCE}/ModelInfer": inference,
        **models_grpc.methods(service, metrics),
        **repository_grpc.methods(service, metrics),
        **watched.unary,
    }
    streaming: dict[str, Streaming] = {
        f"{INFERENCE}/ModelStreamInfer": Streams(inference),
        **watched.streaming,
        **reflection.streaming(service),
    }
    return Table(unary, streaming)
