"""Every task of the project, under one verb each: python tasks.py check | fix | test | bench | docs | models | protos

check   what must pass before a change lands: ruff, mypy, import-linter, all tests
fix     let ruff mend and format what it can
test    the tests alone; what follows goes to pytest (python tasks.py test -k csv)
bench   a comparison: python tasks.py bench realtime | batch | start | … [options]
docs    run the code of README.md and docs/
models  ask every estimator and write docs/models.md anew (an hour); with names, only their lines
protos  compile the .proto files of gRPC into the descriptors that the package carries
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PROTOS = ROOT / "src" / "bimodal" / "messages" / "proto"
PROGRAMS = {  # what the tests call beside Python: Debian's package, and the names under which it may be there already
    "chromium": ("chromium", "chromium-browser", "google-chrome", "chrome"),
    "chromium-driver": ("chromedriver",),
    "curl": ("curl",),
    "mariadb-server": ("mariadbd", "mysqld"),
    "redis-server": ("redis-server",),
}
# Most tests wait for processes of their own: three files at a time, in the order of tests/conftest.py.
SIDE_BY_SIDE = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder")
TIMED = ("realtime", "batch", "postgres", "start", "exact_trees", "exact_pipeline")
COMPARISONS = (
    *TIMED,
    "package",
    "isolation",
    "jobs",
    "advise",
    "lookup",
    "grpc",
    "streaming",
    "peers",
    "lone",
    "tensors",
    "client",
    "contracts",
    "overload",
    "tls",
    "guarded",
    "guard",
    "reading",
)


def tool(module: str, *options: str) -> list[str]:
    """The command that runs a Python tool with this interpreter."""
    return [sys.executable, "-m", module, *options]


def succeeds(command: list[str]) -> bool:
    """Run a command in the project's folder, showing it and what it prints."""
    print("$", *command, flush=True)
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def quietly(command: list[str]) -> bool:
    """The same beside another command: shown when it has ended, in one piece."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print("\n$", *command, f"\n{done.stdout}", end="", flush=True)
    return done.returncode == 0


def there(program: str) -> bool:
    """Whether it can be called. Servers stand where not every user looks."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin") is not None


def install_programs() -> bool:
    """See that the tests find a browser, curl and a database: Debian's, by apt-get, where that is possible."""
    missing = [package for package, names in PROGRAMS.items() if not any(map(there, names))]
    if not missing:
        return True
    rights = [] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or (rights and not shutil.which("sudo")):
        print(f"The tests need {' and '.join(missing)}: install what is missing, then run this again.", file=sys.stderr)
        return False
    apt = [*rights, "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
        print("$", *apt, *step, flush=True)
        done = subprocess.run([*apt, *step], env=environment, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            print(f"The tests need {' and '.join(missing)}, and apt-get failed (see above).", file=sys.stderr)
            return False
    return True


def check(arguments: list[str]) -> int:
    """Run every check to its end, then say which failed. pytest comes last, so that its closing line does too."""
    steps: dict[str, Callable[[], bool]] = {
        "ruff check": lambda: succeeds(tool("ruff", "check")),
        "ruff format": lambda: succeeds(tool("ruff", "format", "--check")),
        "import-linter": lambda: succeeds([str(Path(sys.executable).with_name("lint-imports"))]),
        "compileall": lambda: succeeds(tool("compileall", "-q", "src", "tests")),  # for the processes that tests start
        "programs": install_programs,
        "pytest": lambda: succeeds(tool("pytest", *SIDE_BY_SIDE, *arguments)),
    }
    with ThreadPoolExecutor(1) as beside:
        types = beside.submit(quietly, tool("mypy"))  # beside the tests, which leave it room
        failed = [name for name, step in steps.items() if not step()]
    failed += [] if types.result() else ["mypy"]
    if failed:
        print(f"check failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def fix(_: list[str]) -> int:
    """Mend and format what ruff can."""
    mended = succeeds(tool("ruff", "check", "--fix"))
    return 0 if succeeds(tool("ruff", "format")) and mended else 1


def test(arguments: list[str]) -> int:
    """Run pytest alone."""
    return 0 if succeeds(tool("pytest", *arguments)) else 1


def bench(arguments: list[str]) -> int:
    """Run one comparison of bench/."""
    if not arguments or arguments[0] not in COMPARISONS:
        print(f"Which comparison? python tasks.py bench {' | '.join(COMPARISONS)}", file=sys.stderr)
        return 2
    return 0 if succeeds(tool(f"bench.{arguments[0]}", *arguments[1:])) else 1


def docs(arguments: list[str]) -> int:
    """Run the code that the documents show."""
    return 0 if succeeds(tool("pytest", "tests/test_docs.py", *arguments)) else 1


def models(arguments: list[str]) -> int:
    """Ask every estimator, or those that are named, and write what they get into docs/models.md."""
    return 0 if succeeds(tool("tests.sweep.table", *arguments)) else 1


def protos(_: list[str]) -> int:
    """Compile the .proto files into one set of descriptors, beside them."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    made = f"--descriptor_set_out={PROTOS / 'descriptors.binpb'}"
    return 0 if succeeds(tool("grpc_tools.protoc", f"-I{PROTOS}", made, *files)) else 1


TASKS: dict[str, Callable[[list[str]], int]] = {
    "check": check,
    "fix": fix,
    "test": test,
    "bench": bench,
    "docs": docs,
    "models": models,
    "protos": protos,
}


def main(arguments: list[str]) -> int:
    """Run the task that is named first; the rest is its own."""
    if not arguments or arguments[0] not in TASKS:
        print(__doc__, file=sys.stderr)
        return 2
    return TASKS[arguments[0]](arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
