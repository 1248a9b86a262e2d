"""Finding the files that the user named: a file, a pattern, a folder, a list of them, here or in an object store."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bimodal.batch.sources.files import InputFile, LocalFile, name_apart
from bimodal.batch.sources.stream import COMPRESSIONS, readable
from bimodal.batch.store import Store, is_stored
from bimodal.errors import SourceError
from bimodal.field import listed, nearest

KINDS = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".arrows": "arrow",
}  # fmt: skip
COMPRESSIBLE = ("csv", "jsonl")
DATABASES = {".db": "sqlite", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".duckdb": "duckdb"}
MODELS = (".pkl", ".pickle", ".joblib", ".skops", ".onnx", ".keras", ".pt", ".cbm", ".ubj", ".bimodal", ".py")
WEB = ("http://", "https://", "ftp://")
REJECTS = ".rejects.jsonl"
Named = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def find(named: Named) -> list[InputFile]:
    """The files, in the plain order of their paths within each folder or pattern; a SourceError where there is none."""
    each = [named] if isinstance(named, str | os.PathLike) else list(named)
    found = [file for one in each for file in ([one] if isinstance(one, InputFile) else _find(os.fspath(one)))]
    if not found:
        raise SourceError("no input was named")
    _see_twice(found)
    name_apart(found, [place_of(file) for file in found])
    return found


def _see_twice(files: Sequence[InputFile]) -> None:
    """No file may come twice, by its name and by a pattern, or by a link: its rows would be there twice."""
    seen: set[str] = set()
    for file in files:
        place = os.path.realpath(file.path) if file.path else os.fspath(file)
        if place in seen:
            raise SourceError(
                f"{file.path or file.name} is named twice, so its rows would be there twice; name it once"
            )
        seen.add(place)


def place_of(file: InputFile) -> str:
    """Where it lies, to be compared."""
    return str(file.path) if file.path else str(getattr(file, "key", file.name))


def kind_of(name: str) -> tuple[str, str | None]:
    """The format and the compression that a file's name tells, or a SourceError with the names that are understood."""
    plain, suffix = os.path.splitext(name)
    codec = COMPRESSIONS.get(suffix.lower())
    kind = KINDS.get((os.path.splitext(plain)[1] if codec else suffix).lower())
    if kind is None or (codec and kind not in COMPRESSIBLE):
        known = ", ".join(dict.fromkeys(KINDS))
        if suffix.lower() in DATABASES:
            scheme = DATABASES[suffix.lower()]
            raise SourceError(
                f"{os.path.basename(name)}: a table of a database is named by its address: '{scheme}:///{name}#TABLE'"
            )
        if suffix.lower() in MODELS:
            raise SourceError(f"{os.path.basename(name)} looks like a model; is the model named first, then the input?")
        raise SourceError(
            f"{os.path.basename(name)}: the name tells no format that is understood ({known}; text also with .gz or "
            ".zst)"
        )
    return kind, codec


def is_data(name: str) -> bool:
    """Whether a file of this name belongs to a folder's data."""
    if name.startswith((".", "_")) or name.endswith(REJECTS):
        return False
    try:
        kind_of(name)
    except SourceError:
        return False
    return True


def _find(text: str) -> list[InputFile]:
    if is_stored(text):
        return _stored(text)
    if text.startswith(WEB):
        raise SourceError(
            f"{text}: files are read from here and from s3://, gs:// and az://; fetch it first: "
            f"curl -sSL {shlex.quote(text)} | bimodal predict MODEL -"
        )
    path = Path(text)
    if path.is_dir():
        return _one_kind(_in_folder(path), text)
    if path.exists():
        return [LocalFile(path)]
    if glob.has_magic(text):
        matching = sorted(Path(each) for each in glob.glob(text, recursive=True) if not os.path.isdir(each))
        if not matching:
            raise SourceError(f"no file matches {text}{_nearby(path)}")
        above = fixed(text)
        return [LocalFile(each, each.parent.parts[above:]) for each in matching]
    raise SourceError(f"{text} does not exist{_nearby(path)}")


def fixed(pattern: str) -> int:
    """How many parts of a pattern's path stand before the first that may vary."""
    parts = Path(pattern).parts
    return next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))


# -- folders ---------------------------------------------------------------------------------------------------------


def _in_folder(folder: Path, above: tuple[str, ...] = ()) -> Iterator[InputFile]:
    """The data files of a folder, and of the folders in it that are named as Hive names them, in order."""
    with readable(str(folder)), os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    for entry in entries:
        if is_partition(entry.name) and entry.is_dir():
            yield from _in_folder(Path(entry.path), (*above, entry.name))
        elif is_data(entry.name) and entry.is_file():
            yield LocalFile(entry.path, above)


def is_partition(name: str) -> bool:
    """Whether a folder's name tells a value, as in `country=DE`."""
    key, mark, _ = name.partition("=")
    return bool(mark and key) and not key.startswith((".", "_"))


def _one_kind(found: Iterable[InputFile], folder: str) -> list[InputFile]:
    """All files of a folder, if they are of one format."""
    files = list(found)
    if not files:
        raise SourceError(f"{folder} holds no file that is understood ({', '.join(KINDS)}){_deeper(folder)}")
    kinds = sorted({kind_of(each.name)[0] for each in files})
    if len(kinds) > 1:
        raise SourceError(
            f"{folder} holds files of several formats ({', '.join(kinds)}); name those you mean, as in "
            f"'{folder.rstrip('/')}/*.csv'"
        )
    return files


def _deeper(folder: str) -> str:
    """What to say where the files lie in folders that tell no value."""
    if is_stored(folder) or not any(each.is_dir() for each in Path(folder).iterdir()):
        return ""
    return f"; for the files of the folders in it name a pattern, as in '{folder.rstrip('/')}/**/*.parquet'"


def _nearby(path: Path) -> str:
    """The files that may have been meant."""
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder}"
    names = sorted(each.name for each in folder.iterdir() if each.is_dir() or is_data(each.name))
    near = nearest(path.name, names)
    if near:
        return f"; did you mean {folder / near}?"
    data = [name for name in names if is_data(name)]
    return f"; in that folder are {listed(data, 5)}" if data else ""


# -- object stores ---------------------------------------------------------------------------------------------------


def _stored(text: str) -> list[InputFile]:
    """An object, those that a pattern matches, or those under a prefix."""
    store = Store.of(text)
    if glob.has_magic(store.key):
        matching = list(store.matching())
        if not matching:
            raise SourceError(f"no object matches {store.url}")
        return list(matching)
    single = store.file()
    if single is not None:
        return [single]
    found = [file for file in store.under() if is_data(file.name) and all(map(is_partition, file.folders))]
    if not found:
        raise SourceError(f"{store.url} does not exist: there is no such object, and none under it that is understood")
    return _one_kind(found, store.url)
