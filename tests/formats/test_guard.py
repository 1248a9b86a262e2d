"""Only listed code runs while a model file is read (promise 37)."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from scipy.stats import uniform
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import bimodal
from bimodal import package
from bimodal.errors import ModelError, UsageError
from bimodal.formats import guard, trust
from bimodal.formats.contract import Source
from bimodal.formats.desk import clear
from bimodal.formats.sklearn import Sklearn
from bimodal.model import from_spec
from tests.formats import gadgets, ways
from tests.formats.ways import Call, Name
from tests.models import IRIS, SPECIES

ROOT = Path(__file__).parents[2]
REFUSED = {"ModelError", "MissingCode", "MissingLibrary"}


def reads(folder: Path, what: str) -> list[tuple[str, str, bool]]:
    """Of each pickle: what it is, the error, whether it touched its file. The process that reads them is fresh, in a
    folder that is not the one for temporary files, where libraries may write.
    """
    (folder / "given").mkdir()
    (folder / "tmp").mkdir()
    told = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, gadgets.__file__, str(folder), what]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=told, check=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]


def test_no_way_that_is_known_runs_anything(tmp_path: Path) -> None:
    found = reads(tmp_path, "short")
    assert [each for each in found if each[2]] == []
    assert Counter(each[1] for each in found).keys() <= REFUSED
    assert len(found) > 450


def test_they_do_run_where_nothing_guards(tmp_path: Path) -> None:
    """The control: what the test above refuses is no dud."""
    found = reads(tmp_path, "unguarded")
    assert len(found) == len(gadgets.FEW)
    assert all(done for _, done in found), found  # type: ignore[misc] # two values a line here


@pytest.mark.soak
@pytest.mark.parametrize("what", ["dialects", "containers"])
def test_every_spelling_in_every_container_through_every_loader(what: str, tmp_path: Path) -> None:
    found = reads(tmp_path, what)
    print(f"{what}: {len(found)} files, {Counter(each[1] for each in found)}")
    assert [each for each in found if each[2]] == []
    assert len(found) > 2500


# -- what passes -------------------------------------------------------------------------------------------------------

NAMES = {
    "collections.OrderedDict": True,
    "functools.partial": True,
    "operator.itemgetter": True,
    "re._compile": True,
    "copy_reg._reconstructor": True,
    "__builtin__.set": True,
    "numpy.core.multiarray._reconstruct": True,
    "numpy._core.multiarray.scalar": True,
    "numpy.log1p": True,
    "scipy.special.expit": True,
    "numpy.nan_to_num": True,
    "sklearn.linear_model._logistic.LogisticRegression": True,
    "sklearn.metrics._regression.mean_squared_error": True,
    "sklearn.neighbors._kd_tree.newObj": True,
    "pandas.core.frame.DataFrame": True,
    "xgboost.core.Booster": True,
    "bimodal.runtimes.process.Child": False,
    "lightgbm.Dataset": False,
    "lightgbm.basic.Dataset": False,
    "lightgbm.basic.Booster": True,
    "xgboost.DMatrix": False,
    "catboost.Pool": False,
    "operator.methodcaller": False,
    "builtins.getattr": False,
    "__builtin__.getattr": False,
    "numpy.load": False,
    "numpy.core._ufunc_reconstruct": False,
    "pandas.read_pickle": False,
    "pandas.io.pytables.HDFStore": False,
    "joblib.parallel.BatchedCalls": False,
    "joblib.memory.Memory": True,
    "sklearn.datasets._base.load_files": False,
    "hypothesis.database.DirectoryBasedExampleDatabase": False,
}


@pytest.mark.parametrize("asked", NAMES)
def test_a_name_passes_or_not(asked: str, tmp_path: Path) -> None:
    module, _, name = asked.rpartition(".")
    reading = guard.Reading(Source(str(tmp_path / "model.pkl")))
    if NAMES[asked]:
        reading.find(module, name)
        assert reading.refusal is None
    else:
        with pytest.raises(ModelError, match=f"wants to call {asked}.*--trust {asked}"):
            reading.find(module, name)


def _searched() -> Any:
    options = {"C": uniform(0.1, 1)}
    return RandomizedSearchCV(LogisticRegression(max_iter=2000), options, n_iter=2, cv=2, random_state=0).fit(
        IRIS, SPECIES
    )


@pytest.mark.parametrize("protocol", [2, 5])
def test_what_models_need_is_read(protocol: int, tmp_path: Path) -> None:
    """A distribution holds a text that SciPy runs; a ufunc, a partial and a function of NumPy are functions."""
    steps = (np.log1p, functools.partial(np.clip, a_min=0, a_max=9), np.nan_to_num)
    pipeline = make_pipeline(*(FunctionTransformer(each) for each in steps), _searched())
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps(pipeline.fit(IRIS, SPECIES), protocol=protocol))
    assert Sklearn().load(Source(str(file))).signature.width == 4


OWN = """
from os import system
import os, numpy as np

