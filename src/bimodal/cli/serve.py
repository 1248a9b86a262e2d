"""`bimodal serve`: answer live requests."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bimodal import settings
from bimodal.cli.options import Code, Drift, Features, Runtime, Sample, Trust, option, split
from bimodal.errors import UsageError
from bimodal.realtime import lines, serving
from bimodal.realtime.access import STANDARD

SETTINGS = settings.table(settings.SERVE)
EPILOG = """\b
Examples:
    bimodal serve my_model.pkl
    bimodal serve my_model.pkl --port 5000 --outputs prediction,probability
    bimodal serve churn.pkl fraud.onnx --workers 2
    curl -d '{"input": [5.1, 3.5, 1.4, 0.2]}' http://127.0.0.1:8000/predict
    bimodal serve models/                               a repository: models/NAME/VERSION/…
    bimodal serve bimodal.toml                          its models, with its [server]
    bimodal serve my_model.pkl --post request.json      one request, no port
"""


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL…|REPOSITORY|CONFIG",
            help="Saved models, each served under its file's name; or a folder of models; or a bimodal.toml.",
        ),
    ] = None,
    host: Annotated[str | None, option(SETTINGS["host"])] = None,
    port: Annotated[int | None, option(SETTINGS["port"])] = None,
    grpc_port: Annotated[int | None, option(SETTINGS["grpc_port"])] = None,
    workers: Annotated[int | None, option(SETTINGS["workers"])] = None,
    tls_cert: Annotated[str | None, option(SETTINGS["tls_cert"])] = None,
    tls_key: Annotated[str | None, option(SETTINGS["tls_key"])] = None,
    tls_client_ca: Annotated[str | None, option(SETTINGS["tls_client_ca"])] = None,
    tls_password: Annotated[str | None, option(SETTINGS["tls_password"])] = None,
    outputs: Annotated[Any, option(SETTINGS["outputs"])] = None,
    threshold: Annotated[float | None, option(SETTINGS["threshold"])] = None,
    cors: Annotated[Any, option(SETTINGS["cors"])] = None,
    keys: Annotated[str | None, option(SETTINGS["keys"])] = None,
    hosts: Annotated[Any, option(SETTINGS["hosts"])] = None,
    code: Code = None,
    trust: Trust = None,
    sample: Sample = None,
    features: Features = None,
    runtime: Runtime = None,
    allow_drift: Drift = False,
    model_memory: Annotated[int | None, option(SETTINGS["model_memory"])] = None,
    load_timeout: Annotated[float | None, option(SETTINGS["load_timeout"])] = None,
    spare: Annotated[str | None, option(SETTINGS["spare"])] = None,
    queue_target: Annotated[float | None, option(SETTINGS["queue_target"])] = None,
    deadline: Annotated[float | None, option(SETTINGS["deadline"])] = None,
    body_limit: Annotated[int | None, option(SETTINGS["body_limit"])] = None,
    row_limit: Annotated[int | None, option(SETTINGS["row_limit"])] = None,
    header_timeout: Annotated[float | None, option(SETTINGS["header_timeout"])] = None,
    body_timeout: Annotated[float | None, option(SETTINGS["body_timeout"])] = None,
    body_rate: Annotated[int | None, option(SETTINGS["body_rate"])] = None,
    idle_timeout: Annotated[float | None, option(SETTINGS["idle_timeout"])] = None,
    repository: Annotated[str | None, option(SETTINGS["repository"])] = None,
    repository_control: Annotated[str | None, option(SETTINGS["repository_control"])] = None,
    repository_versions: Annotated[int | None, option(SETTINGS["repository_versions"])] = None,
    reload: Annotated[bool | None, typer.Option("--reload/--no-reload", help=SETTINGS["reload"].help)] = None,
    access_log: Annotated[str | None, option(SETTINGS["access_log"])] = None,
    access_log_sample: Annotated[float | None, option(SETTINGS["access_log_sample"])] = None,
    access_log_peer: Annotated[Any, option(SETTINGS["access_log_peer"])] = None,
    traces: Annotated[str | None, option(SETTINGS["traces"])] = None,
    prediction_log: Annotated[str | None, option(SETTINGS["prediction_log"])] = None,
    prediction_log_sample: Annotated[float | None, option(SETTINGS["prediction_log_sample"])] = None,
    prediction_log_without: Annotated[Any, option(SETTINGS["prediction_log_without"])] = None,
    prediction_log_age: Annotated[float | None, option(SETTINGS["prediction_log_age"])] = None,
    prediction_log_keep: Annotated[float | None, option(SETTINGS["prediction_log_keep"])] = None,
    prediction_log_limit: Annotated[int | None, option(SETTINGS["prediction_log_limit"])] = None,
    predict_route: Annotated[str | None, option(SETTINGS["predict_route"])] = None,
    health_route: Annotated[str | None, option(SETTINGS["health_route"])] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without keys or client certificates.")
    ] = False,
    get: Annotated[str | None, typer.Option("--get", metavar="PATH", help="Answer one GET and leave; no port.")] = None,
    post: Annotated[
        str | None, typer.Option("--post", metavar="FILE", help="Answer one POST /predict and leave.")
    ] = None,
) -> None:
    """Answer live requests over HTTP."""
    options: dict[str, Any] = {
        "grpc_port": grpc_port,
        "outputs": outputs,
        "runtime": runtime,
        "threshold": threshold,
        "cors": cors,
        "keys": keys,
        "hosts": hosts,
        "predict_route": predict_route,
        "health_route": health_route,
        "model_memory": model_memory,
        "load_timeout": load_timeout,
        "spare": spare,
        "queue_target": queue_target,
        "deadline": deadline,
        "body_limit": body_limit,
        "row_limit": row_limit,
        "header_timeout": header_timeout,
        "body_timeout": body_timeout,
        "body_rate": body_rate,
        "idle_timeout": idle_timeout,
        "repository": repository,
        "repository_control": repository_control,
        "repository_versions": repository_versions,
        "reload": reload,
    }
    loading: dict[str, Any] = {
        "code": code or (),
        "trust": trust or (),
        "sample": sample,
        "features": split(features),
        "allow_drift": allow_drift,
    }
    options |= {
        "access_log": access_log,
        "access_log_sample": access_log_sample,
        "access_log_peer": access_log_peer,
        "traces": traces,
    }
    if get or post:
        once(models or [], get, post, options, loading)
        return
    lines.begin("server")
    options |= {"host": host, "port": port, "workers": workers, "insecure": insecure}
    options |= {
        "prediction_log": prediction_log,
        "prediction_log_sample": prediction_log_sample,
        "prediction_log_without": prediction_log_without,
        "prediction_log_age": prediction_log_age,
        "prediction_log_keep": prediction_log_keep,
        "prediction_log_limit": prediction_log_limit,
    }
    options |= {"tls_cert": tls_cert, "tls_key": tls_key, "tls_client_ca": tls_client_ca, "tls_password": tls_password}
    server = serving.serve(*(models or ()), **loading, **options)
    alone = settings.resolve(SETTINGS["access_log"], access_log) == STANDARD  # standard output holds lines of JSON
    say = partial(print, file=sys.stderr if alone else sys.stdout, flush=True)
    with server, suppress(KeyboardInterrupt):  # a signal that comes before the server waits for it ends it alike
        say(f"serving {', '.join(server.models)} at {server.url}")
        if server.listens is not None:
            say(f"  listens  on {server.listens}")
        say(f"  try it   {server.url}/          every route: {server.url}/docs")
        body = server.example()  # none where nobody knows what its rows look like
        where = f"{server.url}/predict"
        does = f"{server.curl} {where} -d '{body}'" if body else f"POST {where}: see {server.url}/docs"
        say(f"  predict  {does}")
        say(f"  grpc     {server.grpc}{' (TLS)' if server.secure else ''}")
        if server.mutual:
            say("  mTLS     callers show a certificate: curl --cert FILE --key FILE, Client(cert=…)")
        if server.keys is not None:
            say(f"  keys     {server.keys}: curl -H 'Authorization: Bearer KEY', Client(key=KEY)")
        server.wait()


def once(
    models: list[str], get: str | None, post: str | None, options: dict[str, Any], loading: dict[str, Any]
) -> None:
    """One request through the app itself, without a server."""
    if get and post:
        raise UsageError("--get and --post exclude each other")
    body = b""
    if post:
        if post != "-" and not Path(post).is_file():
            raise UsageError(f"--post {post}: there is no such file")
        body = sys.stdin.buffer.read() if post == "-" else Path(post).read_bytes()
    method, target = ("GET", get) if get else ("POST", "/predict")
    from bimodal.realtime.once import answer_once  # the app itself, which a server's parent process does without

    response = answer_once(models, method, target or "/", body, loading=loading, **options)
    sys.stdout.buffer.write(response.body + (b"" if response.body.endswith(b"\n") else b"\n"))
    if response.status >= 400:
        raise typer.Exit(1)


serve.__doc__ = f"{serve.__doc__}\n\n{EPILOG}"
