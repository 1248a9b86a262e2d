"""`serve`: models behind a running server."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bimodal import config, settings
from bimodal.config import Config, ModelTable, StoreTable
from bimodal.errors import UsageError
from bimodal.formats import trust as trusts
from bimodal.formats.library import library
from bimodal.keys import beside as keys_beside
from bimodal.location import Location
from bimodal.private import PrivateFolder
from bimodal.realtime import access, tracing
from bimodal.realtime import repository as repositories
from bimodal.realtime.access import STANDARD
from bimodal.realtime.limits import Limits
from bimodal.realtime.server import Server
from bimodal.runtimes.isolation import Isolation

SETTINGS = settings.table(settings.SERVE)
RECORDED = ("prediction_log", "prediction_log_sample", "prediction_log_without")  # that a model may have of its own
LEAST = 10**6  # bytes, less than the process of any model holds
ISOLATION = ("spare", "model_memory", "load_timeout")  # of the processes of native models
LIMITS = {  # settings that are limits of a worker
    "deadline": "deadline",
    "body_limit": "body_bytes",
    "row_limit": "rows",
    "header_timeout": "header_timeout",
    "body_timeout": "body_timeout",
    "body_rate": "body_rate",
    "idle_timeout": "idle_timeout",
}


def serve(
    *models: Any,
    host: str | None = None,
    port: int | None = None,
    grpc_port: int | None = None,
    workers: int | None = None,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    tls_client_ca: str | Path | None = None,
    tls_password: str | None = None,
    outputs: Sequence[str] | None = None,
    threshold: float | None = None,
    cors: Sequence[str] | None = None,
    keys: str | Path | None = None,
    hosts: Sequence[str] | None = None,
    code: str | Path | Sequence[str | Path] = (),
    trust: str | Sequence[str] = (),
    sample: Any = None,
    features: Sequence[str] | None = None,
    runtime: str | None = None,
    allow_drift: bool = False,
    insecure: bool = False,
    queue_target: float | None = None,
    repository: str | Path | None = None,
    repository_control: str | None = None,
    repository_versions: int | None = None,
    reload: bool | None = None,
    stores: Mapping[str, Mapping[str, Any]] | None = None,
    access_log: str | Path | None = None,
    access_log_sample: float | None = None,
    access_log_peer: bool | None = None,
    traces: str | None = None,
    prediction_log: str | Path | None = None,
    prediction_log_sample: float | None = None,
    prediction_log_without: Sequence[str] | None = None,
    prediction_log_age: float | None = None,
    prediction_log_keep: float | str | None = None,
    prediction_log_limit: int | str | None = None,
    **limits: Any,
) -> Server:
    """Serve models over HTTP and gRPC from worker processes; returns when the first request can be answered.

    models: paths, Models or objects with `predict`, each under its own name; or the path of one bimodal.toml, for
    its models and its [server]; or a repository, which is a folder of models, NAME/VERSION/… (`repository` names
    one to be served beside other models). reload: what is saved in the place of a model is served soon after. port:
    0 takes a free one. grpc_port: one more, for callers who want gRPC on a port of its own; both answer both.
    tls_cert, tls_key: files of HTTPS; tls_client_ca: of who signs callers' certificates; tls_password: where that
    of the key stands, env:NAME or file:PATH. keys: the file of those that callers need one of (`bimodal.keys`); ""
    for none. hosts: names that the server is reached by, beside its address. outputs: what is answered when a
    request names none. limits: deadline, header_timeout, body_timeout, idle_timeout (seconds), body_limit (bytes),
    body_rate (bytes a second), row_limit. What is not given comes from the environment (BIMODAL_PORT, …), then from
    bimodal.toml, then the default. stores: of models that have a prediction store, by name, what `store` gives;
    those of a bimodal.toml are there already. access_log: a file that gets a line of JSON for each request ("-":
    standard output); traces: the address of an OpenTelemetry collector. prediction_log: a folder that keeps what
    was predicted, of a share of the requests (prediction_log_sample), without some columns
    (prediction_log_without), for so long (prediction_log_keep: seconds, or "30 days") and so much
    (prediction_log_limit: bytes, or "10GB").

    The Server has `url`; `wait()` blocks until a signal; `close()`, or the end of a `with` block, answers what is in
    flight and ends. Raises PortTaken naming a free port, UsageError, and whatever keeps a model from loading.
    """
    given = {
        "host": host,
        "port": port,
        "grpc_port": grpc_port,
        "workers": workers,
        "outputs": outputs,
        "threshold": threshold,
        "cors": cors,
        "keys": _path("keys", keys),
        "hosts": hosts,
    }
    tls = {"tls_cert": tls_cert, "tls_key": tls_key, "tls_client_ca": tls_client_ca}
    given |= {name: _path(name, path) for name, path in tls.items()} | {"tls_password": tls_password}
    given |= {"runtime": runtime, "queue_target": queue_target, **limits}
    given |= {
        "repository": _path("repository", repository),
        "repository_control": repository_control,
        "repository_versions": repository_versions,
        "reload": reload,
    }
    given |= {
        "access_log": _path("access_log", access_log),
        "access_log_sample": access_log_sample,
        "access_log_peer": access_log_peer,
        "traces": traces,
        "prediction_log": _path("prediction_log", prediction_log),
        "prediction_log_sample": prediction_log_sample,
        "prediction_log_without": prediction_log_without,
        "prediction_log_age": prediction_log_age,
        "prediction_log_keep": prediction_log_keep,
        "prediction_log_limit": prediction_log_limit,
    }
    loading = {"code": code, "trust": trust, "sample": sample, "features": features, "allow_drift": allow_drift}
    prepared = prepare(models, given, loading)
    told = prepared.told
    folder = PrivateFolder()
    return Server(
        prepared.spec(metrics=str(Path(folder.path, "metrics")), stores=stores),
        host=told["host"],
        port=told["port"],
        grpc_port=told["grpc_port"],
        workers=told["workers"],
        limits=limits_of(told),
        insecure=insecure,
        holds=(folder, prepared.locations),
    )


def _path(name: str, value: Any) -> str | None:
    """A setting that is a path. Raises UsageError for what is none, such as a number."""
    if value is None or isinstance(value, str | os.PathLike):
        return None if value is None else os.fspath(value)
    raise UsageError(f"{name} {value!r}: write a path, as text")


@dataclass(frozen=True)
class Prepared:
    """What a server starts from. told: every setting's value. defaults: of each model that has its own, the outputs
    and the threshold. config: the bimodal.toml that names the models. repository: for the spec, None where there is
    none.
    """

    locations: list[Location]
    told: Mapping[str, Any]
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    config: Config | None = None
    repository: Mapping[str, Any] | None = None
    record: Mapping[str, Any] | None = None

    def spec(self, *, metrics: str | None, stores: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """The server's, as `wiring.build` takes it. config: the path of bimodal.toml, None where there is none."""
        path = None if self.config is None else str(self.config.path)
        known = {**({} if self.config is None else stores_of(self.config)), **(stores or {})}
        told = spec_of(self.locations, self.told, metrics=metrics)
        told |= {"defaults": self.defaults, "config": path, "stores": known, "repository": self.repository}
        return {**told, "record": self.record, "guard": guarded(self.told, path)}


