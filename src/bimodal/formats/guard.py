"""Guard: while a model file is read, only names that are permitted are called, whatever the file asks for.

A pickle is a program that calls what it names. Python tells, before a pickle of any kind gets hold of a name
(`pickle.find_class`, an audit event), and a hook that raises there stops it: for every library that unpickles, also
those that the file leads to. Unpicklers that find names by themselves raise no such event: PyTorch's for weights and
skops', which have lists of their own.

permitted: the names of `formats/permitted.py`; classes of the libraries that models are made of; of other installed
libraries, classes that predict or transform, and plain data; the user's own code (the model's folder, the working
directory, `--code`), which is theirs to run; and what `--trust` names.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
import importlib.util
import os
import site
import sys
import sysconfig
import tempfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any

from bimodal.errors import ModelError
from bimodal.formats import desk, effects
from bimodal.formats.contract import TRUSTED, Source
from bimodal.formats.permitted import COMPUTING, FUNCTIONS, LIBRARIES, REFUSED, STANDARD, TESTS, TRAINING
from bimodal.formats.trust import ANY

MODELS = ("predict", "transform", "fit", "fit_transform", "fit_predict", "predict_proba", "score_samples", "forward")
MAKERS = ("__init__", "__new__", "__setstate__", "__reduce__", "__reduce_ex__", "__del__", "__call__", "__post_init__")
DATA = (object, tuple, list, dict, set, frozenset, str, bytes, int, float, complex, Exception)

BIMODAL = Path(__file__).resolve().parents[1]
CLASSES = (collections.__file__, dataclasses.__file__)  # named tuples and the like are made of a text
GRAPHS = os.sep.join(("", "torch", "fx", ""))  # PyTorch writes a graph down as text, and runs that
CLEARING = ("_cleanup", "cleanup", "close")  # what `tempfile` calls its own ends

_now: Reading | None = None
_installed = False
_used: list[str] = []  # names that passed because they are trusted


def told() -> dict[str, list[str]]:
    """What model files have called in this process because it is trusted, as facts of the model."""
    names = [ANY] if any(each.partition(".")[0] == ANY for each in _used) else list(dict.fromkeys(_used))
    return {TRUSTED: names} if names else {}


@contextmanager
def reading(source: Source) -> Iterator[Reading]:
    """Nothing but permitted names is called in this block by what is unpickled, nor the system touched by it.

    Raises ModelError naming what was asked for, also where a library made another error of it, or none.
    """
    global _now
    install()
    before, mine = _now, Reading(source)
    with desk.laid():
        _now = mine
        try:
            yield mine
        except Exception as error:
            _now = before
            if mine.refusal is not None and mine.refusal is not error:
                raise mine.refusal from error
            raise
        finally:
            _now = before
        if mine.refusal is not None:
            raise mine.refusal


def install() -> None:
    """Hear what Python tells of, from now on and for good: before any code of a user's runs."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    reading = _now
    if reading is not None and not reading.judging:
        if event == "pickle.find_class":
            reading.find(*arguments)
        elif event in HEARD:
            reading.touch(event, arguments, sys._getframe(1))


HEARD = effects.PROCESSES | effects.CONNECTIONS | effects.FILES.keys() | {"open", "compile", "exec"}


