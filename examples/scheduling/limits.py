"""A model of two lines, so that this example is about when it runs."""

from typing import TypedDict


class Payment(TypedDict):
    amount: float


class Model:
    outputs = {"prediction": bool}

    def predict(self, rows: Payment):
        return rows["amount"] > 500
