"""The servers that Bimodal is compared with: how each is started, and in which body it takes a row."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.models import NUMBERS, TEXTS, Case
from bench.servers import ONE_THREAD, PEERS, Server, free_port, running
from conformance.environment import environment, variables

Row = Mapping[str, Any]
Body = Callable[[str, Row], Any]  # of the case's name and a row of its bodies
PATIENCE = 240.0  # seconds to the first answer
TYPES = {"FP64": "np", "BYTES": "str"}  # how MLServer reads them


def _same(_: str, row: Row) -> Any:
    return row


def _columns(row: Row) -> list[dict[str, Any]]:
    """A tensor a column."""
    kinds = {**dict.fromkeys(NUMBERS, "FP64"), **dict.fromkeys(TEXTS, "BYTES")}
    return [{"name": name, "datatype": kinds[name], "data": [row[name]]} for name in kinds]


def _mlserver(case: str, row: Row) -> Any:
    if case == "linear":
        tensors = [{"name": "input", "shape": [1, len(row["input"])], "datatype": "FP64", "data": row["input"]}]
    else:
        tensors = [{**each, "shape": [1]} for each in _columns(row["rows"][0])]
    return {"inputs": tensors}


def _triton(case: str, row: Row) -> Any:
    if case == "linear":
        return _mlserver(case, row)
    return {"inputs": [{**each, "shape": [1, 1]} for each in _columns(row["rows"][0])]}


def _instances(case: str, row: Row) -> Any:
    return {"instances": [row["input"]] if case == "linear" else row["rows"]}


def _bentoml(case: str, row: Row) -> Any:
    return {"rows": [row["input"]] if case == "linear" else row["rows"]}


def _mlflow(case: str, row: Row) -> Any:
    return {"inputs": [row["input"]]} if case == "linear" else {"dataframe_records": row["rows"]}


@dataclass(frozen=True)
class Rival:
    """A server. arguments: behind the program of its environment; PORT stands for the port. batches: whether it can."""

    name: str
    title: str
    program: str
    arguments: Sequence[str]
    path: str = "/predict"
    body: Body = _same
    batches: bool = False


def _script(name: str, title: str, file: str, **rest: Any) -> Rival:
    return Rival(name, title, "python", (str(PEERS / file), "PORT"), **rest)


MLFLOW = {"path": "/invocations", "body": _mlflow}
RIVALS: dict[str, Rival] = {
    each.name: each
    for each in (
        _script("fastapi", "FastAPI", "fastapi_server.py"),
        Rival("mlserver", "MLServer", "mlserver", ("start", "FOLDER"), "/v2/models/model/infer", _mlserver, True),
        Rival(
            "bentoml",
            "BentoML",
            "bentoml",
            ("serve", "bentoml_service:Predictor", "--working-dir", str(PEERS), "--port", "PORT"),
            body=_bentoml,
            batches=True,
        ),
        _script("litserve", "LitServe", "litserve_server.py", batches=True),
        Rival(
            "mosec",
            "mosec",
            "python",
            (str(PEERS / "mosec_server.py"), "--port", "PORT", "--address", "127.0.0.1", "--timeout", "60000"),
            "/inference",
            batches=True,
        ),
        _script("kserve", "KServe", "kserve_server.py", path="/v1/models/model:predict", body=_instances),
        _script("ray", "Ray Serve", "ray_server.py", batches=True),
        _script("mlflow", "MLflow", "mlflow_model.py", **MLFLOW),
        _script("triton", "Triton", "triton_server.py", path="/v2/models/model/infer", body=_triton, batches=True),
    )
}


def bodies(rival: Rival, case: Case) -> tuple[bytes, ...]:
    """The case's rows as this server takes them."""
    return tuple(json.dumps(rival.body(case.name, json.loads(each))).encode() for each in case.bodies)


@contextmanager
def serving(rival: Rival, case: Case, folder: Path, *, batch: bool) -> Iterator[Server]:
    """The server with the case's model, in its own environment below the folder."""
    programs = environment(folder, rival.name, PEERS / "requirements" / f"{rival.name}.txt")
    port = free_port()
    with TemporaryDirectory(prefix="bimodal-bench-") as place:
        if rival.name == "mlserver":
            _mlserver_settings(Path(place), port, case, batch=batch)
        filled = {"PORT": str(port), "FOLDER": place}
        command = [str(programs / rival.program), *(filled.get(each, each) for each in rival.arguments)]
        told = {
            **variables(programs),
            **ONE_THREAD,
            "MODEL": str(case.model),
            "CASE": case.name,
            "BATCH": "1" if batch else "0",
            "BENTOML_HOME": place,
            "BENTOML_DO_NOT_TRACK": "true",
            "RAY_USAGE_STATS_ENABLED": "0",
            "TMPDIR": place,
        }
        title = f"{rival.title}, batching" if batch else rival.title
        url = f"http://127.0.0.1:{port}{rival.path}"
        first = bodies(rival, case)[0]
        with running(title, command, url, body=first, environment=told, patience=PATIENCE) as server:
            yield server


def _mlserver_settings(folder: Path, port: int, case: Case, *, batch: bool) -> None:
    """One process, no access log; columns as a frame. batch: its adaptive batching."""
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings |= {"parallel_workers": 0, "debug": False, "use_structured_logging": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    about: dict[str, Any] = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(case.model)},
    }
    if case.name == "mixed":
        about["parameters"]["content_type"] = "pd"
        kinds = {**dict.fromkeys(NUMBERS, "FP64"), **dict.fromkeys(TEXTS, "BYTES")}
        about["inputs"] = [
            {"name": name, "datatype": kind, "shape": [-1], "parameters": {"content_type": TYPES[kind]}}
            for name, kind in kinds.items()
        ]
    if batch:
        about |= {"max_batch_size": 64, "max_batch_time": 0.005}
    (folder / "model-settings.json").write_text(json.dumps(about))


def bimodal(case: Case) -> Rival:
    """Bimodal itself, in this interpreter; --workers 1, everything else as it comes."""
    arguments = ("-m", "bimodal", "serve", str(case.model), "--port", "PORT", "--workers", "1")
    return Rival("bimodal", "Bimodal", sys.executable, arguments)
