"""Version drift: models of scikit-learn that were saved under one version of it and are loaded under another.

    python -m tests.formats.versions [--cache FOLDER] [--again]

makes an environment for each of VERSIONS in the folder (pip fetches them, once), saves the estimators in each together
with scikit-learn's own answers, packs them there, and loads all of them in all environments: as a bare file, as a
package, and as a package whose compiled form is not used. It prints how many were refused and served, and exits with 1
where one was ready and then failed or answered otherwise, where a refusal or a warning does not name both versions, or
where the version that saved one refuses it. What was done for the same code is not done again, unless `--again` says
so: that folder is named after a digest of the code, and holds every outcome and sentence.

The environments run this file too: `save FOLDER`, and `load FOLDER`, which prints a line of JSON. `keep FOLDER` copies
what the short form loads from such a folder into tests/formats/versions, with fewer rows.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

import bimodal
from bimodal.compile.difference import MOVED
from bimodal.errors import BimodalError
from bimodal.golden import differing
from bimodal.rows import Array
from tests.forking.sitecustomize import Popen
from tests.nursery import nursery

ROOT = Path(__file__).parents[2]
VERSIONS = ("1.5.2", "1.6.1", "1.7.2", "1.8.0", sklearn.__version__)
WAYS = ("bare", "package", "native")
KEPT = Path(__file__).with_suffix("")
FILES = (
    "AdaBoostClassifier",
    "GradientBoostingClassifier",
    "LogisticRegression",
    "LogisticRegression-ovr",
    "SimpleImputer",
)
PACKAGES = ("AdaBoostClassifier", "KMeans")
ROWS = 40  # that are answered when a model is saved

# -- saving ------------------------------------------------------------------------------------------------------------


def _ovr() -> Any:
    """An estimator that answers otherwise where the parameter is not known: from 1.8 on."""
    return LogisticRegression(max_iter=500, multi_class="ovr")


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "LinearRegression": LinearRegression,
    "Ridge": Ridge,
    "Lasso": lambda: Lasso(alpha=0.01),
    "PLSRegression": PLSRegression,
    "LogisticRegression": lambda: LogisticRegression(max_iter=500),
    "SGDClassifier": lambda: SGDClassifier(random_state=0),
    "LinearSVC": lambda: LinearSVC(random_state=0),
    "SVC": SVC,
    "GaussianNB": GaussianNB,
    "KNeighborsClassifier": KNeighborsClassifier,
    "DecisionTreeClassifier": lambda: DecisionTreeClassifier(max_depth=4, random_state=0),
    "RandomForestClassifier": lambda: RandomForestClassifier(5, max_depth=4, random_state=0),
    "ExtraTreesRegressor": lambda: ExtraTreesRegressor(5, max_depth=4, random_state=0),
    "GradientBoostingClassifier": lambda: GradientBoostingClassifier(n_estimators=3, max_depth=2, random_state=0),
    "HistGradientBoostingClassifier": lambda: HistGradientBoostingClassifier(max_iter=3, random_state=0),
    "AdaBoostClassifier": lambda: AdaBoostClassifier(n_estimators=3, random_state=0),
    "BaggingClassifier": lambda: BaggingClassifier(n_estimators=3, random_state=0),
    "MLPClassifier": lambda: MLPClassifier((8,), max_iter=60, random_state=0),
    "IsolationForest": lambda: IsolationForest(n_estimators=5, random_state=0),
    "KMeans": lambda: KMeans(3, n_init=1, random_state=0),
    "GaussianProcessRegressor": lambda: GaussianProcessRegressor(alpha=0.1),
    "CalibratedClassifierCV": lambda: CalibratedClassifierCV(GaussianNB(), cv=2),
    "StackingClassifier": lambda: StackingClassifier([("nb", GaussianNB()), ("svc", SVC())], LogisticRegression()),
    "Pipeline of StandardScaler": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "Pipeline of SimpleImputer": lambda: make_pipeline(SimpleImputer(), Ridge()),
    # beyond the 25
    "VotingClassifier": lambda: VotingClassifier([("nb", GaussianNB()), ("tree", DecisionTreeClassifier(max_depth=3))]),
    "Pipeline of ColumnTransformer": lambda: make_pipeline(_columns(), LogisticRegression(max_iter=500)),
    "SimpleImputer": SimpleImputer,
    "LogisticRegression-ovr": _ovr,
}
GAPS = ("HistGradientBoostingClassifier", "Pipeline of SimpleImputer", "SimpleImputer")  # they take missing values
REGRESSORS = ("LinearRegression", "Ridge", "Lasso", "PLSRegression", "ExtraTreesRegressor", "GaussianProcessRegressor")


def _columns() -> Any:
    encoder = OneHotEncoder(handle_unknown="ignore")
    return make_column_transformer((encoder, ["plan"]), (SimpleImputer(), ["age", "spent"]))


def _data(name: str) -> tuple[Any, Any, Any]:
    """Rows and labels to fit on, and rows to answer: arrays, or frames for columns of several types."""
    random = np.random.RandomState(0)
    rows = random.normal(size=(120 + ROWS, 5))
    labels = (rows[:, 0] + rows[:, 1] ** 2 > 0.5).astype(int) + (rows[:, 2] > 0.8)
    if "ColumnTransformer" in name:
        plan = random.choice(["free", "paid", "team"], len(rows)).astype(object)
        plan[-1] = "unseen"
        frame = pd.DataFrame({"plan": plan, "age": rows[:, 0], "spent": rows[:, 1]})
        frame.loc[len(rows) - 2, "age"] = np.nan
        return frame[:120], labels[:120], frame[120:]
    if name in GAPS:
        rows[::7, 1] = np.nan
    truth = rows @ np.arange(5.0) + labels if name in REGRESSORS else labels
    return rows[:120], truth[:120], rows[120:]


def save(folder: Path) -> None:
    """Each estimator that this version knows: its file, what it answers, and its packages."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in ESTIMATORS.items():
        try:
            model = make()
        except TypeError:  # the parameter is not known any more
            continue
        data, truth, rows = _data(name)
        file = folder / f"{name}.joblib"
        joblib.dump(model.fit(data, truth), file)
        asked = rows.to_dict("records") if hasattr(rows, "columns") else rows.tolist()
        told = {"sklearn": sklearn.__version__, "rows": asked, "answers": _answers(model, rows)}
        file.with_suffix(".json").write_text(json.dumps(told))
        bimodal.pack(file, folder / f"{name}.bimodal", overwrite=True)


