"""Location: where a model is, before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bimodal import formats, settings
from bimodal import package as packages
from bimodal.errors import ModelError, PackageDamaged, UsageError
from bimodal.formats import registry
from bimodal.formats import trust as trusts
from bimodal.formats.contract import Format, Source
from bimodal.formats.library import library
from bimodal.local import see_local
from bimodal.package import Package
from bimodal.private import PrivateFolder
from bimodal.runtimes.isolation import APART, NEVER, Isolation

if TYPE_CHECKING:
    from bimodal.field import Field


@dataclass(frozen=True)
class Location:
    """Where a model is, before anything of it is loaded: from it a server and its workers start.

    file: the bare model, None for one in a package. runtime: the one asked for (auto, exact, onnx, native). sample: the
    user's rows as given (a path, or data in memory). folder: the private folder of a model that came from memory or
    from a registry. package: the one that holds the model, every file of it verified. drift: answers that changed since
    it was packed are accepted. given: the model as the user named it. label: the version that a repository gives it.
    isolation: of the process that a native model runs in. trust: names that its file may call beyond the usual ones.
    """

    name: str
    kind: Format
    file: Source | None
    digest: str
    runtime: str = "auto"
    sample: Any = None
    folder: PrivateFolder | None = None
    package: Package | None = None
    drift: bool = False
    given: str | None = None
    label: str | None = None
    isolation: Isolation = APART
    trust: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """What tells this model from others of its name: by default the first 12 digits of its digest."""
        return self.label or self.digest[:12]

    @property
    def source(self) -> Source:
        """What the model's own library loads. A package's is made when it is asked for: its sample's columns bring
        NumPy along, which a server's parent process does without.
        """
        if self.file is None:
            assert self.package is not None
            found = self.package.source
        else:
            found = self.file
        return replace(found, trust=tuple(dict.fromkeys((*found.trust, *self.trust)))) if self.trust else found

    @classmethod
    def find(
        cls,
        source: Any,
        *,
        sample: Any = None,
        code: str | Path | Sequence[str | Path] = (),
        features: Sequence[str] | None = None,
        name: str | None = None,
        runtime: str | None = None,
        allow_drift: bool = False,
        timeout: float | None = None,
        model_memory: int | str | None = None,
        load_timeout: float | None = None,
        spare: str = NEVER,
        trust: str | Sequence[str] = (),
    ) -> Location:
        """The arguments are those of `load`; spare: one of `settings.SPARES`."""
        size = settings.resolve(settings.MODEL_MEMORY, model_memory)
        isolation = Isolation.of(spare, size, settings.resolve(settings.LOAD_TIMEOUT, load_timeout))
        found = cls._find(source, sample, code, features, name, runtime, allow_drift=allow_drift, timeout=timeout)
        return replace(found, isolation=isolation, trust=(*found.trust, *trusts.names(trust)))

    @classmethod
    def _find(
        cls,
        source: Any,
        sample: Any,
        code: str | Path | Sequence[str | Path],
        features: Sequence[str] | None,
        name: str | None,
        runtime: str | None,
        *,
        allow_drift: bool,
        timeout: float | None,
    ) -> Location:
        wanted = settings.resolve(settings.RUNTIME, runtime)
        for each in (source, sample):
            if isinstance(each, str | Path) and not registry.is_uri(str(each)):
                see_local(str(each), "the model" if each is source else "--sample", "fetch it first, and name the file")
        paths = (code,) if isinstance(code, str | Path) else tuple(code)
        for path in paths:
            see_local(str(path), "--code", "fetch it first")
            if not Path(path).exists():
                raise UsageError(f"--code {path}: there is no such file or folder")
        absolute = tuple(str(Path(path).absolute()) for path in paths)
        told = Source("", absolute, _sample(sample), tuple(features) if features is not None else None)
        told = replace(told, patience=timeout or 0.0)
        if not isinstance(source, str | Path):
            return cls._in_memory(source, told, name, wanted, sample)
        path, folder, given = str(source), None, str(source)
        if registry.is_uri(path):
            folder, name = PrivateFolder(), name or registry.stem(path)
            path = str(registry.resolve(path, Path(folder.path)))
        if packages.is_package(path):
            found = cls.of_package(packages.open(path), wanted, name=name, sample=sample, drift=allow_drift)
            return replace(found, folder=folder, given=given)
        kind = formats.recognise(path)
        place = str(Path(path).absolute()) if Path(path).exists() else path
        digest = formats.digest(path, kind)
        name = name or formats.stem(path)
        return cls(name, kind, replace(told, path=place), digest, wanted, sample, folder, given=given)

    @classmethod
    def of_package(
        cls, package: Package, wanted: str, *, name: str | None = None, sample: Any = None, drift: bool = False
    ) -> Location:
        """The model in a package; `auto` is what was asked for at packing."""
        chosen = package.manifest.runtime if wanted == "auto" else wanted
        return cls(name or package.name, package.kind, None, package.digest, chosen, sample, None, package, drift)

    @classmethod
    def _in_memory(cls, thing: Any, told: Source, name: str | None, wanted: str, sample: Any) -> Location:
        """A model in memory is written into a private folder and read from there, as if it had been saved."""
        if not any(hasattr(thing, verb) for verb in ("predict", "transform")):
            raise ModelError(
                f"a {type(thing).__name__} has neither predict nor transform; give a model or the path of one"
            )
        import cloudpickle  # of use only here

        folder = PrivateFolder()
        name = name or type(thing).__name__.lower()
        path = Path(folder.path, f"{name}.pkl")
        path.write_bytes(cloudpickle.dumps(thing))
        kind = formats.recognise(str(path))
        digest = formats.digest(str(path), kind)
        # what its objects are made of is in this process already: it is the caller's own
        return cls(name, kind, replace(told, path=str(path)), digest, wanted, sample, folder, trust=(trusts.ANY,))

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Location:
        """The place that `spec` described, in another process. Raises PackageDamaged where it changed meanwhile."""
        found = replace(cls._told(spec), label=spec["label"])
        load = spec.get("load_timeout", settings.LOAD_TIMEOUT.default)
        isolation = Isolation(spec.get("spare", NEVER), spec.get("model_memory"), load)
        return replace(found, isolation=isolation, trust=tuple(spec["trust"]))

    @classmethod
    def _told(cls, spec: Mapping[str, Any]) -> Location:
        if spec["package"] is not None:
            package = packages.open(spec["package"])
            if package.digest != spec["digest"]:
                raise PackageDamaged(f"{spec['package']} was replaced while it was being loaded; start again")
            return cls.of_package(package, spec["runtime"], name=spec["name"], drift=spec["drift"])
        kind = formats.named(spec["format"])
        return cls(spec["name"], kind, Source.retold(spec), spec["digest"], spec["runtime"], spec["sample_file"])

    def spec(self) -> dict[str, Any]:
        """Plain values from which another process finds the same model."""
        told = {
            "name": self.name,
            "digest": self.digest,
            "runtime": self.runtime,
            "package": None if self.package is None else str(self.package.folder),
            "drift": self.drift,
            "label": self.label,
            "spare": self.isolation.spare,
            "model_memory": self.isolation.memory,
            "load_timeout": self.isolation.load,
            "trust": list(self.trust),
        }
        if self.package is not None:
            return told
        return {
            **told,
            "format": self.kind.name,
            "path": self.source.path,
            "code": list(self.source.code),
            "sample": None if self.source.sample is None else _told(self.source.sample),
            "sample_file": str(Path(self.sample).absolute()) if isinstance(self.sample, str | Path) else None,
            "features": None if self.source.features is None else list(self.source.features),
            **{name: told for name in ("kept", "home") if (told := getattr(self.source, name)) is not None},
        }


def _told(sample: tuple[Field, ...]) -> list[dict[str, Any]]:
    from bimodal.signature import Signature  # with NumPy, which a server's parent process does without

    return list(Signature(sample, ()).told()["inputs"])


def _sample(data: Any) -> Any:
    if data is None:
        return None
    # it brings Arrow along, which a server that loads a saved model does without
    return library("bimodal.sample").fields(data)
