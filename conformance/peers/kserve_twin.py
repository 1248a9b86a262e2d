"""The known models behind KServe's Python server: python kserve_twin.py HTTP GRPC"""

import sys
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput
from kserve.utils.utils import generate_uuid
from twins import TWINS, Port, answer


class Twin(Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.twin, self.ready = TWINS[name], True

    async def get_input_types(self) -> list[dict[str, Any]]:
        return [told(each) for each in self.twin.inputs]

    async def get_output_types(self) -> list[dict[str, Any]]:
        return [told(each) for each in self.twin.outputs]

    def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        given = answer(self.name, {each.name: each.as_numpy() for each in payload.inputs})
        wanted = [each.name for each in payload.request_outputs or ()] or list(given)
        ports = {each.name: each for each in self.twin.outputs}
        outputs = []
        for name in wanted:
            if name not in given:
                raise InvalidInput(f"{self.name} has no output {name}")
            output = InferOutput(name, list(given[name].shape), ports[name].datatype)
            asked = next((each for each in payload.request_outputs or () if each.name == name), None)
            output.set_data_from_numpy(given[name], binary_data=bool(asked and asked.binary_data))
            outputs.append(output)
        return InferResponse(payload.id or generate_uuid(), self.name, outputs)


def told(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": port.datatype, "shape": [-1, *port.shape]}


if __name__ == "__main__":
    http, grpc = map(int, sys.argv[1:3])
    ModelServer(http_port=http, grpc_port=grpc, enable_grpc=True, workers=1).start([Twin(name) for name in TWINS])
