"""No pickle on any wire: only the readers of model files unpickle, and nothing evaluates text (promise 37)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "bimodal"
READERS = {"formats/sklearn.py"}  # that unpickle, in the child process
RUNNERS = {"formats/code.py"}  # that run the user's own Python file, from the copy of it that is served
WRITERS = {"location.py", "cli/demo.py"}  # that write a model down for that
LIBRARIES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "__import__"}


def faults(text: str) -> list[str]:
    """What a module does that only readers of models may."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            named = [each.value for each in node.args if isinstance(each, ast.Constant)]
            if called in CALLS or (called == "library" and LIBRARIES & set(named)):
                found.append(ast.unparse(node))
            told = {each.arg: ast.unparse(each.value) for each in node.keywords}
            if told.get("shell") == "True" or told.get("allow_pickle") == "True":
                found.append(ast.unparse(node))
            if called.endswith(".read_pickle") or (called == "np.load" and told.get("allow_pickle") != "False"):
                found.append(ast.unparse(node))
        found += [each for each in names if each.partition(".")[0] in LIBRARIES]
    return found


def test_nothing_else_unpickles_or_evaluates() -> None:
    found = {each.relative_to(SOURCE).as_posix(): faults(each.read_text()) for each in SOURCE.rglob("*.py")}
    assert {place for place, faults_in in found.items() if faults_in} == READERS | RUNNERS | WRITERS


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from joblib import load", "eval('1')", "library('cloudpickle')", "run(x, shell=True)",
     "np.load(x)", "np.load(x, allow_pickle=True)", "pd.read_pickle(x)"],
)  # fmt: skip
def test_what_would_do_it_is_found(text: str) -> None:
    assert faults(text)
