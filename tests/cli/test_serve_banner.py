"""What `bimodal serve` says, and where: standard output is the access log's alone, where that goes there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bimodal.cli import serve as command
from bimodal.realtime import lines, serving


class Served(SimpleNamespace):
    """As much of a server as is told of."""

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None: ...

    def example(self) -> None: ...

    def wait(self) -> None: ...


def serve(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    server = Served(models=["m"], url="http://here", listens=None, grpc="here:1", secure=False, mutual=False, keys=None)
    monkeypatch.setattr(serving, "serve", lambda *models, **given: server)
    monkeypatch.setattr(lines, "begin", lambda part: None)
    command.serve(["m.pkl"], **options)


def test_lines_of_json_have_standard_output_for_themselves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch)
    told = capsys.readouterr()
    assert told.out.startswith("serving m at http://here\n")
    assert told.err == ""
    serve(monkeypatch, access_log="-")
    assert capsys.readouterr() == ("", told.out)
    monkeypatch.setenv("BIMODAL_ACCESS_LOG", "-")
    serve(monkeypatch)
    assert capsys.readouterr() == ("", told.out)
