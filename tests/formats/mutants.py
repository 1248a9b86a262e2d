"""Mutants: damaged model files, read as a child reads them.

`python -m tests.formats.mutants KIND COUNT SEED` prints a line of JSON: how many were refused, loaded, killed their
process or hung it. Each is read in a process of its own, forked from this one, which has imported the library: what a
server starts for a file does the same, and dies alone. This process stands for the server: it must outlive them all.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

from bimodal import formats
from bimodal.errors import BimodalError
from bimodal.formats.contract import Loaded, Source
from bimodal.rows import Rows
from tests.formats.damage import damaged

DATA, TRUTH = make_classification(200, 6, random_state=0)
SECONDS = 2  # of processor time that a reader has: a server's has more, and is ended all the same
PATIENCE = 60.0  # seconds by the clock, on a busy machine
MEMORY = 1 << 30  # bytes beyond what it began with


# -- the files ---------------------------------------------------------------------------------------------------------


def _forest() -> Any:
    return RandomForestClassifier(5, max_depth=4, random_state=0).fit(DATA, TRUTH)


def _sklearn(file: Path) -> None:
    joblib.dump(_forest(), file)


def _xgboost(file: Path) -> None:
    import xgboost

    xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(DATA, TRUTH).save_model(file)


def _lightgbm(file: Path) -> None:
    import lightgbm

    told = {"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1}
    lightgbm.train(told, lightgbm.Dataset(DATA, TRUTH), 5).save_model(file)


def _catboost(file: Path) -> None:
    import catboost

    model = catboost.CatBoostClassifier(iterations=5, depth=3, verbose=False, thread_count=1, allow_writing_files=False)
    model.fit(DATA, TRUTH).save_model(str(file))


def _onnx(file: Path) -> None:
    import skl2onnx

    file.write_bytes(
        skl2onnx.to_onnx(_forest(), DATA[:1].astype(np.float32), options={"zipmap": False}).SerializeToString()
    )


def _skops(file: Path) -> None:
    import skops.io

    skops.io.dump(_forest(), file)


KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "joblib": ("model.joblib", _sklearn),
    "xgboost json": ("model.json", _xgboost),
    "xgboost ubj": ("model.ubj", _xgboost),
    "lightgbm": ("model.txt", _lightgbm),
    "catboost": ("model.cbm", _catboost),
    "onnx": ("model.onnx", _onnx),
    "skops": ("model.skops", _skops),
}


# -- reading -----------------------------------------------------------------------------------------------------------


def read(file: Path, expected: np.ndarray[Any, Any]) -> str:
    """What comes of the file in a process of its own: refused, same, other (loaded, with other answers), odd ERROR (one
    that is none of ours), killed SIGNAL, hung.
    """
    mine, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(mine)
        _reader(file, theirs, expected)
    os.close(theirs)
    ready, _, _ = select.select([mine], [], [], PATIENCE)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    told = os.read(mine, 64).decode() if ready else ""
    os.close(mine)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if not ready or code == -signal.SIGXCPU:
        return "hung"
    if told:
        return told
    return f"killed {signal.Signals(-code).name}" if code <= 0 else f"ended {code}"


def _reader(file: Path, out: int, expected: np.ndarray[Any, Any]) -> NoReturn:
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY, held + MEMORY))
    os.write(out, _outcome(file, expected).encode())
    os._exit(0)


def _outcome(file: Path, expected: np.ndarray[Any, Any]) -> str:
    try:
        loaded = formats.recognise(str(file)).load(Source(str(file)))
    except BimodalError:
        return "refused"
    except Exception as error:
        return f"odd {type(error).__name__}"
    try:
        answers = answer(loaded)
    except Exception:
        return "other"
    same = answers.shape == expected.shape and np.array_equal(answers, expected)
    return "same" if same else "other"


def answer(loaded: Loaded) -> np.ndarray[Any, Any]:
    inputs = loaded.signature.inputs
    if len(inputs) == 1:
        rows = Rows({inputs[0].name: DATA.astype(inputs[0].dtype)})
    else:
        rows = Rows({each.name: DATA[:, place].astype(each.dtype) for place, each in enumerate(inputs)})
    return loaded.runtime.run(rows, ["prediction"]).array("prediction")


def main() -> None:
    kind, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        name, save = KINDS[kind]
        file = Path(folder, name)
        save(file)
        data, expected = file.read_bytes(), answer(formats.recognise(str(file)).load(Source(str(file))))
        assert read(file, expected) == "same"
        chance = random.Random(seed)
        start = time.monotonic()
        for _ in range(count):
            file.write_bytes(damaged(data, chance))
            found[read(file, expected)] += 1
    print(json.dumps({"kind": kind, "count": count, "seconds": round(time.monotonic() - start), **found}))


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":  # a process with OpenMP's threads is not to be forked
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "tests.formats.mutants", *sys.argv[1:]])
    main()
