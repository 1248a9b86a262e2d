"""A shop's customers in shop.db, and the model that tells who is about to leave: python make.py

1,500 customers are made with a fixed seed. Who left in the past depends on the contract, on calls to the hotline and on
how long somebody has been a customer, with chance in it.
"""

import sqlite3

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMBERS, TEXTS = ["age", "months", "monthly_fee", "calls"], ["contract", "payment"]


def customers(count: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "customer_id": np.arange(10_001, 10_001 + count),
            "age": random.integers(18, 90, count),
            "months": random.integers(1, 120, count),
            "monthly_fee": random.gamma(9.0, 5.0, count).round(2),
            "calls": random.poisson(1.2, count),
            "contract": random.choice(["monthly", "yearly", "two years"], count, p=[0.5, 0.3, 0.2]),
            "payment": random.choice(["card", "transfer", "invoice"], count),
            "updated_at": [f"2026-03-{day:02} 08:00:00" for day in random.integers(1, 31, count)],
        }
    )


def left(rows: pd.DataFrame, seed: int) -> pd.Series:
    """Who of them left."""
    leaning = 0.8 * rows["calls"] - 0.03 * rows["months"] + 1.5 * (rows["contract"] == "monthly") - 1.0
    chance = 1 / (1 + np.exp(-leaning))
    return pd.Series(np.where(np.random.default_rng(seed).random(len(rows)) < chance, "leaves", "stays"))


if __name__ == "__main__":
    past = customers(4000, seed=1)
    prepare = ColumnTransformer([("numbers", StandardScaler(), NUMBERS), ("texts", OneHotEncoder(), TEXTS)])
    model = make_pipeline(prepare, LogisticRegression(max_iter=500)).fit(past[NUMBERS + TEXTS], left(past, seed=2))
    joblib.dump(model, "churn.pkl")

    with sqlite3.connect("shop.db") as shop:
        customers(1500, seed=3).to_sql("customers", shop, index=False)
        shop.execute(
            """
            CREATE TABLE scores (
                customer_id INTEGER PRIMARY KEY,
                prediction TEXT,
                probability_leaves REAL,
                probability_stays REAL
            )
            """
        )
    shop.close()
