"""What a pickle may name: functions and classes that read and write nothing but memory, whatever they are called with.

A pickle calls what it names, with arguments of its own. Of Python itself, names stand here one by one, since its
modules are full of ways to run a program. Of libraries that models are made of, classes pass, and the functions here.
`getattr`, `operator.attrgetter` and `operator.methodcaller` are missing on purpose: from any object they lead to the
module that defined it, and from there to everything.
"""

from __future__ import annotations

import builtins
import math

from bimodal.formats.trusted import TRUSTED

_BUILTINS = (
    "abs", "all", "any", "bool", "bytearray", "bytes", "complex", "dict", "divmod", "enumerate", "filter", "float",
    "frozenset", "int", "len", "list", "map", "max", "min", "object", "range", "reversed", "round", "set", "slice",
    "sorted", "str", "sum", "tuple", "zip", "Ellipsis", "NotImplemented",
)  # fmt: skip
_ERRORS = tuple(name for name, each in vars(builtins).items() if isinstance(each, type) and issubclass(each, Exception))
_PATHS = ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
STANDARD = frozenset(
    (
        *(f"builtins.{name}" for name in (*_BUILTINS, *_ERRORS)),
        *(f"math.{name}" for name in dir(math) if not name.startswith("_")),
        *(f"pathlib{place}.{name}" for place in ("", "._local") for name in _PATHS),
        "_codecs.encode",
        "_io.BytesIO",
        "_io.StringIO",
        "array.array",
        "array._array_reconstructor",
        "collections.ChainMap",
        "collections.Counter",
        "collections.OrderedDict",
        "collections.UserDict",
        "collections.UserList",
        "collections.UserString",
        "collections.defaultdict",
        "collections.deque",
        "copyreg.__newobj__",
        "copyreg.__newobj_ex__",
        "copyreg._reconstructor",
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "datetime.timezone",
        "decimal.Decimal",
        "fractions.Fraction",
        "functools.partial",
        "io.BytesIO",
        "io.StringIO",
        "ipaddress.IPv4Address",
        "ipaddress.IPv6Address",
        "logging.Logger",
        "logging.getLogger",
        "operator.itemgetter",
        "random.Random",
        "re.RegexFlag",
        "re._compile",
        "struct.Struct",
        "time.struct_time",
        "types.SimpleNamespace",
        "uuid.SafeUUID",
        "uuid.UUID",
        "zoneinfo.ZoneInfo",
        "zoneinfo.ZoneInfo._unpickle",
    )
)

