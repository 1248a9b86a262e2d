"""The known models behind Triton, by PyTriton, which brings Triton's server: python triton_twin.py HTTP GRPC"""

import sys
from functools import partial
from typing import Any

import numpy as np
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig
from twins import TWINS, TYPES, Port, answer, pieces

TOKEN = "conformance"  # PyTriton asks for one where Triton itself would not


def told(port: Port) -> Tensor:
    kind = np.bytes_ if port.datatype == "BYTES" else TYPES[port.datatype]
    return Tensor(name=port.name, dtype=kind, shape=port.shape or (1,))


def infer(name: str, requests: Any) -> Any:
    return [{key: np.asarray(value) for key, value in answer(name, request.data).items()} for request in requests]


def words(requests: Any) -> Any:
    for request in requests:
        text = request.data["text_input"].reshape(-1)[0].decode()
        for piece in pieces(text):
            yield [{"text_output": np.array([[piece.encode()]])}]


def main() -> None:
    http, grpc = map(int, sys.argv[1:3])
    config = TritonConfig(http_port=http, grpc_port=grpc, allow_metrics=False, http_address="127.0.0.1")
    with Triton(config=config, security_config=TritonSecurityConfig(access_token=TOKEN)) as server:
        for name, twin in TWINS.items():
            streams = name == "words"
            server.bind(
                model_name=name,
                infer_func=words if streams else partial(infer, name),
                inputs=[told(each) for each in twin.inputs],
                outputs=[told(each) for each in twin.outputs],
                config=ModelConfig(batching=True, max_batch_size=100_000, decoupled=streams, batcher=DynamicBatcher()),
                strict=False,
            )
        server.serve()


if __name__ == "__main__":
    main()