class Mine:
    def predict(self, rows):
        return rows[:, 0]

def double(rows):
    return 2 * rows
"""


@pytest.mark.parametrize("name", ["Mine", "double", "system", "os.system", "np.load"])
def test_the_users_own_code_passes_and_what_it_imports_does_not(name: str, tmp_path: Path) -> None:
    (tmp_path / "guarded_own.py").write_text(OWN)
    reading = guard.Reading(Source(str(tmp_path / "model.pkl")))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        patch.delitem(sys.modules, "guarded_own", raising=False)
        if name in ("Mine", "double"):
            reading.find("guarded_own", name)
        else:
            with pytest.raises(ModelError, match=f"wants to call guarded_own.{name}"):
                reading.find("guarded_own", name)


# -- trust -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_value(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with a lambda, which cloudpickle writes down as code."""
    file: Path = tmp_path_factory.mktemp("value") / "model.pkl"
    model = make_pipeline(FunctionTransformer(lambda rows: rows + 1), LogisticRegression(max_iter=2000))
    file.write_bytes(cloudpickle.dumps(model.fit(IRIS, SPECIES)))
    return file


def test_functions_pickled_by_value_are_code(by_value: Path) -> None:
    with pytest.raises(ModelError, match=r"pickled by value \(cloudpickle\), which are code.*--trust cloudpickle"):
        bimodal.load(by_value)
    with bimodal.load(by_value, trust="cloudpickle") as model:
        assert model.predict(IRIS[:3]).shape == (3,)


def test_a_package_keeps_what_it_was_trusted_with(by_value: Path, tmp_path: Path) -> None:
    made = bimodal.pack(by_value, tmp_path / "churn", trust=["cloudpickle"], runtime="native")
    assert package.open(made).manifest.trust == ("cloudpickle",)
    with bimodal.load(made) as model:
        assert model.predict(IRIS[:3]).shape == (3,)
    plain = tmp_path / "plain.joblib"
    joblib.dump(LogisticRegression(max_iter=2000).fit(IRIS, SPECIES), plain)
    made = bimodal.pack(plain, tmp_path / "plain", trust=["cloudpickle"], runtime="native")
    assert package.open(made).manifest.trust == ()  # it needed nothing


def test_a_model_in_memory_is_its_callers_own(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(lambda rows: rows * 2), LogisticRegression(max_iter=2000))
    model.fit(IRIS, SPECIES)
    with bimodal.load(model) as loaded, from_spec(loaded.spec()) as again:
        assert (loaded.predict(IRIS) == again.predict(IRIS)).all()


def test_a_name_that_is_trusted_passes_alone(tmp_path: Path) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(gadgets.spelled(ways.call("os.path.join", "a", "b"), "stack 4"))
    with pytest.raises(ModelError, match=r"wants to call os\.path\.join"):
        Sklearn().load(Source(str(file), trust=("os.path.split",)))
    with pytest.raises(ModelError, match="holds an object of type str"):
        Sklearn().load(Source(str(file), trust=("os.path.join",)))


@pytest.mark.parametrize("given", ["os", "a b", "x.", "a,,b", ["1a"]])
def test_what_is_trusted_is_named(given: Any) -> None:
    with pytest.raises(UsageError, match="--trust"):
        trust.names(given)
    assert trust.names("mylib.f, other.g") == ("mylib.f", "other.g")


# -- below the names ---------------------------------------------------------------------------------------------------


