"""Package: a model in a folder, with all that it needs to predict and the digest of every file.

    bimodal.json     the manifest: what the model is, and each file's size and SHA-256
    bimodal.sha256   the manifest's own SHA-256, which is the package's digest (`sha256sum -c` reads it)
    model/           the model's files, as they were saved
    code/            the user's own code that it needs
    golden.rows      inputs with the answers given at packing
    compiled/        the compiled form and its parity report

Opening one checks the manifest's digest before its JSON is read, and every file's digest before anything reads the
file. The digests tell damage and mix-ups; who can rewrite the whole folder can rewrite them as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from bimodal import formats
from bimodal.durable import sync
from bimodal.errors import AnswersChanged, BimodalError, ModelError, ModelNotFound, OutputExists, PackageDamaged
from bimodal.formats.contract import Format, Source
from bimodal.formats.library import CALLED
from bimodal.secluded import Copy, is_exposed

if TYPE_CHECKING:  # what is in a package is read when it is asked for; a server's parent process looks at digests alone
    from bimodal.compile.report import Report
    from bimodal.golden import Golden, Run
    from bimodal.signature import Signature

LAYOUT = 1  # the number of this layout; a later one is refused by name
MANIFEST, SEAL, MODEL, CODE, GOLDEN, COMPILED = (
    "bimodal.json", "bimodal.sha256", "model", "code", "golden.rows", "compiled",
)  # fmt: skip
SUFFIX = ".bimodal"
MOST_MANIFEST = 64 << 20  # bytes of a manifest that are read to take its digest
REMEDY = "copy the package again from where it was made, or pack the model again"


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the package."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written about a packaged model. Nothing of time or place is in it.

    bimodal: the version that packed it. version: the first 12 digits of digest, the bare model's. model: its path in
    the package (or `module:attribute`). code: what `--code` named, and what the model was found to need. sample: the
    sample's columns. runtime: the one asked for (auto, exact, onnx, native). versions: of the libraries, at packing.
    trust: what the model's file calls beyond what any may; who packed it trusted that.
    """

    package: int
    bimodal: str
    name: str
    version: str
    digest: str
    format: str
    model: str
    code: tuple[str, ...]
    sample: list[dict[str, Any]] | None
    features: tuple[str, ...] | None
    runtime: str
    signature: dict[str, Any]
    versions: dict[str, str]
    facts: dict[str, Any]
    warnings: tuple[str, ...]
    trust: tuple[str, ...] = ()
    files: dict[str, Listed] = {}