class Reading:
    """One model file that is being read."""

    def __init__(self, source: Source) -> None:
        self.refusal: ModelError | None = None
        self.judging = False
        self._harmless = False  # the text that was compiled last
        self._trusting = False  # it has called what is trusted
        self._path = source.path
        self._trust = source.trust
        self._passed: set[tuple[str, str]] = set()
        folders = [source.file.absolute().parent, Path.cwd()]
        folders += [each if each.is_dir() else each.absolute().parent for each in map(Path, source.code)]
        self._folders = tuple(each.resolve() for each in folders)

    def find(self, module: str, name: str) -> None:
        """Raise ModelError where the name is not permitted; ImportError or AttributeError where there is none."""
        if (module, name) in self._passed:
            return
        self.judging = True
        try:
            passes = self._passes(*_called_now(module, name))
        finally:
            self.judging = False
        if not passes:
            self._trust_or_refuse(module, name)
        self._passed.add((module, name))

    def _trust_or_refuse(self, module: str, name: str) -> None:
        asked = f"{module}.{name}"
        if ANY not in self._trust and not any(f"{asked}.".startswith(f"{each}.") for each in self._trust):
            self.refusal = self.refusal or self._refused(asked)
            raise self.refusal
        self._trusting = True
        _used.append(asked)

    def touch(self, event: str, arguments: tuple[Any, ...], frame: FrameType) -> None:
        """Raise ModelError where it is about to touch the system. frame: the code that is about to."""
        if self._trusting or ANY in self._trust:
            return
        self.judging = True
        try:
            excused = _is_excused(frame, self._is_own) or (event in effects.FILES and _clears(frame))
            told = None if excused else self._harm(event, arguments)
        finally:
            self.judging = False
        if told is not None:
            self.refusal = self.refusal or ModelError(
                f"{self._path} was about to {told} while it was read, which no model needs; if you trust who made "
                f"it: --trust {ANY}"
            )
            raise self.refusal

    def _harm(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        """What is about to happen. A text is compiled first, which is no harm, and then run."""
        if event == "compile":
            self._harmless = effects.is_harmless(arguments[0])
            return None
        if event == "exec":
            known, self._harmless = self._harmless, False
            return None if known else "run a text as code"
        return effects.harm(event, arguments)

    # -- judging ------------------------------------------------------------------------------------------------------

    def _passes(self, module: str, name: str, *, again: bool = False) -> bool:
        module = _in_full(module)
        asked = f"{module}.{name}"
        if asked in STANDARD or asked in FUNCTIONS:
            return True
        if module == "__main__":
            return self._fits_main(name)
        where = self._home(module)
        if where == "python" or any(part.startswith("__") for part in name.split(".") if "__pyx" not in part):
            return False
        if where == "library" and (_is_refused(asked) or TESTS & set(asked.split("."))):
            return False
        thing = _found(module, name)
        return self._is_ours(thing, module, again=again) if where == "own" else self._fits(thing, module, name, again)

    def _fits_main(self, name: str) -> bool:
        """Of what stands for `__main__`: the user's files, where some are given; of this program nothing."""
        main = sys.modules["__main__"]
        if not hasattr(main, "replaced"):
            raise AttributeError(f"Can't get attribute {name!r} on <module '__main__'>")
        if any(part.startswith("__") for part in name.split(".")):
            return False
        return self._is_ours(_found("__main__", name), "__main__", again=False)

    def _is_ours(self, thing: Any, module: str, *, again: bool) -> bool:
        """What is found in the user's own module is the user's, unless it was imported there from elsewhere."""
        if isinstance(thing, ModuleType):
            return False
        home = getattr(thing, "__module__", None)
        if home is None:
            return not callable(thing)
        if not isinstance(home, str):
            return False
        if home in (module, "__main__") or self._home(home) == "own":
            return True
        named = getattr(thing, "__qualname__", None)
        return not again and isinstance(named, str) and self._passes(home, named, again=True)

    def _fits(self, thing: Any, module: str, name: str, again: bool) -> bool:
        """Of an installed library."""
        listed = _depth(f"{module}.{name}", LIBRARIES) > 0
        if isinstance(thing, type):
            home = thing.__module__
            if _is_refused(f"{home}.{thing.__qualname__}"):
                return False
            if not again and home.partition(".")[0] != module.partition(".")[0] and home != "builtins":
                return self._passes(home, thing.__qualname__, again=True)
            return listed or _is_model(thing) or _is_plain(thing)
        if _is_reconstruction(thing, name) or (listed and type(thing).__name__ == "ufunc"):
            return True
        return isinstance(thing, FunctionType) and thing.__module__ == module and module in COMPUTING

    def _home(self, module: str) -> str:
        """Whose module it is: own, python (of the standard library, or of nobody known), library."""
        root = module.partition(".")[0]
        places = _places(root)
        if not places:
            return "python"
        if all(self._is_own(each) for each in places):
            return "own"
        if root in sys.stdlib_module_names:
            return "python"
        installed = any(_is_below(Path(each), _installed_at()) for each in places)
        return "python" if not installed and _is_below(Path(places[0]), _standard()) else "library"

    def _is_own(self, file: str) -> bool:
        """Whether a file of code is the user's: in a folder of theirs, and in none of Python, libraries or Bimodal."""
        place = Path(file)
        if not place.is_absolute():  # "<string>", "<frozen …>"
            return False
        return _is_below(place, self._folders) and not _is_below(place, (*_standard(), *_installed_at(), BIMODAL))

    def _refused(self, asked: str) -> ModelError:
        shown = "".join(letter if letter.isprintable() else "?" for letter in asked)[:120]
        if asked.partition(".")[0] == ANY:
            what = "holds functions or classes pickled by value (cloudpickle), which are code"
            return ModelError(
                f"{self._path} {what}: such a file can run anything; if you trust who made it: --trust {ANY}"
            )
        return ModelError(
            f"{self._path} wants to call {shown}, which is not on the list of what a model needs: such a file could "
            f"run any code; if you know what it does and trust who made it: --trust {shown}"
        )


# -- names and modules -------------------------------------------------------------------------------------------------


def _called_now(module: str, name: str) -> tuple[str, str]:
    """What a name of Python 2 is called now: pickles of the old protocols have those."""
    if (module, name) in NAME_MAPPING:
        return NAME_MAPPING[module, name]
    return IMPORT_MAPPING.get(module, module), name


def _in_full(module: str) -> str:
    """Compiled with Cython 3, a module of scikit-learn (up to 1.7) calls itself `_loss`, and so do pickles."""
    full = "sklearn._loss._loss"
    known = sys.modules.get("_loss") if module == "_loss" else None
    return full if known is not None and known is sys.modules.get(full) else module


def _found(module: str, name: str) -> Any:
    thing: Any = importlib.import_module(module)
    for part in name.split("."):
        try:
            thing = getattr(thing, part)
        except AttributeError:
            raise AttributeError(f"Can't get attribute {name!r} on <module {module!r}>") from None
    return thing


def _places(root: str) -> tuple[str, ...]:
    """Where a module's file or folders are; none of one that is built in. Raises ModuleNotFoundError."""
    known = sys.modules.get(root)
    try:
        spec = importlib.util.find_spec(root) if known is None else known.__spec__
    except (ValueError, AttributeError):
        spec = None
    if spec is None:
        file = getattr(known, "__file__", None)
        if known is None:
            raise ModuleNotFoundError(f"No module named {root!r}", name=root)
        return (file,) if isinstance(file, str) else ()
    if spec.submodule_search_locations:
        return tuple(spec.submodule_search_locations)
    return (spec.origin,) if spec.has_location and spec.origin else ()


@cache
def _standard() -> tuple[Path, ...]:
    return tuple({Path(sysconfig.get_path(each)).resolve() for each in ("stdlib", "platstdlib")})


@cache
def _installed_at() -> tuple[Path, ...]:
    named = [sysconfig.get_path(each) for each in ("purelib", "platlib")]
    named += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple({Path(each).resolve() for each in named})


def _is_below(place: Path, folders: Sequence[Path]) -> bool:
    resolved = place.resolve()
    return any(resolved.is_relative_to(each) for each in folders)


def _is_refused(asked: str) -> bool:
    """The longer of two lines that speak of it counts: of joblib one class passes, of pandas all but some modules."""
    return _depth(asked, (*REFUSED, *TRAINING)) > _depth(asked, LIBRARIES)


def _depth(asked: str, names: Sequence[str]) -> int:
    """The length of the longest name that it is, or that it lies in; 0 for none."""
    return max((len(each) for each in names if asked == each or asked.startswith(f"{each}.")), default=0)


def _is_excused(frame: FrameType | None, own: Callable[[str], bool]) -> bool:
    """A module that is imported does it, the user's own code, PyTorch with a graph, or Python for a new class."""
    if frame is not None and frame.f_code.co_filename in CLASSES:
        return True
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib") or GRAPHS in file or own(file):
            return True
        if file.startswith(f"{BIMODAL}{os.sep}"):
            return False  # who reads the file
        frame = frame.f_back
    return False


def _clears(frame: FrameType | None) -> bool:
    """A temporary folder from before goes, as the collector may have it at any time."""
    while frame is not None:
        if frame.f_code.co_filename == tempfile.__file__ and frame.f_code.co_name in CLEARING:
            return True
        frame = frame.f_back
    return False


# -- what a thing is ---------------------------------------------------------------------------------------------------


def _is_reconstruction(thing: Any, name: str) -> bool:
    """What Cython makes for each of its classes: it makes an object without calling anything."""
    compiled = isinstance(thing, BuiltinFunctionType) or type(thing).__name__ == "cython_function_or_method"
    return compiled and name.startswith("__pyx_unpickle_")


def _is_model(kind: type) -> bool:
    return any(callable(getattr(kind, each, None)) for each in MODELS)


def _is_plain(kind: type) -> bool:
    """Data: making one runs nothing of its class's own."""
    if issubclass(kind, Enum):
        return True
    written = {name for each in kind.__mro__ if each not in DATA for name in MAKERS if name in vars(each)}
    return not written - ({"__init__"} if dataclasses.is_dataclass(kind) else set())