class Careless:
    """Its library swallows what it is told."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


def _swallowed(data: bytes) -> None:
    with contextlib.suppress(ModelError):
        pickle.loads(data)


def test_a_refusal_is_told_whatever_the_library_makes_of_it(tmp_path: Path) -> None:
    data = pickle.dumps(Careless())
    with pytest.raises(ModelError, match=r"posix\.system"), guard.reading(Source(str(tmp_path / "model.pkl"))):
        _swallowed(data)


def test_nothing_is_judged_where_no_model_is_read() -> None:
    guard.install()
    assert pickle.loads(pickle.dumps(Path.touch)) is Path.touch
    assert subprocess.run(["true"], check=True).returncode == 0


@pytest.fixture
def aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files; what is beside it is not in it, and these tests are no code of the user's."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tmp"


def _renamed(folder: Path, mark: Path) -> None:
    (folder / "file").write_text("")
    (folder / "file").rename(mark)


def _linked(folder: Path, mark: Path) -> None:
    mark.symlink_to(folder)


@pytest.mark.parametrize("change", [Path.mkdir, Path.touch])
def test_no_file_is_changed_but_in_the_folder_of_this_reading(change: Callable[[Path], None], aside: Path) -> None:
    with guard.reading(Source(str(aside.parent / "model.pkl"))):
        desk = Path(tempfile.gettempdir())
        assert os.environ["TMPDIR"] == str(desk)
        assert stat.S_IMODE(desk.stat().st_mode) == 0o700
        change(desk / "made")
        with tempfile.TemporaryFile() as file:
            assert file.write(b"1") == 1
    assert tempfile.gettempdir() == str(aside)
    assert desk.exists()  # a model may need what was put there
    clear()
    assert not desk.exists()
    for elsewhere in (aside / "made", aside.parent / "made", Path("/dev/shm/bimodal-made")):
        with pytest.raises(ModelError, match="was about to"), guard.reading(Source(str(aside.parent / "model.pkl"))):
            change(elsewhere)
        assert not elsewhere.exists()
    assert list(aside.iterdir()) == []


@pytest.mark.parametrize("mode", ["r", "c", "r+", "w+"])
@pytest.mark.parametrize("name", ["there", "new"])
def test_an_array_on_a_file_is_read_alone(mode: str, name: str, aside: Path) -> None:
    """Also of a file that lies among the temporary ones."""
    (aside / "there").write_bytes(b"0123456789")
    file = aside.parent / "model.pkl"
    call = Call(Name("numpy", "memmap"), (str(aside / name), "uint8", mode, 0, (10,)))
    file.write_bytes(gadgets.spelled(call, "stack 4"))
    told = "was about to write a file" if mode in ("r+", "w+") else "memmap" if name == "there" else "No.*|damaged"
    with pytest.raises(ModelError, match=told):
        Sklearn().load(Source(str(file)))
    assert (aside / "there").read_bytes() == b"0123456789"
    assert [each.name for each in aside.iterdir()] == ["there"]


@pytest.mark.parametrize("change", [_renamed, _linked])
def test_a_temporary_file_is_not_moved_elsewhere(change: Callable[[Path, Path], None], aside: Path) -> None:
    elsewhere = aside.parent / "moved"
    with pytest.raises(ModelError, match="change a file"), guard.reading(Source(str(aside.parent / "model.pkl"))):
        change(Path(tempfile.gettempdir()), elsewhere)
    assert not elsewhere.exists()


def test_a_temporary_folder_that_is_cleared_away_meanwhile_is_no_harm(aside: Path) -> None:
    """As the collector may have it done: by the number of the open folder, and a name in it."""
    before = tempfile.TemporaryDirectory(dir=aside)
    (Path(before.name) / "two").mkdir()
    with guard.reading(Source(str(aside.parent / "model.pkl"))):
        before.cleanup()
        (Path(tempfile.gettempdir()) / "one" / "two").mkdir(parents=True)
        shutil.rmtree(Path(tempfile.gettempdir()) / "one")
    assert list(aside.iterdir()) == []


@pytest.mark.soak
def test_a_size_in_a_program_of_pytorch_is_no_code(tmp_path: Path) -> None:
    """`torch.export.load` (2.13) evaluates the sizes of a program, which are texts in its file."""
    import torch

    from bimodal.formats.torch import Torch

    file, evil, mark = tmp_path / "net.pt2", tmp_path / "evil.pt2", tmp_path / "harmed"
    rows = {0: torch.export.Dim("rows")}
    torch.export.save(torch.export.export(torch.nn.Linear(4, 2), (torch.zeros(3, 4),), dynamic_shapes=(rows,)), file)
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(evil, "w") as after:
        for each in before.namelist():
            parts = before.read(each).split(b'"expr_str": "')
            changed = [f"__import__('os').mkdir('{mark}')".encode() + part[part.index(b'"') :] for part in parts[1:]]
            after.writestr(each, b'"expr_str": "'.join([parts[0], *changed]))
    Torch().load(Source(str(file)))
    with pytest.raises(ModelError, match="run a text as code"):
        Torch().load(Source(str(evil)))
    assert not mark.exists()