@dataclass(frozen=True)
class Package:
    """A package whose every file was found to be the one that was packed. digest: the manifest's SHA-256. copy: of
    a folder that others may write into, which is what was checked and is loaded.
    """

    folder: Path
    digest: str
    manifest: Manifest
    copy: Copy | None = None

    @property
    def place(self) -> Path:
        """Where its files are read."""
        return self.folder if self.copy is None else self.copy.path

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def size(self) -> int:
        """Bytes of all files, the manifest's own apart."""
        return sum(each.size for each in self.manifest.files.values())

    @cached_property
    def signature(self) -> Signature:
        from bimodal.signature import Signature

        return Signature.retold(_retold(self.manifest.signature))

    @property
    def kind(self) -> Format:
        """The format of the model inside."""
        return formats.named(self.manifest.format)

    @property
    def source(self) -> Source:
        """The model inside, for its own library to load."""
        manifest = self.manifest
        within = manifest.model.startswith(f"{MODEL}/")
        path = str(self.place / manifest.model) if within else manifest.model
        code = [str(self.place / each) for each in manifest.code]
        sample = None if manifest.sample is None else _retold(manifest.sample)
        told = {"path": path, "code": code, "sample": sample, "features": manifest.features}
        return Source.retold({**told, "trust": manifest.trust, "compared": GOLDEN in manifest.files})

    @property
    def compiled(self) -> Path | None:
        """The folder of the compiled form and its report; None where nothing was compiled."""
        folder = self.place / COMPILED
        return folder if folder.is_dir() else None

    @cached_property
    def golden(self) -> Golden | None:
        """None where the model cannot say one row that it takes, and no sample was given."""
        from bimodal.golden import Golden

        return Golden.read(self.place / GOLDEN) if GOLDEN in self.manifest.files else None

    @cached_property
    def report(self) -> Report | None:
        """What compiling found, with which `compiled` is opened: `package.report.open(package.compiled, name)`."""
        from bimodal.compile.report import Report

        return None if self.compiled is None else Report.load(self.compiled)

    def chosen(self, *, bulk: bool = False) -> str:
        """The runtime that was asked for at packing: the fastest that passed, in real time or in bulk, for auto."""
        return "native" if self.report is None else self.report.chosen(self.manifest.runtime, bulk=bulk)

    @property
    def why_native(self) -> str | None:
        """Why the model needs the library that trained it; None where it does not, since a compiled form passed."""
        report, wanted = self.report, self.manifest.runtime
        if report is not None and report.runtimes and wanted != "native":
            return None
        if wanted == "native":
            return "it was packed with --runtime native"
        if report is None:
            return f"models of the format {self.manifest.format} have no compiled form"
        tried = "; ".join(f"{each.name}: {each.reason}" for each in report.candidates)
        return report.note or tried or "no compiled form was tried"

    def moved(self, versions: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """The libraries whose minor version is another now: name → (at packing, now).

        versions: of the libraries that the loaded model uses, as its format told them.
        """
        then = self.manifest.versions
        return {
            name: (then[name], now)
            for name, now in versions.items()
            if name in then and _minor(then[name]) != _minor(now)
        }

    def check_answers(self, versions: Mapping[str, str], run: Run, *, allow_drift: bool = False) -> tuple[str, ...]:
        """Run the golden rows where a library's minor version is another than at packing.

        run: the native model as it was loaded here. Returns sentences to show the user: none under the same versions.
        Raises AnswersChanged where the answers differ by more than rounding, unless allow_drift.
        """
        moved = self.moved(versions)
        if not moved:
            return ()
        what = ", ".join(f"{_called(name)} {then} (now {now})" for name, (then, now) in sorted(moved.items()))
        if self.golden is None:
            return (f"it was packed under {what}; it holds no golden rows to compare its answers with",)
        changed = self.golden.changed(run)
        if not len(changed):
            return (f"it was packed under {what}; its {self.golden.rows.count} golden rows are answered as before",)
        told = (
            f"it was packed under {what}, and {len(changed)} of its {self.golden.rows.count} golden rows are answered "
            f"otherwise now, the first of them golden row {int(changed[0]) + 1}"
        )
        if allow_drift:
            return (f"{told}; accepted by --allow-drift",)
        pins = " ".join(f'"{_called(name)}=={then}"' for name, (then, _) in sorted(moved.items()) if name != "python")
        remedy = (
            f"install what it was packed under: pip install {pins}" if pins else "use the Python it was packed under"
        )
        raise AnswersChanged(f"{self.folder}: {told}; {remedy}; or accept the new answers with --allow-drift")


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _called(name: str) -> str:
    """A library's name as pip knows it."""
    return CALLED.get(name, name)


# -- opening -----------------------------------------------------------------------------------------------------------


def is_package(path: str | Path) -> bool:
    """Whether the folder is, or once was, a package: `open` says whether it is whole."""
    folder = Path(path)
    marked = any(os.path.lexists(folder / each) for each in (MANIFEST, SEAL))
    return folder.is_dir() and (marked or folder.name.endswith(SUFFIX))


def open(path: str | Path) -> Package:  # noqa: A001 - package.open is what it is called everywhere
    """The package in a folder, after every file was found to be the one that was packed.

    Raises ModelNotFound, PackageDamaged naming the file, ModelError where a later Bimodal wrote it.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ModelNotFound(f"there is no package {path}")
    folder = folder.resolve()
    data, digest = _manifest(folder)
    manifest = _decoded(folder, data)
    for place in (manifest.model.rpartition(":")[0] or manifest.model, *manifest.code):
        if not _is_plain(place):
            raise _damaged(folder, place, "it leads out of the package")
    _check_listing(folder, manifest.files)
    copy = _secluded(folder, manifest.files)
    for name, each in manifest.files.items():
        _check_file(folder if copy is None else copy.path, name, each, folder)
    return Package(folder, digest, manifest, copy)


def _secluded(folder: Path, names: Iterable[str]) -> Copy | None:
    """A copy of the files, where others may change them between their check and their use; it is what is checked."""
    try:
        return Copy(folder, names) if is_exposed(folder, names) else None
    except OSError as error:
        raise ModelError(
            f"{folder} may be written by other users, and cannot be copied to a place that is not ({error.strerror}): "
            "make room in the folder for temporary files, or take their right away (chmod -R go-w)"
        ) from error


def _manifest(folder: Path) -> tuple[bytes, str]:
    """The manifest's bytes, which are those that were sealed, and their digest."""
    data = _bytes(folder, MANIFEST, MOST_MANIFEST)
    digest = hashlib.sha256(data).hexdigest()
    if _bytes(folder, SEAL, 1024) != _seal(digest):
        raise _damaged(folder, MANIFEST, f"its SHA-256 is not the one in {SEAL}")
    return data, digest


def _seal(digest: str) -> bytes:
    return f"{digest}  {MANIFEST}\n".encode()


def _decoded(folder: Path, data: bytes) -> Manifest:
    try:
        layout = msgspec.json.decode(data, type=_Layout).package
        if layout > LAYOUT:
            raise ModelError(f"{folder} was packed by a later Bimodal; upgrade: pip install -U bimodal")
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise _damaged(folder, MANIFEST, f"it is no manifest ({error})") from error


class _Layout(msgspec.Struct):
    package: int


def _check_listing(folder: Path, files: Mapping[str, Listed]) -> None:
    """The folder holds the files of the manifest, in plain folders, and nothing else."""
    for name in files:
        if not _is_plain(name):
            raise _damaged(folder, name, "its name does not stay in the package")
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}
    there = set()
    for name, entry in _entries(folder):
        if entry.is_symlink():
            raise _damaged(folder, name, "it is a link")
        is_folder = entry.is_dir(follow_symlinks=False)
        if name not in (folders if is_folder else {*files, MANIFEST, SEAL}):
            raise _damaged(folder, name, "it was not packed")
        there.add(name)
    for name in sorted(files):
        if name not in there:
            raise _damaged(folder, name, "it is missing")