def record(told: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], *, alone: bool) -> dict[str, Any] | None:
    """The prediction log, for a server's spec; None where there is none. told: the settings; models: those of models
    that have their own, by name. alone: one model is served.
    """
    each = {name: _recorded(own) for name, own in models.items()}
    all_of_them = _recorded(told)
    if all(one["folder"] is None for one in (all_of_them, *each.values())):
        return None
    return {**all_of_them, "models": each, "alone": alone}


def _recorded(told: Mapping[str, Any]) -> dict[str, Any]:
    folder, sample = told["prediction_log"], told["prediction_log_sample"]
    return {
        "folder": None if folder is None else str(Path(folder).absolute()),
        "sample": sample,
        "age": told["prediction_log_age"],
        "keep": told["prediction_log_keep"],
        "limit": told["prediction_log_limit"],
        "without": list(told["prediction_log_without"]),
    }


def stores_of(file: Config) -> dict[str, dict[str, Any]]:
    """The prediction stores of a bimodal.toml, by model, with what their jobs predict."""
    found = {}
    for name, table in file.models.items():
        if table.store is not None:
            job = file.jobs.get(table.store.job)
            told = store(table.store, file.home / "predictions" / name)
            outputs = (job.outputs if job else None) or table.outputs
            found[name] = {**told, "outputs": outputs, "proba": job is not None and job.proba}
    return found


