"""The known models as a runtime of MLServer. Copied beside twins.py into the repository that MLServer serves."""

from typing import Any

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from twins import TWINS, answer


class Twin(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        told = answer(self.name, {each.name: _decoded(each) for each in payload.inputs})
        wanted = [each.name for each in payload.outputs or ()] or list(told)
        for name in wanted:
            if name not in told:
                raise InferenceError(f"{self.name} has no output {name}")
        ports = {each.name: each for each in TWINS[self.name].outputs}
        outputs = [_encoded(ports[name], told[name]) for name in wanted]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def _decoded(each: Any) -> Any:
    if each.datatype != "BYTES":
        return NumpyCodec.decode_input(each)
    return np.array(StringCodec.decode_input(each), dtype=object).reshape(each.shape)


def _encoded(port: Any, array: Any) -> ResponseOutput:
    if port.datatype != "BYTES":
        return NumpyCodec.encode_output(port.name, np.asarray(array))
    output = StringCodec.encode_output(port.name, list(array.reshape(-1)))
    return ResponseOutput(name=port.name, shape=list(array.shape), datatype="BYTES", data=output.data)