def _is_plain(name: str) -> bool:
    """A relative path that leads nowhere but down, and is not one of the two files above all others."""
    parts = name.split("/")
    return name not in (MANIFEST, SEAL) and "\\" not in name and not any(part in ("", ".", "..") for part in parts)


def _entries(folder: Path, below: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every entry of the folder with its path in it; links are not followed."""
    with os.scandir(folder / below) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            name = f"{below}{entry.name}"
            yield name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(folder, f"{name}/")


def _check_file(place: Path, name: str, told: Listed, folder: Path) -> None:
    """A file of `folder`, or of its copy in `place`."""
    with _opened(place, name) as file:
        if os.fstat(file).st_size != told.size:
            raise _damaged(folder, name, f"it has {os.fstat(file).st_size:,} bytes, not {told.size:,}")
        with os.fdopen(os.dup(file), "rb") as data:
            if hashlib.file_digest(data, "sha256").hexdigest() != told.sha256:
                raise _damaged(folder, name, "its SHA-256 is another")


def _bytes(folder: Path, name: str, most: int) -> bytes:
    """A small file's bytes; one byte more than `most` where there are more."""
    with _opened(folder, name) as file, os.fdopen(os.dup(file), "rb") as data:
        return data.read(most + 1)


@contextlib.contextmanager
def _opened(folder: Path, name: str) -> Iterator[int]:
    """A regular file, never through a link."""
    try:
        file = os.open(folder / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        what = "it is missing" if isinstance(error, FileNotFoundError) else f"it cannot be read ({error.strerror})"
        raise _damaged(folder, name, what) from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _damaged(folder, name, "it is no file")
        yield file
    finally:
        os.close(file)


def _damaged(folder: Path, name: str, why: str) -> PackageDamaged:
    return PackageDamaged(f"{folder}: {name} is not as it was packed: {why}; {REMEDY}")


# -- writing -----------------------------------------------------------------------------------------------------------


def default(model: str) -> str:
    """The folder that a model's package gets where none is named: beside where one stands, under the model's name."""
    return f"{formats.stem(model)}{SUFFIX}"


def check_free(destination: str | Path, *, overwrite: bool = False) -> Path:
    """The absolute path of a package to be; OutputExists where something stands there that must not be replaced."""
    path = Path(destination).absolute()
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return path
    if not overwrite:
        raise OutputExists(f"{destination} exists already; --overwrite replaces it")
    if not is_package(path) or path.is_symlink():
        raise OutputExists(f"{destination} is no package, so --overwrite does not replace it; name another folder")
    return path


@contextlib.contextmanager
def draft(destination: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside the destination; `seal` it before the block ends, and it takes the destination's place.

    An error leaves nothing behind, and the destination as it was.
    """
    path = check_free(destination, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    folder.mkdir()
    try:
        yield folder
        if not (folder / SEAL).is_file():
            raise BimodalError(f"{folder} was never sealed")
        _publish(folder, check_free(destination, overwrite=overwrite))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def seal(folder: Path, manifest: Manifest) -> str:
    """Write the manifest of all files in the folder, and its digest, which is returned. Everything is on the disk
    then.
    """
    files = {
        name: _listed(folder / name) for name, entry in _entries(folder) if not entry.is_dir(follow_symlinks=False)
    }
    for name in files:
        if not _is_plain(name):
            raise ModelError(f"a package holds no file of the name {name!r}; rename it")
    complete = msgspec.structs.replace(manifest, files=files)
    try:
        data = msgspec.json.format(msgspec.json.encode(complete), indent=1)
    except UnicodeEncodeError as error:
        raise ModelError("a file's name is not UTF-8; rename it") from error
    digest = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST).write_bytes(data)
    (folder / SEAL).write_bytes(_seal(digest))
    for name, _ in _entries(folder):
        sync(folder / name)
    sync(folder)
    return digest


def _listed(file: Path) -> Listed:
    with file.open("rb") as data:
        return Listed(file.stat().st_size, hashlib.file_digest(data, "sha256").hexdigest())


def _publish(folder: Path, destination: Path) -> None:
    """Two renames where a package is replaced: for a moment there is none, never a mixture of both."""
    old = None
    if destination.is_dir() and any(destination.iterdir()):
        old = destination.with_name(f"{folder.name}.old")
        destination.rename(old)
    try:
        folder.rename(destination)
    except OSError:
        if old is not None:
            old.rename(destination)
        raise
    sync(destination.parent)
    if old is not None:
        shutil.rmtree(old)


def copy(files: Sequence[Path], root: Path, into: Path) -> None:
    """Copy the contents of files, keeping where they stand below `root`."""
    for each in files:
        place = into / each.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(each, place)


# -- plain values in JSON, which has no NaN and no infinity ------------------------------------------------------------

_FLOAT = "float()"  # the one key of an object that stands for such a number


def told(value: Any) -> Any:
    """Plain values as JSON can hold them."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if isinstance(value, Mapping):
        return {key: told(each) for key, each in value.items()}
    return [told(each) for each in value] if isinstance(value, list | tuple) else value


def _retold(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {_FLOAT}:
            return float(value[_FLOAT])
        return {key: _retold(each) for key, each in value.items()}
    return [_retold(each) for each in value] if isinstance(value, list) else value
