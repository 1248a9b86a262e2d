"""`bimodal.asgi`: a saved model among the routes of a FastAPI application."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import joblib
import pytest
from fastapi import FastAPI
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import bimodal
from bimodal.errors import UsageError

X, Y = load_iris(return_X_y=True)


def test_a_saved_model_answers_under_the_applications_own_path(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression(max_iter=500).fit(X, Y), tmp_path / "my_model.pkl")
    app = FastAPI()
    app.mount("/model", bimodal.asgi(tmp_path / "my_model.pkl", outputs=["prediction", "probability"], row_limit=2))

    @app.get("/own")
    def own() -> str:
        return "mine"

    async def calls() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            told = (await client.post("/model/predict", json={"input": [5.1, 3.5, 1.4, 0.2]})).json()
            assert told["prediction"] == [0]
            assert len(told["probability"][0]) == 3
            assert (await client.get("/own")).json() == "mine"
            assert (await client.post("/model/predict", json={"input": [[1, 2, 3, 4]] * 3})).status_code == 413

    asyncio.run(calls())


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(UsageError, match="no setting 'prot'"):
        bimodal.asgi("model.pkl", prot=1)
