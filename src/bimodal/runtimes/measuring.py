"""What calls of a model cost, measured on made-up rows."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bimodal.runtimes.contract import Runtime
from bimodal.signature import Signature

TRIED = 0.25  # seconds of made-up calls from which on there are no more of them


def measure(runtime: Runtime, signature: Signature, counts: Sequence[int] = (1, 64)) -> dict[int, float]:
    """Seconds of one call by number of rows, on the example row; the first call of each is the warm-up. A slow model is
    called less often, and with fewer rows.
    """
    outputs = [each.name for each in signature.outputs[:1]]
    costs: dict[int, float] = {}
    for count in counts:
        longest = costs[1] * count if 1 in costs else 0.0  # if every row takes as long as a call of one
        if longest > 2 * TRIED:
            count = max(1, int(count * TRIED / longest))
        if count in costs:
            break
        rows = signature.example_rows(count)
        spans: list[float] = []
        while len(spans) < 4 and (len(spans) < 2 or sum(spans) < TRIED):
            start = time.perf_counter()
            runtime.run(rows, outputs)
            spans.append(time.perf_counter() - start)
        costs[count] = min(spans[1:])
    return costs
