"""A shop's orders in shop.db, and the model of its demand: python make.py

Three months of orders are made with a fixed seed: each product has its own level, its weekly rhythm, and a slow trend.
The model is trained on what the job's own query gave on past days, so that both see the same columns.
"""

import sqlite3
import tomllib
from datetime import date, timedelta
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

BEGIN, DAYS = date(2026, 1, 1), 90
PRODUCTS = {
    "coffee": ("drinks", 4.5, 40),
    "tea": ("drinks", 3.9, 22),
    "juice": ("drinks", 5.2, 15),
    "bread": ("bakery", 3.2, 60),
    "croissant": ("bakery", 2.1, 35),
    "cake": ("bakery", 6.8, 9),
    "soap": ("home", 2.9, 12),
    "candle": ("home", 7.5, 5),
}
WEEK = [1.0, 0.9, 0.95, 1.0, 1.3, 1.6, 0.4]  # from Monday on
NUMBERS = ["price", "weekday", "week_ago", "mean_28"]


def make_orders(database: sqlite3.Connection) -> None:
    random = np.random.default_rng(7)
    database.executescript(
        """
        CREATE TABLE products (product TEXT PRIMARY KEY, category TEXT, price REAL);
        CREATE TABLE orders (order_id INTEGER PRIMARY KEY, day TEXT, product TEXT, quantity INTEGER);
        CREATE INDEX orders_of_a_day ON orders (product, day);
        """
    )
    database.executemany("INSERT INTO products VALUES (?, ?, ?)", [(name, *of[:2]) for name, of in PRODUCTS.items()])
    for number in range(DAYS):
        day = BEGIN + timedelta(days=number)
        for name, (_, _, level) in PRODUCTS.items():
            expected = level * WEEK[day.weekday()] * (1 + number / 400)
            left = int(random.poisson(expected))
            while left > 0:
                quantity = min(left, int(random.integers(1, 5)))
                database.execute(
                    "INSERT INTO orders (day, product, quantity) VALUES (?, ?, ?)", (str(day), name, quantity)
                )
                left -= quantity
    database.commit()


def train(database: sqlite3.Connection) -> None:
    query = tomllib.loads(Path("bimodal.toml").read_text())["jobs"]["forecast"]["query"]
    days = [str(BEGIN + timedelta(days=number)) for number in range(28, DAYS - 10)]
    seen = pd.concat([pd.read_sql_query(query.replace("{date}", day), database) for day in days])
    sold = pd.read_sql_query("SELECT day, product, sum(quantity) AS sold FROM orders GROUP BY day, product", database)
    rows = seen.merge(sold, on=["day", "product"], how="left").fillna({"sold": 0})
    prepare = ColumnTransformer([("category", OneHotEncoder(), ["category"])], remainder="passthrough")
    model = make_pipeline(prepare, RandomForestRegressor(40, min_samples_leaf=5, random_state=0))
    joblib.dump(model.fit(rows[["category", *NUMBERS]], rows["sold"]), "demand.pkl")


if __name__ == "__main__":
    with sqlite3.connect("shop.db") as shop:
        make_orders(shop)
        train(shop)
    shop.close()
