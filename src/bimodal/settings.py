"""The one table of settings: an option counts more than the environment (BIMODAL_*), that more than bimodal.toml, that
more than the default.

From this table come the options of the commands, the names in the environment, the keys of [server] in bimodal.toml
and the page in the reference.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bimodal.errors import UsageError

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def size(text: str) -> int:
    """Bytes of a text such as 2GB, 600MB, 16MiB or 1048576."""
    word = text.strip().lower()
    number = word.rstrip("bkmgi")
    try:
        return int(float(number) * UNITS[word[len(number) :].strip()])
    except (KeyError, ValueError):
        raise UsageError(f"{text!r} is no size; write it like 2GB or 600MB") from None


TIMES = {  # the words of a unit, and its seconds
    ("ms",): 0.001,
    ("", "s", "sec", "second", "seconds"): 1.0,
    ("min", "minute", "minutes"): 60.0,
    ("h", "hour", "hours"): 3600.0,
    ("d", "day", "days"): 86_400.0,
}
FACTORS = {word: factor for words, factor in TIMES.items() for word in words}
TIME = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) *([a-z]*)")


def seconds(text: str) -> float:
    """Seconds of a text such as 0.5, 500ms, 10 s, 15 min, 2h or 1 day."""
    found = TIME.fullmatch(text.strip().lower())
    if found is None or found[2] not in FACTORS:
        raise UsageError(f"{text!r} is no time; write it like 500ms, 10s, 15 min, 2h or 1 day")
    return float(found[1]) * FACTORS[found[2]]


def names(text: str) -> tuple[str, ...]:
    """A list of names, separated by commas; a name that holds one stands in quotes, as in CSV."""
    try:
        cells = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error:
        raise UsageError(f"{text!r} has a quote too many or too few; write a,b or 'a,\"b, with a comma\"'") from None
    return tuple(each.strip() for each in cells if each.strip())


def joined(words: Iterable[str]) -> str:
    """The text that `names` reads as these words."""
    quoted = (f'"{each.replace(chr(34), chr(34) * 2)}"' if "," in each or each[:1] == '"' else each for each in words)
    return ",".join(quoted)


@dataclass(frozen=True)
class Setting:
    """One setting. read: turns the text of an option or of the environment into the value. also: other names in the
    environment, those that platforms give to their containers.
    """

    name: str
    read: Callable[[str], Any]
    default: Any
    help: str
    also: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"BIMODAL_{self.name.upper()}"

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.name.replace('_', '-')}"


RUNTIMES = ("auto", "exact", "onnx", "native")


def runtime(text: str) -> str:
    """One of RUNTIMES."""
    if text not in RUNTIMES:
        raise UsageError(f"there is no runtime {text!r}; it is one of {', '.join(RUNTIMES)}")
    return text


RUNTIME = Setting(
    "runtime", runtime, "auto", "What executes the model: auto (the fastest that is proven), exact, onnx or native."
)

CONTROLS = ("none", "explicit", "poll")


def control(text: str) -> str:
    """One of CONTROLS."""
    if text not in CONTROLS:
        raise UsageError(f"there is no repository control {text!r}; it is one of {', '.join(CONTROLS)}")
    return text


SHARE = re.compile(
    r"(?:0(?:\.[0-9]*)?|\.[0-9]+|1(?:\.0*)?)|(?:[0-9]{1,2}(?:\.[0-9]*)?|\.[0-9]+|100(?:\.0*)?) ?%"  # parts of 1, or %
)


def share(text: str) -> float:
    """A share such as 0.1 or 10%."""
    if not SHARE.fullmatch(text):
        raise UsageError(f"{text!r} is no share; write it like 0.1 or 10%")
    return float(text.rstrip(" %")) / (100 if text.endswith("%") else 1)


def switch(text: str) -> bool:
    """on or off."""
    word = text.strip().lower()
    if word not in ("on", "off", "true", "false"):
        raise UsageError(f"{text!r} is neither on nor off")
    return word in ("on", "true")


SPARES = ("auto", "always", "never")


def spare(text: str) -> str:
    """One of SPARES."""
    if text not in SPARES:
        raise UsageError(f"there is no spare {text!r}; it is one of {', '.join(SPARES)}")
    return text


MODEL_MEMORY = Setting(
    "model_memory",
    size,
    None,
    "Memory that the process of a native model may hold, such as 2GB; beyond it, it is ended (default: 3/4 of all).",
)
LOAD_TIMEOUT = Setting("load_timeout", seconds, 600.0, "Time for a native model to load; beyond it, it is ended.")

SERVE = (
    Setting("host", str, "127.0.0.1", "Address to listen on."),
    Setting(
        "port",
        int,
        8000,
        "Port to listen on; 0 takes a free one.",
        also=("SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT"),
    ),
    Setting("grpc_port", int, None, "A second port, for callers who want gRPC on one of its own; it answers on both."),
    Setting("workers", int, 1, "Processes that answer; each loads the models for itself."),
    Setting(
        "tls_cert", str, None, "The server's certificate (PEM, with those that sign it): HTTPS, and gRPC over TLS."
    ),
    Setting("tls_key", str, None, "Its private key (PEM), unless that stands in the file of the certificate."),
    Setting(
        "tls_client_ca",
        str,
        None,
        "Authorities (PEM) that sign the certificates of callers: every caller must then show one (mTLS).",
    ),
    Setting("tls_password", str, None, "Where the password of an encrypted key stands: env:NAME or file:PATH."),
    RUNTIME,
    Setting(
        "outputs", names, None, "Outputs that are answered when a request names none, such as prediction,probability."
    ),
    Setting("threshold", float, None, "Probability from which on the second of two classes is predicted."),
    Setting("cors", names, (), "Origins whose pages may call the server, such as https://shop.example."),
    Setting(
        "keys",
        str,
        None,
        "The file of the keys that callers need one of (default: bimodal-keys.json beside bimodal.toml, or here).",
    ),
    Setting(
        "hosts",
        names,
        (),
        "Names that the server is reached by, beside its address, such as models.shop.example or *.shop.example.",
    ),
    Setting(
        "predict_route",
        str,
        None,
        "One more path of the first model's predictions, in the words of KServe V1 and Vertex AI.",
        also=("AIP_PREDICT_ROUTE",),
    ),
    Setting(
        "health_route", str, None, "One more path that says whether the server is ready.", also=("AIP_HEALTH_ROUTE",)
    ),
    MODEL_MEMORY,
    LOAD_TIMEOUT,
    Setting(
        "spare",
        spare,
        "auto",
        "Whether a loaded process stands by for when a native model crashes: auto (where cheap), always or never.",
    ),
    Setting("queue_target", seconds, 0.1, "Longest time that a request may wait in the queue; beyond it: 429."),
    Setting("deadline", seconds, 10.0, "Time within which a request is answered; beyond it: 504."),
    Setting("body_limit", size, 16 * 2**20, "Largest body of a request; beyond it: 413."),
    Setting(
        "repository", str, None, "A folder of models, NAME/VERSION/…, that are served beside those that are named."
    ),
    Setting(
        "repository_control",
        control,
        "explicit",
        "How the models of a repository change: explicit (callers load and unload them), poll (what changes in the "
        "folder is served) or none.",
    ),
    Setting(
        "reload",
        switch,
        False,
        "Serve what is saved in the place of a model that was named, once it has stood still for 2 s; else at SIGHUP.",
    ),
    Setting("repository_versions", int, 2, "Newest versions of a model in a repository that are served."),
    Setting("upload_limit", size, 2**30, "Largest file that is sent for a run of its own; beyond it: 413."),
    Setting("row_limit", int, 10_000, "Most rows of a request; beyond it: 413."),
    Setting("header_timeout", seconds, 10.0, "Time for the head of a request to arrive; beyond it: 408."),
    Setting("body_timeout", seconds, 30.0, "Time for the body of a request to arrive; beyond it: 408."),
    Setting(
        "body_rate",
        size,
        1024,
        "Bytes a second that a body taken in pieces brings at least; beyond body_timeout behind it: 408.",
    ),
    Setting("idle_timeout", seconds, 60.0, "Time after which a connection without requests is closed."),
    Setting("access_log", str, None, "A file that gets a line of JSON for each request; - is standard output."),
    Setting(
        "access_log_sample",
        share,
        1.0,
        "The share of the good answers that the access log tells of.",
    ),
    Setting("access_log_peer", switch, True, "Whether the access log tells the addresses of callers: on or off."),
    Setting("traces", str, None, "Where spans go: the address of an OpenTelemetry collector (OTLP over HTTP)."),
    Setting(
        "prediction_log", str, None, "A folder in which what was predicted is kept as Parquet: features and answers."
    ),
    Setting("prediction_log_sample", share, 1.0, "The share of the requests that the prediction log keeps."),
    Setting("prediction_log_without", names, (), "Features and outputs that the prediction log leaves out."),
    Setting("prediction_log_age", seconds, 60.0, "Time after which rows of the prediction log stand in a whole file."),
    Setting(
        "prediction_log_keep",
        seconds,
        None,
        "Time for which files of the prediction log are kept, such as 30 days (default: they stay).",
    ),
    Setting(
        "prediction_log_limit",
        size,
        None,
        "Bytes of the prediction log, such as 10GB: beyond them the oldest files are deleted (default: no bound).",
    ),
)

PREDICT = (
    RUNTIME,
    Setting(
        "max_rejects", str, "0", "Rejected rows with which the result is still published: a number or a share like 1%."
    ),
    Setting("na", names, None, "What stands for a missing value in CSV (default: the markers that pandas knows)."),
    Setting("memory", size, None, "Memory of all processes of the run together, such as 2GB."),
    Setting("ahead", int, None, "Chunks that are read, predicted or written at once (default: measured)."),
    Setting("call_rows", int, None, "Rows that the model is given in one call (default: measured)."),
    Setting(
        "timeout",
        seconds,
        None,
        "Time for one call of the model; beyond it the rows that hang are looked for (default: measured).",
    ),
)


def table(group: tuple[Setting, ...]) -> Mapping[str, Setting]:
    return {each.name: each for each in group}


def resolve(
    setting: Setting,
    given: Any = None,
    environment: Mapping[str, str] = os.environ,
    file: Mapping[str, Any] | None = None,
) -> Any:
    """The value that counts: the one given, else the environment's, else the file's (as `config.read` gives its
    [server]), else the default.
    """
    if given is not None:
        return setting.read(given) if setting is RUNTIME else given
    variable = next((name for name in (setting.variable, *setting.also) if name in environment), None)
    if variable is None:
        return setting.default if file is None else file.get(setting.name, setting.default)
    text = environment[variable]
    try:
        return setting.read(text)
    except ValueError:
        raise UsageError(f"{variable}={text!r} cannot be read as {setting.read.__name__}") from None