def store(table: StoreTable, folder: str | Path) -> dict[str, Any]:
    """A model's prediction store, as a server's spec has it. folder: predictions/MODEL in the state folder."""
    return {"table": asdict(table), "folder": str(folder)}


def prepare(models: Sequence[Any], given: Mapping[str, Any], loading: Mapping[str, Any]) -> Prepared:
    """Find the models and settle the settings. given: settings by name, None where one is not given."""
    if len(models) == 1 and isinstance(models[0], str | Path) and str(models[0]).endswith(".toml"):
        refuse(loading)
        return of_config(config.read(models[0]), given)
    if len(models) == 1 and isinstance(models[0], str | Path) and repositories.is_repository(models[0]):
        given = {**given, "repository": str(models[0])}
        models = ()
    for each in models:
        if isinstance(each, str | Path) and repositories.is_repository(each):
            raise UsageError(f"{each} is a repository: serve it alone, or beside models with --repository {each}")
    told = resolved(given)
    shared = repository(told, loading)
    located = [] if shared is not None and not models else locate(models, **loading, runtime=told["runtime"])
    return Prepared(
        located, told, repository=shared, record=record(told, {}, alone=shared is None and len(located) == 1)
    )


def repository(told: Mapping[str, Any], loading: Mapping[str, Any]) -> dict[str, Any] | None:
    """The repository of a server, for its spec: path, control, versions, and how its models are loaded. Raises
    UsageError.
    """
    if told["repository"] is None:
        if told["repository_control"] == "poll":
            raise UsageError("repository_control poll: there is no repository; name its folder with --repository")
        return None
    sample, code = loading.get("sample"), loading.get("code") or ()
    if sample is not None and not isinstance(sample, str | Path):
        raise UsageError("for the models of a repository the sample is a file; or pack each model with its own")
    return {
        "path": str(repositories.Repository(told["repository"]).folder),
        "control": told["repository_control"],
        "versions": told["repository_versions"],
        "loading": {
            "sample": None if sample is None else str(sample),
            "code": [str(each) for each in ((code,) if isinstance(code, str | Path) else code)],
            "features": loading.get("features"),
            "trust": list(trusts.names(loading.get("trust") or ())),
            "allow_drift": bool(loading.get("allow_drift")),
            "runtime": told["runtime"],
            "spare": told["spare"],
            "model_memory": told["model_memory"],
            "load_timeout": told["load_timeout"],
        },
    }


def of_config(file: Config, given: Mapping[str, Any]) -> Prepared:
    """The models of a bimodal.toml, each with its own runtime, outputs and threshold unless they are given."""
    told = resolved(given, file.server)
    locations, defaults, recorded = [], {}, {}
    for name, table in file.models.items():
        own = recorded[name] = resolved(given, {**file.server, **_own(table)})
        locations.append(
            Location.find(
                table.path,
                sample=table.sample,
                code=table.code,
                trust=table.trust or (),
                features=table.features,
                name=name,
                runtime=own["runtime"],
                allow_drift=table.allow_drift,
            )
        )
        defaults[name] = {"outputs": own["outputs"], "threshold": own["threshold"]}
    shared = repository(told, {})
    if not locations and shared is None:
        raise UsageError(f"{file.path} names no model; write a table [models.NAME] with its path")
    return Prepared(locations, told, defaults, file, shared, record(told, recorded, alone=len(locations) == 1))


def _own(table: ModelTable) -> dict[str, Any]:
    """The settings that a model's table gives."""
    runtime = None if table.runtime == "auto" else table.runtime
    own = {"runtime": runtime, "outputs": table.outputs, "threshold": table.threshold}
    own |= {name: getattr(table, name) for name in RECORDED}
    return {name: value for name, value in own.items() if value is not None}


