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
from math import ceil
from typing import Any

from bimodal.errors import UsageError

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def size(text: str) -> int:
    """Bytes of a text such as 2GB, 600MB, 16MiB or 1048576."""
    word = text.strip().lower()
    number = word.rstrip("bkmgi")
    try:
        return ceil(float(number) * UNITS[word[len(number) :].strip()])
    except (KeyError, ValueError, OverflowError):
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


def host(text: str) -> str:
    """An address to listen on. IP version 6 may stand in brackets, as in a URL."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


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


# -- what a value must be ---------------------------------------------------------------------------------------------

TIME_WANTED = 'a time such as "10 s", "15 min", "2 h", "1 day", or a number of seconds'
SIZE_WANTED = 'a size such as "2GB" or "600MB", or a number of bytes'
SHARE_WANTED = 'a share such as 0.1 or "10%"'


def anything(value: Any) -> None:
    """Nothing is asked of it."""


@dataclass(frozen=True)
class Bounds:
    """A whole number within bounds."""

    least: int
    most: int | None = None

    @property
    def wanted(self) -> str:
        """What to write."""
        return f"a whole number from {self.least} " + ("on" if self.most is None else f"to {self.most}")

    def __call__(self, value: Any) -> None:
        """Raises UsageError."""
        if not isinstance(value, int) or value < self.least or (self.most is not None and value > self.most):
            raise UsageError(f"write {self.wanted}")


def some_bytes(value: Any) -> None:
    """A size, of one byte at least."""
    if not isinstance(value, int | float) or not value >= 1:
        raise UsageError(f"write {SIZE_WANTED}")


def duration(value: Any) -> None:
    """Seconds."""
    if not isinstance(value, int | float) or not value >= 0:
        raise UsageError(f"write {TIME_WANTED}")


def interval(value: Any) -> None:
    """Seconds, more than none."""
    if not isinstance(value, int | float) or not value > 0:
        raise UsageError(f"write {TIME_WANTED} (more than none)")


def fraction(value: Any) -> None:
    """A part of 1."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"write {SHARE_WANTED}")


@dataclass(frozen=True)
class Pattern:
    """A text that has a pattern, or several of them. wanted: what to write."""

    pattern: str
    wanted: str

    def __call__(self, value: Any) -> None:
        """Raises UsageError that shows the first that has it not."""
        for each in (value,) if isinstance(value, str) else value:
            if not isinstance(each, str) or not re.fullmatch(self.pattern, each):
                raise UsageError(f"{each!r}: write {self.wanted}")


_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_SIXTH = r"[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*"  # an address of IP version 6
HOSTS = Pattern(
    rf"\*|(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\.?|{_SIXTH}|\[{_SIXTH}\]",
    "a name or an address alone, without scheme, port and path, such as models.shop.example or *.shop.example",
)
_PLACE = rf"(?:[a-z0-9_.-]+|\[{_SIXTH}\])"
ORIGINS = Pattern(  # as browsers send them, who leave out the usual port
    rf"\*|http://{_PLACE}(?::(?!80(?![0-9]))[0-9]+)?/?|https://{_PLACE}(?::(?!443(?![0-9]))[0-9]+)?/?"
    rf"|(?!https?:)[a-z][a-z0-9+.-]*://{_PLACE}(?::[0-9]+)?/?",
    "an origin as browsers send it, scheme://host or scheme://host:port, in small letters and without the usual "
    "port, such as https://shop.example; or * for all",
)
OWN = (  # paths that the server has itself, or may come to have
    r"/|/(?:chat|docs|health/live|health/ready|invocations|metrics|openapi\.json|ping|predict)"
    r"|/(?:jobs|models|runs|static|v2|v1/chat|v1/completions|v1/models)(?:/.*)?|/(?:grpc|inference)\..*"
)
READY = ("/health/ready", "/ping", "/v2/health/ready")  # those of them that say whether the server is ready
_ROUTE = rf"(?!(?:{OWN})$(?!\n))/[^\s?#%]*"
_ROUTE_WANTED = "a path of its own, none that the server has, which begins with a slash, without ? # % and space"
PREDICT_ROUTE = Pattern(
    rf"|/predict|/v1/models/[^\s?#%/:]+:predict|{_ROUTE}",  # Vertex AI's callers like to say /predict
    f"{_ROUTE_WANTED}, such as /v1/endpoints/1:predict",
)
HEALTH_ROUTE = Pattern(rf"|{'|'.join(READY)}|{_ROUTE}", f"{_ROUTE_WANTED}, such as /health")
COLLECTOR = Pattern(
    r"https?://(?:[^\s/?#@]*@)?(?:[^\s/?#@:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?(?:[/?#]\S*)?",
    "the address of a collector, such as http://localhost:4318",
)


