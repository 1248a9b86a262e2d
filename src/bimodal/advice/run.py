"""One batch run in a process of its own, as `bimodal predict` makes it: python -m bimodal.advice.run

The order comes on standard input as a line of JSON, the answer goes to standard output as another.
"""

from __future__ import annotations

import json
import os
import sys

from bimodal.batch.run import predict_file
from bimodal.errors import BimodalError
from bimodal.model import from_spec


def main() -> None:
    """Load the model, predict the file, tell how it went."""
    order = json.loads(sys.stdin.readline())
    sys.path.extend(entry for entry in order["path"] if entry not in sys.path)
    try:
        with from_spec(order["spec"]) as model:
            report = predict_file(
                model, order["input"], order["output"], overwrite=True, workers=order["workers"], progress="quiet",
                max_rejects="100%", header=order["header"],
            )  # fmt: skip
    except BimodalError as error:
        told: dict[str, object] = {"error": error.message}
    else:
        told = {
            "rows": report.read, "seconds": report.seconds, "memory": report.memory, "workers": report.workers,
            "runtime": report.runtime,
        }  # fmt: skip
    print(json.dumps(told), flush=True)  # noqa: T201 - the answer to the order
    os._exit(0)  # as the command does: threads of Arrow that still read ahead are not waited for


if __name__ == "__main__":
    main()
