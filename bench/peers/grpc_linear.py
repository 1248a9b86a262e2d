"""ModelInfer on grpc.aio, as its tutorial has it: the model is called for each request. It reads MODEL and PORT."""

import asyncio
import os

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2, service_pb2_grpc

settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], settings, providers=["CPUExecutionProvider"])


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    async def ModelInfer(self, request, context):
        rows = np.frombuffer(request.raw_input_contents[0]).reshape(request.inputs[0].shape)
        labels, probabilities = session.run(None, {"input": rows})
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        answer.outputs.add(name="prediction", datatype="INT64", shape=labels.shape)
        answer.raw_output_contents.append(labels.tobytes())
        answer.outputs.add(name="probability", datatype="FP64", shape=probabilities.shape)
        answer.raw_output_contents.append(probabilities.astype(np.float64).tobytes())
        return answer

    async def ServerReady(self, request, context):
        return service_pb2.ServerReadyResponse(ready=True)


async def main():
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