# -- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One setting. read: turns the text of an option or of the environment into the value. also: other names in the
    environment, those that platforms give to their containers. check: raises UsageError for a value that is of no use.
    """

    name: str
    read: Callable[[str], Any]
    default: Any
    help: str
    also: tuple[str, ...] = ()
    check: Callable[[Any], None] = anything

    def judge(self, value: Any) -> Any:
        """The value, which a text is read into. Raises UsageError whose sentence names no setting: who asks knows as
        what the user wrote it.
        """
        try:
            value = self.read(value) if isinstance(value, str) else value
        except ValueError:
            kind = "whole number" if self.read is int else "number"
            raise UsageError(f"{value!r} is no {kind}") from None
        self.check(value)
        return value

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
    check=some_bytes,
)
LOAD_TIMEOUT = Setting(
    "load_timeout", seconds, 600.0, "Time for a native model to load; beyond it, it is ended.", check=interval
)

PORTS = Bounds(0, 65_535)

SERVE = (
    Setting("host", host, "127.0.0.1", "Address to listen on."),
    Setting(
        "port",
        int,
        8000,
        "Port to listen on; 0 takes a free one.",
        also=("SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT"),
        check=PORTS,
    ),
    Setting(
        "grpc_port",
        int,
        None,
        "A second port, for callers who want gRPC on one of its own; it answers on both.",
        check=PORTS,
    ),
    Setting("workers", int, 1, "Processes that answer; each loads the models for itself.", check=Bounds(1)),
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
    Setting("cors", names, (), "Origins whose pages may call the server, such as https://shop.example.", check=ORIGINS),
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
        check=HOSTS,
    ),
    Setting(
        "predict_route",
        str,
        None,
        "One more path of the first model's predictions, in the words of KServe V1 and Vertex AI.",
        also=("AIP_PREDICT_ROUTE",),
        check=PREDICT_ROUTE,
    ),
    Setting(
        "health_route",
        str,
        None,
        "One more path that says whether the server is ready.",
        also=("AIP_HEALTH_ROUTE",),
        check=HEALTH_ROUTE,
    ),
    MODEL_MEMORY,
    LOAD_TIMEOUT,
    Setting(
        "spare",
        spare,
        "auto",
        "Whether a loaded process stands by for when a native model crashes: auto (where cheap), always or never.",
    ),
    Setting(
        "queue_target",
        seconds,
        0.1,
        "Longest time that a request may wait in the queue; beyond it: 429.",
        check=duration,
    ),
    Setting("deadline", seconds, 10.0, "Time within which a request is answered; beyond it: 504.", check=interval),
    Setting("body_limit", size, 16 * 2**20, "Largest body of a request; beyond it: 413.", check=some_bytes),
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
    Setting(
        "repository_versions", int, 2, "Newest versions of a model in a repository that are served.", check=Bounds(1)
    ),
    Setting(
        "upload_limit", size, 2**30, "Largest file that is sent for a run of its own; beyond it: 413.", check=some_bytes
    ),
    Setting("row_limit", int, 10_000, "Most rows of a request; beyond it: 413.", check=Bounds(1)),
    Setting(
        "header_timeout", seconds, 10.0, "Time for the head of a request to arrive; beyond it: 408.", check=interval
    ),
    Setting("body_timeout", seconds, 30.0, "Time for the body of a request to arrive; beyond it: 408.", check=interval),
    Setting(
        "body_rate",
        size,
        1024,
        "Bytes a second that a body taken in pieces brings at least; beyond body_timeout behind it: 408.",
        check=some_bytes,
    ),
    Setting("idle_timeout", seconds, 60.0, "Time after which a connection without requests is closed.", check=interval),
    Setting("access_log", str, None, "A file that gets a line of JSON for each request; - is standard output."),
    Setting(
        "access_log_sample", share, 1.0, "The share of the good answers that the access log tells of.", check=fraction
    ),
    Setting("access_log_peer", switch, True, "Whether the access log tells the addresses of callers: on or off."),
    Setting(
        "traces",
        str,
        None,
        "Where spans go: the address of an OpenTelemetry collector (OTLP over HTTP).",
        check=COLLECTOR,
    ),
    Setting(
        "prediction_log", str, None, "A folder in which what was predicted is kept as Parquet: features and answers."
    ),
    Setting(
        "prediction_log_sample", share, 1.0, "The share of the requests that the prediction log keeps.", check=fraction
    ),
    Setting("prediction_log_without", names, (), "Features and outputs that the prediction log leaves out."),
    Setting(
        "prediction_log_age",
        seconds,
        60.0,
        "Time after which rows of the prediction log stand in a whole file.",
        check=duration,
    ),
    Setting(
        "prediction_log_keep",
        seconds,
        None,
        "Time for which files of the prediction log are kept, such as 30 days (default: they stay).",
        check=interval,
    ),
    Setting(
        "prediction_log_limit",
        size,
        None,
        "Bytes of the prediction log, such as 10GB: beyond them the oldest files are deleted (default: no bound).",
        check=some_bytes,
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
        return _judged(setting, given, setting.name)
    variable = next((name for name in (setting.variable, *setting.also) if name in environment), None)
    if variable is None:
        return setting.default if file is None else file.get(setting.name, setting.default)
    text = environment[variable]
    return _judged(setting, text, f"{variable}={text!r}")


def _judged(setting: Setting, value: Any, spelled: str) -> Any:
    try:
        return setting.judge(value)
    except UsageError as error:
        raise UsageError(f"{spelled}: {error}") from None