_NUMPY = (  # what its arrays and generators are made of
    "_internal._convert_to_stringdtype_kwargs",
    "multiarray._reconstruct",
    "multiarray.scalar",
    "numeric._frombuffer",
)
_ARITHMETIC = (
    "abs", "absolute", "all", "amax", "amin", "any", "append", "argmax", "argmin", "argsort", "around", "array",
    "asarray", "ascontiguousarray", "atleast_1d", "atleast_2d", "average", "clip", "column_stack", "concatenate",
    "corrcoef", "cumprod", "cumsum", "diff", "digitize", "dot", "expand_dims", "gradient", "hstack", "interp",
    "isclose", "max", "mean", "median", "min", "nan_to_num", "nanmax", "nanmean", "nanmedian", "nanmin",
    "nanpercentile", "nanprod", "nanquantile", "nanstd", "nansum", "nanvar", "ones_like", "percentile", "prod",
    "quantile", "ravel", "repeat", "reshape", "round", "sort", "squeeze", "stack", "std", "sum", "swapaxes",
    "transpose", "unique", "var", "vstack", "where", "zeros_like",
)  # fmt: skip
_ARROW = (
    "_reconstruct_record_batch", "_reconstruct_table", "_restore_array", "chunked_array", "dictionary", "field",
    "list_", "py_buffer", "schema", "struct", "type_for_alias",
)  # fmt: skip
_PANDAS = (
    "NA",
    "_libs.missing.NA",
    "core.indexes.interval._new_IntervalIndex",
    "_libs.arrays.__pyx_unpickle_NDArrayBacked",
    "_libs.internals._unpickle_block",
    "_libs.tslibs.nattype._nat_unpickle",
    "_libs.tslibs.period._unpickle_period",
    "_libs.tslibs.timedeltas._timedelta_unpickle",
    "_libs.tslibs.timestamps._unpickle_timestamp",
    "_libs.tslibs.timezones.infer_tzinfo",
    "core.arrays.string_.StringDtype.construct_from_string",
    "core.dtypes.missing.isna",
    "core.dtypes.missing.notna",
    "core.indexes.base._new_Index",
    "core.indexes.datetimes._new_DatetimeIndex",
    "core.indexes.period._new_PeriodIndex",
    "core.internals.blocks.new_block",
    "core.reshape.encoding.get_dummies",
    "core.tools.datetimes.to_datetime",
    "core.tools.numeric.to_numeric",
    "core.tools.timedeltas.to_timedelta",
)
FUNCTIONS = frozenset(
    (
        *(each for each in TRUSTED if each.startswith(("sklearn.", "scipy."))),
        *(f"numpy.{core}.{name}" for core in ("core", "_core") for name in _NUMPY),
        *(f"numpy.{name}" for name in _ARITHMETIC),
        *(f"numpy.{core}.fromnumeric.{name}" for core in ("core", "_core") for name in _ARITHMETIC),
        *(
            f"numpy.random._pickle.{name}"
            for name in ("__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor")
        ),
        "numpy.random.__RandomState_ctor",
        "numpy.ma.core._mareconstruct",
        "numpy.rec.recarray",
        *(f"pandas.{name}" for name in _PANDAS),
        *(f"pyarrow.lib.{name}" for name in _ARROW),
        "pytz._UTC",
        "sklearn.metrics._dist_metrics.newObj",  # `cls.__new__(cls)`
        "sklearn.neighbors._ball_tree.newObj",
        "sklearn.neighbors._kd_tree.newObj",
        "pytz._p",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
    )
)
COMPUTING = (  # modules whose own functions only compute
    "sklearn.feature_selection._mutual_info",
    "sklearn.feature_selection._univariate_selection",
    "sklearn.metrics._classification",
    "sklearn.metrics._ranking",
    "sklearn.metrics._regression",
    "sklearn.metrics.cluster._supervised",
    "sklearn.metrics.cluster._unsupervised",
    "sklearn.metrics.pairwise",
    "sklearn.preprocessing._data",
)
LIBRARIES = (  # what models are made of: their classes pass
    "catboost",
    "category_encoders",
    "feature_engine",
    "hdbscan",
    "imblearn",
    "joblib.memory.Memory",
    "joblib.numpy_pickle",
    "joblib.numpy_pickle_compat",
    "lifelines",
    "lightgbm",
    "mapie",
    "mlflow.models.signature._TypeHints",
    "mlflow.types",
    "mlxtend",
    "ngboost",
    "numpy",
    "pandas",
    "pygam",
    "pynndescent",
    "pyod",
    "scipy",
    "sklearn",
    "sklego",
    "skopt",
    "skrub",
    "sksurv",
    "statsmodels",
    "torch.nn.modules",
    "torch.nn.parameter",
    "tslearn",
    "umap",
    "xgboost",
)
# Classes in here pass for nothing but a name that the user trusts: they start programs, open files and connections,
# evaluate text, unpickle again, or call what they are given by name.
REFUSED = (
    "_pytest", "bimodal", "catboost.dev_utils", "catboost.utils", "catboost.widget", "celery", "cffi", "cloudpickle",
    "Cython", "dask", "dill", "distributed", "distutils", "docker", "fabric", "formulaic", "fsspec", "gunicorn",
    "invoke", "ipykernel", "IPython", "joblib", "jupyter_client", "lightgbm.dask", "llama_cpp", "loky", "mlflow",
    "multiprocess", "numba", "numexpr", "numpy._pyinstaller", "numpy.ctypeslib", "numpy.distutils", "numpy.f2py",
    "numpy.lib._datasource", "numpy.lib._npyio_impl", "numpy.lib.npyio", "pandas.compat", "pandas.core.computation",
    "pandas.ExcelFile", "pandas.ExcelWriter", "pandas.HDFStore", "pandas.io", "pandas.plotting", "pandas.util",
    "paramiko", "patsy", "pexpect", "pip", "pkg_resources", "plumbum", "psutil", "ptyprocess", "pyspark", "pytest",
    "pyximport", "ray", "scipy._build_utils", "scipy.datasets", "scipy.io", "scipy.weave", "setuptools", "sh",
    "sklearn._build_utils", "sklearn.datasets", "sklearn.externals", "sklearn.utils._testing", "skops",
    "statsmodels.datasets", "statsmodels.tools.web", "sympy", "tensorflow", "torch", "transformers", "uvicorn",
    "webdriver", "wheel", "xgboost.collective", "xgboost.dask", "xgboost.spark", "xgboost.tracker",
)  # fmt: skip
# Tables to train on, which no model holds: read from files by native code, they let a booster train, and with it write
# files and open connections that Python does not tell of.
TRAINING = (
    "catboost.core.Pool", "lightgbm.basic.Dataset", "lightgbm.basic.Sequence", "xgboost.core.DMatrix",
    "xgboost.core.DataIter", "xgboost.core.ExtMemQuantileDMatrix", "xgboost.core.QuantileDMatrix",
)  # fmt: skip
TESTS = frozenset(("__main__", "_testing", "conftest", "setup", "test", "testing", "tests"))  # parts of a module's name
