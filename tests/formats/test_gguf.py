"""GGUF files: recognised by their first bytes, run by llama-cpp-python; without it, the error is the install command.

The answers themselves are in `test_gguf_llama.py`, which needs that library.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import bimodal
from bimodal import formats
from bimodal.errors import MissingLibrary, ModelError
from bimodal.formats.contract import Source
from bimodal.formats.gguf import Gguf, read
from bimodal.runtimes.llama import Options

EMPTY = b"GGUF" + (3).to_bytes(4, "little") + bytes(16)  # version 3, no tensor, no metadata


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "tiny.gguf"
    made.write_bytes(EMPTY)
    return made


def test_a_file_is_recognised_by_its_content(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "model.bin"
    other.write_bytes(EMPTY)
    named = tmp_path / "named.gguf"
    named.write_bytes(b"something else")
    assert formats.recognise(str(file)).name == "gguf"
    assert formats.recognise(str(other)).name == "gguf"
    with pytest.raises(ModelError, match=r"llama\.cpp \(\.gguf\)"):
        formats.recognise(str(named))


def test_without_the_library_the_error_is_the_command_that_installs_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)  # as if it were not there, also where it is
    with pytest.raises(MissingLibrary, match=r'llama-cpp-python is not installed.*pip install "bimodal\[gguf\]"'):
        Gguf().load(Source(str(file)))


def test_a_file_without_a_model_is_an_error_and_no_crash_of_the_caller(file: Path) -> None:
    """In a process of its own: the install command where the library is missing, else that the file is damaged."""
    with pytest.raises((MissingLibrary, ModelError), match=r"bimodal\[gguf\]|is damaged"):
        bimodal.load(file)


def test_a_model_in_parts_is_all_of_them(tmp_path: Path) -> None:
    parts = [tmp_path / f"big-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]
    for place, each in enumerate(parts[:2]):
        each.write_bytes(EMPTY + bytes([place]))
    with pytest.raises(ModelError, match=r"lacks its other parts 'big-00003-of-00003\.gguf'"):
        Gguf().files(parts[0])
    parts[2].write_bytes(EMPTY)
    assert Gguf().files(parts[0]) == tuple(parts)
    before = formats.digest(str(parts[0]), Gguf())
    parts[2].write_bytes(EMPTY + b"changed")
    assert formats.digest(str(parts[0]), Gguf()) != before
    with pytest.raises(ModelError, match=r"name the first: big-00001-of-00003\.gguf"):
        Gguf().load(Source(str(parts[1])))


def test_options_stand_beside_the_file_and_are_part_of_the_model(file: Path) -> None:
    before = formats.digest(str(file), Gguf())
    beside = file.with_name("tiny.gguf.json")
    assert read(beside) == Options()
    beside.write_text('{"n_ctx": 64, "n_gpu_layers": -1}')
    assert read(beside) == Options(n_ctx=64, n_gpu_layers=-1)
    assert Gguf().files(file) == (file, beside)
    assert formats.digest(str(file), Gguf()) != before


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "no JSON object"),
        ('{"n_ctxt": 1}', "did you mean n_ctx"),
        ('{"n_ctx": 0}', "n_ctx is an integer from 1 on"),
        ('{"n_threads": true}', "n_threads is an integer"),
        ('{"n_gpu_layers": -2}', "n_gpu_layers is an integer from -1 on"),
    ],
)
def test_an_option_that_is_wrong_is_told(written: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf.json"
    file.write_text(written)
    with pytest.raises(ModelError, match=said):
        read(file)
