"""Send payments one by one, as a till does, and tell how long each took: python load.py URL [COUNT]

The answers go to live.jsonl; where checked.parquet is there, they are compared with it.
"""

import csv
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bimodal

TILLS = 4


def main(url, count):
    with open("payments.csv", newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(count), strict=False)]
    for row in rows:
        row |= {name: float(row[name]) for name in ("amount", "hour", "kilometres", "uses_this_hour")}
    with ThreadPoolExecutor(TILLS) as tills:
        parts = tills.map(till, [url] * TILLS, [rows[number::TILLS] for number in range(TILLS)])
        answers = sorted((each for part in parts for each in part), key=lambda answer: answer["payment"])
    Path("live.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    times = sorted(answer["ms"] for answer in answers)
    stopped = sum(answer["prediction"] for answer in answers)
    print(f"{len(answers)} payments, {stopped} of them stopped")
    print(f"p50 {times[len(times) // 2]:.1f} ms, p99 {times[len(times) * 99 // 100]:.1f} ms")
    if Path("checked.parquet").exists():
        compare(answers)


def till(url, rows):
    """One till: a connection of its own, one payment after the other."""
    answers = []
    with bimodal.Client(url) as client:
        for row in rows:
            features = {name: value for name, value in row.items() if name != "payment"}
            began = time.perf_counter()
            (answer,) = client.predict([features])
            answers.append({"payment": row["payment"], **answer, "ms": (time.perf_counter() - began) * 1000})
    return answers


def compare(answers):
    import pyarrow.parquet

    batch = {row["payment"]: row for row in pyarrow.parquet.read_table("checked.parquet").to_pylist()}
    same = 0
    for live in answers:
        checked = batch[live["payment"]]
        probabilities = [checked["probability_False"], checked["probability_True"]]
        same += (live["prediction"], live["probability"]) == (checked["prediction"], probabilities)
    print(f"equal to the batch answers: {same} of {len(answers)}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 300)
