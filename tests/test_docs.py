"""The documents are true: their code runs, and the reference has a line for everything there is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import joblib
import msgspec
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from typer.core import TyperGroup
from typer.main import get_command

import bimodal
from bimodal import errors, settings
from bimodal.cli import build, exit_code
from bimodal.jobs.metrics import GAUGES
from bimodal.realtime.failure import status
from bimodal.realtime.limits import Limits
from bimodal.realtime.once import answer_once
from bimodal.realtime.protocols.media import MEDIA
from tests.documents import Block, blocks, commands, compare, reading

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "bench").glob("*.md"))]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader stands: a saved model, and a file of its features."""
    flowers, kinds = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(flowers, kinds), tmp_path / "my_model.pkl")
    lines = ["sepal_length,sepal_width,petal_length,petal_width"]
    lines += [",".join(map(str, flower)) for flower in flowers.tolist()]
    (tmp_path / "batch_input.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_code_of_the_documents_runs(document: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIMODAL_RUNTIME", raising=False)  # as a reader has it: compiled forms are proven and used
    with reading(folder) as reader:
        for block in blocks(document.read_text()):
            reader.run(block)


def test_the_readme_has_two_commands_each_of_one_line() -> None:
    shown = [block.text for block in blocks((ROOT / "README.md").read_text()) if block.language == "sh"]
    first, second = (text.removesuffix("\n") for text in shown[:2])
    assert first.startswith("pip install ")
    assert first.endswith(" && bimodal demo")
    assert second.startswith("pip install ")
    assert second.endswith(" && python tasks.py check")
    assert "\n" not in first + second


def test_public_names_are_those_of_the_package() -> None:
    assert sorted(dir(bimodal)) == sorted(bimodal.__all__)
    for name in bimodal.__all__:
        assert getattr(bimodal, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        bimodal.lod  # type: ignore[attr-defined] # noqa: B018 # the slip is the point


def test_the_changelog_knows_the_version() -> None:
    assert f"## {bimodal.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_extra_is_in_the_reference() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert unlisted(project["optional-dependencies"]) == []


def test_every_setting_is_in_the_reference() -> None:
    known = [*settings.SERVE, *settings.PREDICT]
    assert unlisted(each.flag for each in known) == []
    assert unlisted(each.variable for each in known) == []


def test_every_command_and_option_is_in_the_reference() -> None:
    group = get_command(build(None))
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        assert f"### `bimodal {name}" in REFERENCE
        assert unlisted(flag for each in command.params for flag in each.opts if flag.startswith("--")) == []


def test_every_address_is_in_the_reference(folder: Path) -> None:
    told = msgspec.json.decode(ask("/openapi.json", folder))
    paths = {re.sub(r"(?<=/versions/)[^/]+", "{version}", path.replace("my_model", "{name}")) for path in told["paths"]}
    assert unlisted(paths) == []


def test_every_content_type_is_in_the_reference() -> None:
    assert unlisted(each.decode() for each in MEDIA) == []


def test_every_metric_is_in_the_reference(folder: Path) -> None:
    names = re.findall(r"^# HELP (\w+)", ask("/metrics", folder).decode(), re.MULTILINE)
    assert names
    assert unlisted([*names, *(f"bimodal_job_{each}" for each in GAUGES)]) == []


def test_the_reference_tells_the_status_of_every_error() -> None:
    raised: list[type[errors.BimodalError]] = [errors.InputError, errors.MalformedInput, errors.TooLarge]
    raised += [errors.UnsupportedMedia, errors.UsageError, errors.ModelNotFound, errors.NotFound]
    raised += [errors.MethodNotAllowed, errors.Overloaded, errors.Unavailable, errors.DeadlineExceeded]
    raised += [errors.ModelCrashed, errors.ModelFailed]
    for each in raised:
        assert re.search(rf"^\| `{each.code}` \|.*\| {status(each('why'))}\b", REFERENCE, re.MULTILINE), each.code


def test_the_reference_tells_the_exit_code_of_every_error() -> None:
    for code in ("usage", "output_exists", "port_taken", "too_many_rejects", "source", "sink", "model", "model_failed"):
        raised = errors.by_code(code)("why")
        assert re.search(rf"^\| `{code}` \|.*\| {exit_code(raised)} \|$", REFERENCE, re.MULTILINE), code


def test_every_limit_is_in_the_reference() -> None:
    assert unlisted([each.name for each in fields(Limits)]) == []


def test_every_error_code_is_in_the_reference() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {each.code for each in classes if issubclass(each, errors.BimodalError)}
    written = re.compile(
        r"(?:Problem\(|Refusal\(\d+,|BadRow\(\w+,|\bcode = |\"code\": )\s*\"(\w+)\"(?: if \w+ else \"(\w+)\")?"
    )
    for source in (ROOT / "src").rglob("*.py"):
        codes |= {code for found in written.findall(source.read_text()) for code in found if code}
    assert {"too_deep", "short_row", "long_row", "internal", "wrong_type"} <= codes
    assert unlisted(codes) == []


def ask(path: str, folder: Path) -> bytes:
    """What a server of the one model answers."""
    return answer_once([folder / "my_model.pkl"], "GET", path, loading={}).body


def unlisted(names: Iterable[str]) -> list[str]:
    """Those that the reference does not show as code."""
    return [name for name in sorted(names) if f"`{name}`" not in REFERENCE]


def test_a_block_knows_what_it_prints() -> None:
    text = "```python\nprint(1)\n```\n\n```text\n1\n```\n\nand\n\n```text\nother\n```\n"
    assert blocks(text) == [
        Block("python", "print(1)\n", 1, "1\n"),
        Block("text", "1\n", 5),
        Block("text", "other\n", 11),
    ]


def test_a_command_goes_on_after_a_backslash() -> None:
    found = commands("$ one \\\n  two\nprinted\n$ three\n")
    assert [(each.line, each.printed) for each in found] == [("one \\\n  two", "printed"), ("three", "")]


def test_dots_stand_for_any_text() -> None:
    compare("a ... c\n", "a b\nb c", 1)
    with pytest.raises(AssertionError, match="line 7"):
        compare("a ... c", "a b d", 7)
