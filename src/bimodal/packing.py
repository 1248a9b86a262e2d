"""`pack`: a model, from its file or from memory, written as a package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bimodal import __version__, package, scenes, settings
from bimodal.compile import probes
from bimodal.compile.process import compiled
from bimodal.drawn import Drawn
from bimodal.errors import ModelFailed, NotCompiled, UsageError
from bimodal.formats.contract import TRUSTED, Source
from bimodal.formats.python import Python
from bimodal.golden import MOST, Golden
from bimodal.location import Location
from bimodal.model import Model
from bimodal.package import CODE, COMPILED, GOLDEN, MODEL, Manifest
from bimodal.rows import Rows
from bimodal.runtimes.process import ProcessRuntime, Report
from bimodal.signature import Signature

READ = 65_536  # rows of the sample from which the golden ones are taken
FOUND = f"{CODE}/found"  # the user's modules that the model was found to need


def pack(
    model: Any,
    destination: str | Path,
    *,
    sample: Any = None,
    code: str | Path | Sequence[str | Path] = (),
    features: Sequence[str] | None = None,
    name: str | None = None,
    overwrite: bool = False,
    runtime: str | None = None,
    trust: str | Sequence[str] = (),
) -> Path:
    """Write a package: a folder with the model and all that it needs to predict; returns its path.

    model: a path, an object with `predict` (at training time, where nothing can have drifted yet), or a Model. sample:
    rows like the ones to come; some of them become the golden rows. code, features, name: as for `load`. overwrite: a
    package that stands there is replaced. runtime: auto, or the one that the package shall use: exact and onnx are
    errors where they do not pass, native compiles nothing. trust: as for `load`; what it needed is written down, and
    loads with the package.

    Nothing is left at the destination where it fails. Raises OutputExists, NotCompiled, and what `load` raises.
    """
    place = package.check_free(destination, overwrite=overwrite)
    wanted = settings.resolve(settings.RUNTIME, runtime)
    location = _location(model, sample, code, features, name or _named(model, place), trust)
    with package.draft(place, overwrite=overwrite) as folder:
        native = ProcessRuntime(location.kind.name, location.source)
        compiles = _compiles(location, native.report, wanted)
        try:
            copied = _copy_model(location, native, folder)
            rows = None if sample is None else Drawn.of(native.report.signature, sample, READ).rows
            golden = _golden(native, rows)
        finally:
            native.close()
        if golden is not None:
            golden.write(folder / GOLDEN)
        if compiles:
            _compile(location, native.report.signature, rows, wanted, folder / COMPILED)
        package.seal(folder, _manifest(location, copied, native.report, wanted))
    return place


def _location(
    model: Any, sample: Any, code: Any, features: Sequence[str] | None, name: str | None, trust: str | Sequence[str]
) -> Location:
    if isinstance(model, Model):
        if sample is not None or features is not None or code or trust:
            settled = "sample, code, features and trust were settled"
            raise UsageError(f"{settled} when the model was loaded; pack its path instead")
        return model.location
    if isinstance(model, str | Path) and package.is_package(model):
        raise UsageError(f"{model} is a package already; pack the model that it was made from")
    return Location.find(model, sample=sample, code=code, features=features, name=name, runtime="native", trust=trust)


def _named(model: Any, place: Path) -> str | None:
    """A model from memory has no name but the one that its package gets."""
    return None if isinstance(model, str | Path | Model) else place.name.removesuffix(package.SUFFIX)


def _compiles(location: Location, report: Report, wanted: str) -> bool:
    """Whether a compiled form is tried; NotCompiled where one is asked for and there is no way to it."""
    if wanted in ("auto", "native"):
        return report.compiles and wanted == "auto"
    if location.kind.inline and wanted == location.kind.name:
        return False  # it is what was asked for as it stands
    if not report.compiles:
        raise NotCompiled(f"models of the format {location.kind.name} have no compiled form; pack it without --runtime")
    return True


def _golden(native: ProcessRuntime, rows: Rows | None) -> Golden | None:
    signature = native.report.signature
    outputs = [each.name for each in signature.outputs]
    if rows is not None:
        return Golden.ask(native.run, rows, outputs)
    if signature.open or native.streams:
        return None  # an answer in pieces may take minutes, and be drawn
    try:
        return Golden.ask(native.run, _made_up(signature), outputs)
    except ModelFailed:
        return None  # a model that cannot answer its own example tells nothing without a sample


def _made_up(signature: Signature) -> Rows:
    """Rows for a model of which no sample was given: ordinary ones, as far as its signature tells, else its example."""
    try:
        return probes.make(signature, {}, None, most=MOST).typical
    except NotCompiled:
        return signature.example_rows()


def _compile(location: Location, signature: Signature, rows: Rows | None, wanted: str, folder: Path) -> None:
    """The compiled form and its report; NotCompiled or ParityFailed where the one that is wanted does not serve."""
    report = compiled(location.kind.name, location.source, folder, sample=_table(rows, signature), wanted=wanted)
    report.chosen(wanted)


def _table(rows: Rows | None, signature: Signature) -> Any:
    """The sample for the probes; None where Arrow cannot hold it."""
    try:
        return None if rows is None else scenes.table(rows, signature)
    except scenes.Unfit:
        return None


# -- the model and the code that it needs ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Copied:
    """Where the model and the code stand in the package."""

    model: str
    code: tuple[str, ...]


def _copy_model(location: Location, native: ProcessRuntime, folder: Path) -> _Copied:
    given = location.source
    file, colon, attribute = given.path, "", ""
    if location.kind.name == Python.name:
        file, colon, attribute = given.path.rpartition(":")
    path = Path(file)
    if path.exists():
        root = path.parent
        package.copy(location.kind.files(path), root, folder / MODEL)
        model = f"{MODEL}/{path.name}{colon}{attribute}"
    else:
        model = given.path  # module:attribute, whose module is among the code that is found
    return _Copied(model, _copy_code(given, path, native, folder))


def _copy_code(source: Source, path: Path, native: ProcessRuntime, folder: Path) -> tuple[str, ...]:
    places = []
    for number, each in enumerate(map(Path, source.code), 1):
        into = f"{CODE}/{number}"
        package.copy(files_of(each), each if each.is_dir() else each.parent, folder / into)
        places.append(into if each.is_dir() else f"{into}/{each.name}")
    given = {each.resolve() for each in (path, *map(Path, source.code))}
    folders = [path.absolute().parent, Path.cwd(), *(Path(each).parent for each in source.code if Path(each).is_file())]
    for root, place in native.code([str(each) for each in folders]):
        if Path(place) not in given:
            package.copy(files_of(Path(place)), Path(root), folder / FOUND)
    if (folder / FOUND).is_dir():
        places.append(FOUND)
    return tuple(places)


def files_of(path: Path) -> list[Path]:
    """The file, or the files of a folder without hidden ones and what Python keeps beside its own."""
    if path.is_file():
        return [path]
    found = (each for each in sorted(path.rglob("*")) if each.is_file())
    return [each for each in found if not any(_is_aside(part) for part in each.relative_to(path).parts)]


def _is_aside(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__"


def _manifest(location: Location, copied: _Copied, report: Report, wanted: str) -> Manifest:
    fields = location.source.sample
    return Manifest(
        package=package.LAYOUT,
        bimodal=__version__,
        name=location.name,
        version=location.digest[:12],
        digest=location.digest,
        format=location.kind.name,
        model=copied.model,
        code=copied.code,
        sample=None if fields is None else package.told(Signature(fields, ()).told()["inputs"]),
        features=location.source.features,
        runtime=wanted,
        signature=package.told(report.signature.told()),
        versions=report.versions,
        facts=package.told(report.facts),
        warnings=report.warnings,
        trust=tuple(report.facts.get(TRUSTED, ())),
    )
