"""Scopes: what a caller must be allowed for each route and each gRPC method.

What is not in these tables needs `admin`: a new route is closed until somebody has thought of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bimodal.realtime.pages import FILES, PAGES
from bimodal.realtime.states import STATISTICS

OPEN, INFER, METRICS, ADMIN = "open", "infer", "metrics", "admin"

HEALTH = ("/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/health/ready")
STATIC = (*PAGES, *(f"/static/{name}" for name in FILES))  # of the package: they tell nothing of this server
OPEN_PATHS = (*HEALTH, *STATIC)  # of GET and HEAD
OPEN_CALLS = (
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)

_MODEL = r"/models/[^/:]+(?:/versions/[^/:]+)?"
_GET = {
    METRICS: rf"/metrics|/v2/models/{STATISTICS}|/v2{_MODEL}/stats",
    INFER: r"/models/[^/]+/lookup/.+"  # first, since its paths are ever new
    rf"|/models|{_MODEL}|/v2|/v2{_MODEL}(?:/ready|/config)?|/v1/models|/v1{_MODEL}|/openapi\.json",
}
_POST = {
    INFER: rf"/predict|{_MODEL}/predict|/invocations|{_MODEL}/invocations|/models/[^/]+/lookup"
    rf"|/v2{_MODEL}/(?:infer|generate|generate_stream)|/v2/repository/index"
    rf"|/v1{_MODEL}:predict|/v1/chat/completions|/v1/completions",
}
_CLOSED = re.compile(r"/v2/repository/models/.+|/jobs(?:/.*)?|/runs/.+|/models/[^/]+/runs", re.DOTALL)  # ADMIN
_TABLE = {  # the name of the group that fits is the scope
    method: re.compile("|".join(f"(?P<{scope}>{pattern})" for scope, pattern in told.items()), re.DOTALL).fullmatch
    for method, told in {"GET": _GET, "HEAD": _GET, "POST": _POST}.items()
}

_INFERENCE = "/inference.GRPCInferenceService"
_REPOSITORY = "/inference.model_repository.ModelRepositoryService"
_CALLS = {
    **dict.fromkeys(OPEN_CALLS, OPEN),
    **dict.fromkeys(
        (
            *(
                f"{_INFERENCE}/{name}"
                for name in (
                    "ModelInfer", "ModelStreamInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ServerMetadata",
                    "RepositoryIndex",
                )
            ),
            f"{_REPOSITORY}/RepositoryIndex",
            "/grpc.health.v1.Health/List",
            "/grpc.health.v1.Health/Watch",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ),
        INFER,
    ),
    f"{_INFERENCE}/ModelStatistics": METRICS,
    **{
        f"{service}/{name}": ADMIN
        for service in (_INFERENCE, _REPOSITORY)
        for name in ("RepositoryModelLoad", "RepositoryModelUnload")
    },
}  # fmt: skip


class Scopes:
    """The tables of one server. routes: its own names of routes ({"predict": path, "health": path}), as its spec has
    them.
    """

    def __init__(self, routes: Mapping[str, Any] | None = None) -> None:
        told = routes or {}
        self._exact = {(method, path): OPEN for method in ("GET", "HEAD") for path in OPEN_PATHS}
        if told.get("predict"):
            self._exact["POST", told["predict"]] = INFER
        if told.get("health"):
            self._exact["GET", told["health"]] = self._exact["HEAD", told["health"]] = OPEN

    def of(self, method: str, path: str) -> str:
        """What a request needs."""
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact
        look = _TABLE.get(method)
        found = None if look is None else look(path)
        return ADMIN if found is None else str(found.lastgroup)

    @staticmethod
    def of_call(path: str) -> str:
        """What a gRPC call needs."""
        return _CALLS.get(path, ADMIN)

    @staticmethod
    def knows(path: str) -> bool:
        """Whether something that is there needs ADMIN at this path; else it may be that nothing is there at all."""
        return _CLOSED.fullmatch(path) is not None or path in _CALLS
