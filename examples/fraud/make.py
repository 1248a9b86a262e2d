"""Payments by card, and the model that tells which are fraud: python make.py

They are made with a fixed seed: one payment in fifty is fraud, more often a large one, at night, far from home, with
a card that has been used many times within the hour. payments.csv holds those of one day.
"""

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

NUMBERS, TEXTS = ["amount", "hour", "kilometres", "uses_this_hour"], ["shop"]
SHOPS = ["groceries", "fuel", "travel", "electronics", "online"]


def payments(count: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Payments, and which of them are fraud."""
    random = np.random.default_rng(seed)
    fraud = random.random(count) < 0.02
    night = np.where(random.random(count) < 0.6, random.integers(0, 6, count), random.integers(0, 24, count))
    rows = pd.DataFrame(
        {
            "payment": [f"p{number:05}" for number in range(1, count + 1)],
            "amount": np.where(fraud, random.gamma(2.0, 70.0, count), random.gamma(1.5, 30.0, count)).round(2),
            "hour": np.where(fraud, night, random.integers(6, 24, count)),
            "kilometres": np.where(fraud, random.gamma(1.0, 60.0, count), random.gamma(1.0, 12.0, count)).round(1),
            "uses_this_hour": np.where(fraud, random.poisson(0.9, count), random.poisson(0.2, count)),
            "shop": np.where(fraud, random.choice(SHOPS[2:], count), random.choice(SHOPS, count)),
        }
    )
    return rows, fraud


if __name__ == "__main__":
    past, fraud = payments(12_000, seed=1)
    prepare = ColumnTransformer([("shop", OneHotEncoder(), TEXTS)], remainder="passthrough")
    forest = RandomForestClassifier(40, min_samples_leaf=3, random_state=0)
    joblib.dump(make_pipeline(prepare, forest).fit(past[NUMBERS + TEXTS], fraud), "fraud.pkl")
    payments(3000, seed=2)[0].to_csv("payments.csv", index=False)