def refuse(loading: Mapping[str, Any]) -> None:
    """With a bimodal.toml, what is said of a model stands there."""
    for name, value in loading.items():
        if value:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} is for models that are named themselves; write {name} into their [models.NAME]")


def resolved(given: Mapping[str, Any], file: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every setting's value: given, else from the environment, else from the file, else the default."""
    for name in given:
        if name not in SETTINGS:
            raise UsageError(f"serve has no setting {name!r}; it has {', '.join(SETTINGS)}")
    return {name: settings.resolve(setting, given.get(name), file=file) for name, setting in SETTINGS.items()}


def guarded(told: Mapping[str, Any], config: str | None) -> dict[str, Any]:
    """What the settings say of who may come in, for a server's spec. keys: a path, empty for none; where nothing is
    said, the file that stands where `bimodal keys` puts it. config: path of the bimodal.toml, if there is one.
    """
    named, usual = told["keys"], keys_beside(config)
    path = usual if named is None and os.path.lexists(usual) else named
    return {
        "keys": str(Path(path).absolute()) if path else None,
        "hosts": list(told["hosts"]),
        "cors": list(told["cors"]),
        "routes": {"predict": told["predict_route"], "health": told["health_route"]},
    }


def secured(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """The files of TLS, for a server's spec; None where it speaks in clear text. Raises UsageError."""
    if all(told[name] is None for name in ("tls_cert", "tls_key", "tls_client_ca", "tls_password")):
        return None
    files = library("bimodal.realtime.tls").Files.told(told)  # only now: a server without it starts sooner
    return None if files is None else dict(files.spec())


def observed(told: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> dict[str, Any] | None:
    """What is seen of requests from outside, for a server's spec; None where nothing is. Raises UsageError."""
    path = told["access_log"]
    for name in ("access_log_sample", "access_log_peer"):
        if path is None and told[name] != SETTINGS[name].default:
            flag = SETTINGS[name].flag
            raise UsageError(f"{flag}: there is no access log; name its file with {SETTINGS['access_log'].flag}")
    traces = tracing.wanted(told["traces"], environment)
    if path is None and traces is None:
        return None
    place = path if path is None or path == STANDARD else os.path.abspath(path)
    if place is not None:
        access.check(place)
    return {
        "access_log": place,
        "sample": told["access_log_sample"],
        "peers": told["access_log_peer"],
        "traces": traces,
    }


def limits_of(told: Mapping[str, Any]) -> Limits:
    return replace(Limits(), **{limit: told[name] for name, limit in LIMITS.items()})


def locate(models: Sequence[Any], **loading: Any) -> list[Location]:
    if not models:
        raise UsageError("no model was named; give the path of a saved one")
    given = [getattr(each, "location", each) for each in models]  # a Model knows its own
    locations = [each if isinstance(each, Location) else Location.find(each, **loading) for each in given]
    twice = [name for name, count in Counter(each.name for each in locations).items() if count > 1]
    if twice:
        raise UsageError(f"two models are called {twice[0]!r}; rename the file of one of them")
    return locations


def spec_of(locations: Sequence[Location], told: Mapping[str, Any], *, metrics: str | None) -> dict[str, Any]:
    Isolation.of(*(told[name] for name in ISOLATION))  # that the values are sound
    if told["model_memory"] is not None and told["model_memory"] < LEAST:
        raise UsageError(
            f"model_memory {told['model_memory']}: a model needs 1 MB at least; write it like 2GB or 600MB"
        )
    return {
        "models": [{**each.spec(), **{name: told[name] for name in ISOLATION}} for each in locations],
        "outputs": told["outputs"],
        "threshold": told["threshold"],
        "cors": list(told["cors"]),
        "queue_target": told["queue_target"],
        "workers": told["workers"],
        "metrics": metrics,
        "reload": told["reload"],
        "observe": observed(told),
        "tls": secured(told),
        "routes": {"predict": told["predict_route"], "health": told["health_route"]},
    }