def _answers(model: Any, rows: Any) -> dict[str, Any]:
    """What scikit-learn itself answers, under the names of Bimodal's outputs."""
    if not hasattr(model, "predict"):
        return {"transformed": model.transform(rows).tolist()}
    found = {"prediction": np.asarray(model.predict(rows)).tolist()}
    for output, method in (("probability", "predict_proba"), ("score", "decision_function")):
        if hasattr(model, method):
            return {**found, output: getattr(model, method)(rows).tolist()}
    return found


def keep(folder: Path) -> None:
    """The files of the short form: small ones, the dangerous among them."""
    for name in {*FILES, *PACKAGES}:
        told = json.loads((folder / f"{name}.json").read_text())
        place = KEPT / told["sklearn"]
        place.mkdir(parents=True, exist_ok=True)
        few = {"rows": told["rows"][:8], "answers": {each: then[:8] for each, then in told["answers"].items()}}
        (place / f"{name}.json").write_text(json.dumps(told | few) + "\n")
        shutil.copyfile(folder / f"{name}.joblib", place / f"{name}.joblib")
        if name in PACKAGES:
            shutil.copytree(folder / f"{name}.bimodal", place / f"{name}.bimodal")


# -- loading -----------------------------------------------------------------------------------------------------------


def load(folder: Path) -> dict[str, list[str]]:
    """What became of each model in the folder: `name/way` → outcome, and the sentence that was told."""
    return {f"{file.stem}/{way}": list(outcome(file, way)) for file in sorted(folder.glob("*.joblib")) for way in WAYS}


def recorded(file: Path) -> dict[str, Any]:
    """The version that saved it, rows, and what scikit-learn answered to them then."""
    told: dict[str, Any] = json.loads(file.with_suffix(".json").read_text())
    return told


def outcome(file: Path, way: str) -> tuple[str, str]:
    """One of refused, served, and the breaches: FAILED after it was ready, OTHER answers, UNTOLD what is the matter."""
    told = recorded(file)
    place = file if way == "bare" else file.with_suffix(".bimodal")
    try:
        model = bimodal.load(place, background=False, runtime="native" if way == "native" else "auto")
    except BimodalError as error:
        named = all(each in str(error) for each in (told["sklearn"], sklearn.__version__, "install"))
        return "refused" if named else "UNTOLD", str(error)
    with model:
        return judged(model, told, way)


def judged(model: Any, told: dict[str, Any], way: str) -> tuple[str, str]:
    said = " | ".join(model.warnings)
    rows = [[None if each != each else each for each in row] if isinstance(row, list) else row for row in told["rows"]]
    try:
        given = model.predict(rows, outputs=[each.name for each in model.signature.outputs])
    except BimodalError as error:
        return "FAILED", f"{error} ({said})"
    answers = {name: [each[name] for each in given] for name in given[0]}
    if "transformed" in told["answers"] and "transformed" not in answers:
        answers = {"transformed": [list(each.values()) for each in given]}
    for name, then in told["answers"].items():
        if name not in answers:
            return "FAILED", f"there is no {name} any more ({said})"
        if is_other(np.asarray(then), np.asarray(answers[name]), model.runtime_name):
            return "OTHER", f"{name} ({said})"
    if way == "bare" and told["sklearn"] != sklearn.__version__ and told["sklearn"] not in said:
        return "UNTOLD", said
    return f"served by {model.runtime_name}", said


