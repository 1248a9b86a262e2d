"""What must not happen while a model file is read: a process, a connection, a file that changes, a text that runs.

A second look, below the names that a pickle may call: whatever a class of a library does when it is made, the system
is not touched by it. Python tells of each of these before it happens (PEP 578).
"""

from __future__ import annotations

import ast
import builtins
import os
import re
from pathlib import Path
from typing import Any

from bimodal.formats import desk

PROCESSES = frozenset(
    ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "pty.spawn",
     "subprocess.Popen")
)  # fmt: skip
CONNECTIONS = frozenset(("socket.bind", "socket.connect", "socket.getaddrinfo", "urllib.Request", "webbrowser.open"))
FILES = {  # where the paths that change stand among what Python tells, each with the folder's number it starts from
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.link": ((0, 2), (1, 3)),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "shutil.rmtree": ((0, 1),),
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NOWHERE = Path("/dev/null")
# The text that scipy.stats keeps in a distribution, and runs when it is read: names and numbers alone
# (scipy.stats._distn_infrastructure.parse_arg_template).
_LIST = r"[\w ,=.+\-]*"
SCIPY = re.compile(
    rf"\s*def _parse_args\(self, {_LIST}\):\s+return \({_LIST}\), {_LIST}"
    rf"\s+def _parse_args_rvs\(self, {_LIST}, size=None\):\s+return self\._argcheck_rvs\({_LIST}, size=size\)"
    rf"\s+def _parse_args_stats\(self, {_LIST}, moments='mv'\):\s+return \({_LIST}\), {_LIST}, moments\s*"
)
SYMPY = "from sympy import *"
ALGEBRA = (  # the parts of an expression over symbols, as an exported program of PyTorch holds them
    ast.Expression, ast.Call, ast.Name, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Load,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip


def harm(event: str, arguments: tuple[Any, ...]) -> str | None:
    """What is about to happen, in words, where no model needs it. event, arguments: as Python tells them."""
    if event in PROCESSES:
        return "start a process"
    if event in CONNECTIONS:
        return "open a connection"
    if event in FILES:
        places = ((arguments[path], _number(arguments, folder)) for path, folder in FILES[event])
        return None if all(_is_aside(*place) for place in places) else "change a file"
    path, mode, flags = arguments  # of the event "open"
    writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & WRITING)
    return "write a file" if writes and not _is_aside(path) else None


def _number(arguments: tuple[Any, ...], at: int | None) -> int | None:
    """The number of the open folder that a path starts from; None for the working directory."""
    number = arguments[at] if at is not None and at < len(arguments) else None
    return number if isinstance(number, int) and number >= 0 else None


def _is_aside(path: Any, folder: int | None = None) -> bool:
    """It is in the folder that was made for this reading. folder: the number of the open one where a path starts."""
    if not isinstance(path, str | bytes | os.PathLike):
        return True  # a file that is open already
    start = Path("" if folder is None else f"/proc/self/fd/{folder}")
    place = (start / os.fsdecode(path)).resolve()
    return place == NOWHERE or desk.is_on(place)


def is_harmless(source: Any) -> bool:
    """A text that is known to do nothing: made by SciPy, or an expression over SymPy's symbols."""
    if not isinstance(source, str | bytes):
        return False
    try:
        text = source.decode() if isinstance(source, bytes) else source
    except UnicodeDecodeError:
        return False
    return text == SYMPY or SCIPY.fullmatch(text) is not None or _is_algebra(text)


def _is_algebra(text: str) -> bool:
    """Names of no builtin, numbers, texts in quotes, operators, calls of names."""
    try:
        parts = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for part in parts:
        if not isinstance(part, ALGEBRA) or (isinstance(part, ast.Call) and not isinstance(part.func, ast.Name)):
            return False
        if isinstance(part, ast.Name) and (part.id.startswith("_") or hasattr(builtins, part.id)):
            return False
    return True
