"""`slow` for servers that take a Python class with predict(): sleeps as many milliseconds as its first value says."""

import time


class Slow:
    inputs = {"ms": float}
    outputs = {"slept": float}

    def predict(self, rows):  # type: ignore[no-untyped-def] # a class that knows no server
        time.sleep(float(rows["ms"][0]) / 1000)
        return {"slept": rows["ms"]}
