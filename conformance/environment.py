"""Environments of Python for servers that should not share one: made once, from a file of pinned requirements."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path


def default_folder() -> Path:
    """Where environments are kept unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bimodal-bench"


def environment(folder: Path, name: str, requirements: Path) -> Path:
    """The folder of programs of an environment that has these requirements; it is made where there is none."""
    place = (folder / name).absolute()
    wanted = requirements.read_text()
    made = place.with_name(f"{name}.made-from.txt")  # written when the environment is finished
    if not made.exists() or made.read_text() != wanted:
        print(f"making {place} from {requirements.name}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        install = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
        subprocess.run([*install, "-r", str(requirements)], check=True)
        made.write_text(wanted)
    return place / "bin"


def variables(programs: Path) -> dict[str, str]:
    """The variables with which a program of an environment runs: its own programs first, Python's library found."""
    library = sysconfig.get_config_var("LIBDIR") or ""
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": library, "PYTHONUNBUFFERED": "1"}
