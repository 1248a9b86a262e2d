"""skops files: scikit-learn models that say which types they are made of, and run no code when they are read."""

from __future__ import annotations

import logging
import warnings
import zipfile
from pathlib import Path
from typing import Any

from bimodal.errors import BimodalError, ModelError
from bimodal.field import listed
from bimodal.formats import estimators
from bimodal.formats.code import make_importable
from bimodal.formats.contract import Format, Loaded, Source
from bimodal.formats.guard import reading
from bimodal.formats.library import library
from bimodal.formats.sklearn import absent, usable, versions_told
from bimodal.formats.sound import require_sound_trees
from bimodal.formats.trusted import TRUSTED

log = logging.getLogger("bimodal.model")
SCHEMA = "schema.json"
ZIP = b"PK\x03\x04"
GROWTH = 200  # times its size on disk that an archive may unpack to, beyond SMALL
SMALL = 256 * 2**20  # bytes
LONGEST = 120  # letters of a name out of the file that are shown


class Skops(Format):
    name = "skops"
    describes = "scikit-learn models saved with skops (.skops)"

    def matches(self, path: str, head: bytes) -> bool:
        """By its name whatever it holds: a pickle that calls itself .skops is refused, not unpickled."""
        if not head:
            return False
        return Path(path).suffix.lower() == ".skops" or (head.startswith(ZIP) and _has_schema(path))

    def load(self, source: Source) -> Loaded:
        make_importable(source.file, source.code)
        model, told = _read(source)
        if not estimators.is_estimator(model):
            raise ModelError(f"{source.path} holds a {type(model).__name__}, not an estimator of scikit-learn")
        require_sound_trees(model, source.path)
        return usable(model, source, told)


def _has_schema(path: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return SCHEMA in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def _read(source: Source) -> tuple[Any, tuple[str, ...]]:
    """The model in the file, and what is to be told of it. Its bytes are read once: what is judged is what is made."""
    skops = library("skops.io")
    refused = library("skops.io.exceptions").UntrustedTypesFoundException
    _require_archive(source)
    data = source.file.read_bytes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with reading(source):
                model = skops.loads(data, trusted=list(TRUSTED))
        except BimodalError:
            raise
        except refused as error:
            raise _untrusted(source, skops.get_untrusted_types(data=data)) from error
        except ModuleNotFoundError as error:
            raise absent(source.file, error.name or "") from error
        except Exception as error:  # a damaged file raises anything
            reason = str(error).splitlines()[0][:LONGEST] if str(error) else ""
            raise ModelError(
                f"{source.path} is a damaged skops file, or one of a later skops ({type(error).__name__}: {reason})"
            ) from error
    for warning in caught:
        log.warning("%s", warning.message)
    return model, versions_told(caught)


def _require_archive(source: Source) -> None:
    """Raise ModelError where it is no skops archive, or one that unpacks to more than it could need."""
    try:
        with zipfile.ZipFile(source.file) as archive:
            names, size = archive.namelist(), sum(each.file_size for each in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        with source.file.open("rb") as opened:
            pickled = opened.read(1) == b"\x80"
        what = "a pickle under a false name; give it the ending .pkl" if pickled else "damaged: it is no zip archive"
        raise ModelError(f"{source.path} is no skops file but {what}") from error
    if SCHEMA not in names:
        raise ModelError(f"{source.path} is a zip archive without {SCHEMA}, no skops file")
    if size > SMALL + GROWTH * source.file.stat().st_size:
        raise ModelError(f"{source.path} would unpack to {size / 2**30:.1f} GiB, far more than its size can need")


def _untrusted(source: Source, named: list[str]) -> ModelError:
    unknown = [name[:LONGEST] for name in sorted(set(named) - set(TRUSTED))]
    many = "types that are" if len(unknown) > 1 else "a type that is"
    return ModelError(
        f"{source.path} is made of {many} not on Bimodal's list of trusted ones: {listed(unknown)}. If you trust who "
        f"made it, save it with joblib.dump(model, 'model.joblib') instead: loading that may run any code. A type "
        f"of a public library can be added to the list: ask for it in an issue"
    )
