"""The user's own code, which a saved model may need: made importable before the model is loaded."""

from __future__ import annotations

import importlib.util
import re
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from bimodal.errors import MissingCode, ModelError, UsageError


def make_importable(path: Path, code: Sequence[str]) -> None:
    """Put the model's folder, the working directory and `code` within reach of an import.

    A folder in `code` joins the path of modules; a file is imported under its stem, and its names stand for `__main__`
    too, since that is where a script's or notebook's own classes are looked for.
    """
    for folder in (path.absolute().parent, Path.cwd()):
        _reach(folder, last=True)
    files = []
    for each in map(Path, code):
        if not each.exists():
            raise UsageError(f"--code {each}: there is no such file or folder")
        _reach(each.absolute() if each.is_dir() else each.absolute().parent)
        if not each.is_dir():
            files.append(each)
    if files:
        stand_for_main([import_file(file) for file in files])


def _reach(folder: Path, *, last: bool = False) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(len(sys.path) if last else 0, str(folder))


def import_file(file: Path, kept: Path | None = None) -> ModuleType:
    """Import a Python file under its stem; its `if __name__ == "__main__"` part does not run. Raises ModelError.

    kept: a copy that is run in its place, as if it stood there: what it reads beside itself is found.
    """
    known = sys.modules.get(file.stem)
    if kept is None and known is not None and getattr(known, "__file__", None) == str(file.absolute()):
        return known
    name = file.stem if known is None else f"bimodal_code_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file.absolute())
    if spec is None or spec.loader is None:
        raise ModelError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        if kept is None:
            spec.loader.exec_module(module)
        else:
            exec(compile(kept.read_bytes(), file.absolute(), "exec"), vars(module))  # noqa: S102 - the user's own model
    except ModuleNotFoundError as error:
        del sys.modules[name]
        raise MissingCode(
            f"{file} needs the module {error.name}; install it, or add its folder with --code DIR"
        ) from error
    except BaseException as error:
        del sys.modules[name]
        raise ModelError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def stand_for_main(modules: Sequence[ModuleType]) -> None:
    """Let the modules' names be found in `__main__`: a fresh one, so that no name of this program is in the way."""
    main = ModuleType("__main__")
    vars(main)["replaced"] = sys.modules["__main__"]
    for module in modules:
        vars(main).update({name: value for name, value in vars(module).items() if not name.startswith("__")})
    sys.modules["__main__"] = main


def missing_name(path: Path, name: str, module: str) -> MissingCode:
    """The error for a class or function that the saved model needs and its module does not have."""
    if module != "__main__":
        return MissingCode(
            f"{path} needs {name} from the module {module}, which lacks it; give the right file with --code FILE"
        )
    found = next((file for folder in (path.parent, Path.cwd()) for file in defining(folder, name)), None)
    hint = f"{found} defines it: --code {found}" if found else "give the file that defines it: --code FILE"
    return MissingCode(f"{path} needs {name}, which was defined in the script or notebook that saved it; {hint}")


def missing_module(path: Path, module: str) -> MissingCode:
    """The error for a module that the saved model needs."""
    root = module.partition(".")[0]
    return MissingCode(
        f"{path} needs the module {module}; if it is your own code, give it with --code {root}.py (or its folder), "
        f"otherwise install its package"
    )


def defining(folder: Path, name: str) -> list[Path]:
    """The Python files of a folder that define a class or function of this name at their top level."""
    pattern = re.compile(rf"^(class|def) {re.escape(name)}\b|^{re.escape(name)}\s*=", re.MULTILINE)
    return [file for file in sorted(folder.glob("*.py"))[:200] if pattern.search(file.read_text("utf-8", "replace"))]


def imported(folders: Sequence[Path]) -> list[tuple[Path, Path]]:
    """The user's own modules that were imported from these folders: (the folder that it was found in, the file or the
    folder of the outermost package below it). Installed libraries are not among them.
    """
    installed = {Path(sysconfig.get_path(each)).resolve() for each in ("stdlib", "purelib", "platlib")}
    installed.add(Path(__file__).resolve().parents[1])
    found: dict[Path, Path] = {}
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "none")
        if not file.is_absolute():  # of a module made at run time, such as torch.ops: it says nothing of a place
            continue
        file = file.resolve()
        if file.suffix != ".py" or any(file.is_relative_to(each) for each in installed):
            continue
        depth = name.count(".") + (file.name == "__init__.py")
        place = file.parents[depth - 1] if depth else file
        if any(place.parent == folder.resolve() for folder in folders):
            found[place] = place.parent
    return [(folder, place) for place, folder in sorted(found.items())]
