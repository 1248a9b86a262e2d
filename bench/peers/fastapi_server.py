"""FastAPI behind uvicorn: typed bodies, uvloop, httptools, no access log. `async def`, so no thread a request."""

import os
import sys

import joblib
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.environ["MODEL"])
app = FastAPI()


class Numbers(BaseModel):
    input: list[float]


class Rows(BaseModel):
    rows: list[dict[str, float | str | None]]


async def linear(body: Numbers) -> dict[str, list[int]]:
    return {"prediction": model.predict([body.input]).tolist()}


async def mixed(body: Rows) -> dict[str, list[int]]:
    return {"prediction": model.predict(pd.DataFrame(body.rows)).tolist()}


app.post("/predict")({"linear": linear, "mixed": mixed}[os.environ["CASE"]])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="error", loop="uvloop", http="httptools")