def is_other(then: Array, now: Array, runtime: str) -> bool:
    """Whether answers differ by more than golden rows may; of ONNX by more than its form was proven to."""
    if runtime == "onnx" and then.dtype.kind == "f":
        return not np.allclose(now, then, rtol=MOVED["float32"], atol=MOVED["float32"])
    return bool(differing(then, now).any())


# -- the environments --------------------------------------------------------------------------------------------------


def environment(version: str, cache: Path) -> Path:
    """The Python with that version of scikit-learn, and all else that Bimodal needs for its models."""
    if version == sklearn.__version__:
        return Path(sys.executable)
    folder = cache / version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["batch"], "joblib", "pandas", "onnxruntime"]
    done, wanted = folder / "done", "\n".join([f"scikit-learn=={version}", *needed])
    if not done.exists() or done.read_text() != wanted:
        log, python = cache / "made.log", str(folder / "bin" / "python")
        step(f"the environment of scikit-learn {version}", log, sys.executable, "-m", "venv", str(folder))
        pip = [python, "-m", "pip", "install", "-q", "--timeout", "120", "--retries", "10"]  # seconds without a byte
        step(f"the environment of scikit-learn {version}", log, *pip, *wanted.splitlines())
        done.write_text(wanted)
    return folder / "bin" / "python"


def step(what: str, log: Path, *command: str, **known: str) -> str:
    """What the command prints. log: where what it says beside that goes. known: beyond the environment."""
    with log.open("a") as told:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **known}, stdout=subprocess.PIPE, stderr=told, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"{what}: {command[0]} ended with {done.returncode}; what it said is in {log}")
    return done.stdout


def asked(version: str, place: Path, verb: str, saved: str) -> str:
    """What this file prints in the environment of that version, of which `place` has the folder."""
    python = environment(version, place.parent)
    known = {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "PYTHONWARNINGS": "ignore",
        "BIMODAL_CACHE": str(place / "compiled" / version),  # nothing that other code has compiled
    }
    command = [str(python), "-m", "tests.formats.versions", verb, str(place / "saved" / saved)]
    return step(f"{verb} {saved} under scikit-learn {version}", place / "said.log", *command, **known)


def digest() -> str:
    """Of the code that decides what becomes of a model."""
    package = (ROOT / "src" / "bimodal").rglob("*")
    files = [*(each for each in package if each.suffix in (".py", ".so")), Path(__file__), ROOT / "pyproject.toml"]
    whole = hashlib.sha256()
    for each in sorted(files):
        whole.update(f"{each.relative_to(ROOT)}\0{hashlib.sha256(each.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def made(version: str, place: Path) -> None:
    """Saves them in that version, once."""
    done = place / "saved" / version / "done"
    if not done.exists():
        asked(version, place, "save", version)
        done.touch()


def loaded(then: str, now: str, place: Path) -> dict[str, list[str]]:
    """What becomes of those of the version `then` under the version `now`, found once."""
    file = place / f"{then} under {now}.json"
    if not file.exists():
        new = file.with_suffix(".new")
        new.write_text(asked(now, place, "load", then).splitlines()[-1])
        new.rename(file)
    found: dict[str, list[str]] = json.loads(file.read_text())
    return found


def is_breach(result: str, then: str, now: str) -> bool:
    return result.isupper() or (then == now and result == "refused")


def matrix(cache: Path, *, again: bool) -> bool:
    """Save and load all; print what became of them. Whether nothing was a breach. again: also what was done."""
    place = cache / digest()
    if again:
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    for version in VERSIONS:
        environment(version, cache)
    counted: dict[str, Counter[str]] = {way: Counter() for way in WAYS}
    pairs = [(then, now, place) for now in VERSIONS for then in VERSIONS]
    sound = True
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(made, VERSIONS, itertools.repeat(place)):
            pass
        for (then, now, _), found in zip(pairs, pool.map(loaded, *zip(*pairs, strict=True)), strict=True):
            for name, (result, sentence) in found.items():
                counted[name.rpartition("/")[2]][f"{'same' if then == now else 'other'} version: {result}"] += 1
                if is_breach(result, then, now):
                    sound = False
                    print(f"{then} -> {now}  {name}: {result}: {sentence}")
            print(f"{then} -> {now}", dict(Counter(result for result, _ in found.values())), flush=True)
    for way in WAYS:
        print(way, dict(sorted(counted[way].items())))
    return sound


@contextmanager
def quick() -> Iterator[None]:
    """The processes of models are forked from one that has imported scikit-learn."""
    with nursery() as environment:
        os.environ.update(environment)
        subprocess.Popen = Popen  # type: ignore[misc,assignment] # for all that this process starts
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("save", "load", "keep"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--again", action="store_true", help="also what was done for the same code")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "bimodal-versions")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with quick() if options.what else nullcontext():
        if options.what == "save":
            save(options.folder)
        elif options.what == "load":
            print(json.dumps(load(options.folder)))
        elif options.what == "keep":
            keep(options.folder)
    return 0 if options.what or matrix(options.cache, again=options.again) else 1


if __name__ == "__main__":
    sys.exit(main())
