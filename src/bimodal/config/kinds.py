"""Kind: what may stand at a key of bimodal.toml. It reads a value, and it says in JSON Schema what it reads: one place
for both, so that an editor and `bimodal up` refuse the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from bimodal import settings
from bimodal.errors import UsageError

Read = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Kind:
    """What may stand at a key. read: gives the value, or raises UsageError saying what to write. schema: the same as
    JSON Schema.
    """

    read: Read
    schema: Mapping[str, Any]


def wrong(value: Any, wanted: str) -> UsageError:
    """What stands there, by its type alone, and what to write."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return UsageError(f"this is {names.get(type(value), 'a date or time')}; write {wanted}")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# -- single values ----------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(value, 'a text in quotes, such as "customers.csv"')
    if not value:
        raise UsageError("this text is empty; write something, or leave the key out")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong(value, "true or false, without quotes")
    return value


def _number(value: Any) -> float:
    if not is_number(value):
        raise wrong(value, "a number, such as 0.3")
    return float(value)


def _share(value: Any) -> float:
    if isinstance(value, str):
        return settings.share(value)
    if not is_number(value):
        raise wrong(value, settings.SHARE_WANTED)
    settings.fraction(value)
    return float(value)


def whole(bounds: settings.Bounds) -> Kind:
    """A whole number within bounds."""
    least, most = bounds.least, bounds.most

    def read(value: Any) -> int:
        if not is_number(value) or value != int(value):
            raise wrong(value, bounds.wanted)
        bounds(int(value))
        return int(value)

    limits = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return Kind(read, {"type": "integer", **limits})


def choice(known: Sequence[str]) -> Kind:
    """One of some words."""

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise wrong(value, f"one of {', '.join(known)}")
        if value not in known:
            raise UsageError(f"it is one of {', '.join(known)}{meant(value, known)}")
        return value

    return Kind(read, {"enum": list(known)})


def meant(name: str, known: Sequence[str]) -> str:
    """`; did you mean …?` where a known name is near enough to be a slip."""
    near = nearest(name, known)
    return f"; did you mean {near}?" if near is not None else ""


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that is most like it, if any is near enough."""
    import difflib  # of use where something is wrong

    plain = {other.casefold().replace("-", "").replace("_", ""): other for other in known}
    near = difflib.get_close_matches(name.casefold().replace("-", "").replace("_", ""), plain, n=1, cutoff=0.7)
    return plain[near[0]] if near else None


# -- times and sizes --------------------------------------------------------------------------------------------------


def _any_case(words: Sequence[str]) -> str:
    """A pattern of the words in any mixture of cases: patterns in JSON Schema know no flags."""
    spelled = ["".join(f"[{each}{each.upper()}]" for each in word) for word in sorted(words, key=len, reverse=True)]
    return f"(?:{'|'.join(spelled)})"


END = r"$(?!\n)"  # of the text: Python's $ alone also stands before a last line's end
NUMERAL = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
TIME = f"{NUMERAL} *{_any_case(list(settings.FACTORS))}"
SIZE_PATTERN = f"[0-9]+(?:\\.[0-9]+)? *{_any_case(list(settings.UNITS))}"
NONZERO = r"(?=[0. ]*[1-9])"


def _time(*, positive: bool) -> Kind:
    pattern = f"^ *{NONZERO if positive else ''}{TIME} *{END}"
    examples = settings.TIME_WANTED
    check = settings.interval if positive else settings.duration

    def read(value: Any) -> float:
        if isinstance(value, str):
            if not re.search(pattern, value):
                raise UsageError(f"write {examples}{' (more than none)' if positive else ''}")
            return settings.seconds(value)
        if not is_number(value):
            raise wrong(value, examples)
        check(value)
        return float(value)

    bound = {"exclusiveMinimum": 0} if positive else {"minimum": 0}
    return Kind(read, {"anyOf": [{"type": "number", **bound}, {"type": "string", "pattern": pattern}]})


def _size(value: Any) -> int:
    wanted = settings.SIZE_WANTED
    if isinstance(value, str):
        if not re.search(SIZE, value):
            raise UsageError(f"write {wanted}")
        return settings.size(value)
    if not is_number(value) or value != int(value):
        raise wrong(value, wanted)
    if value < 1:
        raise UsageError(f"write {wanted}")
    return int(value)


SIZE = f"^ *{NONZERO}{SIZE_PATTERN} *{END}"

# -- several values ---------------------------------------------------------------------------------------------------


def _texts(value: Any, *, least: int, wanted: str, empty: bool = False) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise wrong(value, wanted) if not isinstance(value, list) else UsageError(f"write {wanted}")
    if len(value) < least or not (empty or all(value)):
        raise UsageError(f"nothing stands in it, or in a part of it; write {wanted}")
    return tuple(value)


def _list_schema(least: int, *, empty: bool = False) -> dict[str, Any]:
    item = {"type": "string"} if empty else {"type": "string", "minLength": 1}
    return {"type": "array", "items": item, "minItems": least}


def names(least: int) -> Kind:
    """Names: a list of them, or a text with commas (in a list a name may hold commas and quotes too)."""
    wanted = 'names, such as ["a", "b"] or "a,b"'
    pattern = (r'^[^"\r\n]*[^"\r\n,\s][^"\r\n]*' if least else r'^[^"\r\n]*') + END

    def read(value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            if not re.search(pattern, value):
                raise UsageError(f"write {wanted}")
            return settings.names(value)
        return _texts(value, least=least, wanted=wanted, empty=not least)

    schema = {"anyOf": [{"type": "string", "pattern": pattern}, _list_schema(least, empty=not least)]}
    return Kind(read, schema)


def _one_or_more(value: Any) -> tuple[str, ...]:
    wanted = 'a text, such as "train.py", or a list of them'
    return (_text(value),) if isinstance(value, str) else _texts(value, least=1, wanted=wanted)


def _input(value: Any) -> str | tuple[str, ...]:
    wanted = 'a text, such as "in/*.parquet", or a list of them'
    return _text(value) if isinstance(value, str) else _texts(value, least=1, wanted=wanted)


def _keep(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str) and value in ("auto", "all", "none"):
        return value
    found: tuple[str, ...] = NAMES.read(value)
    return found


def _words(value: Any) -> tuple[str, ...]:
    return _texts(value, least=1, wanted='the program and each of its words, such as ["mail", "-s", "failed", "ann"]')


def _pairs(value: Any) -> dict[str, str]:
    wanted = 'a table of columns and features, such as { kunde = "customer" }'
    if not isinstance(value, dict):
        raise wrong(value, wanted)
    if not all(isinstance(each, str) and each for each in value.values()):
        raise UsageError(f"write {wanted}")
    return dict(value)


def _rejects(value: Any) -> str:
    wanted = 'a number of rows, such as 10, or a share such as "1%"'
    if isinstance(value, str):
        if not re.search(REJECTS, value):
            raise UsageError(f"write {wanted}")
        return value
    if not is_number(value) or value != int(value) or value < 0:
        raise UsageError(f"write {wanted}")
    return str(int(value))


REJECTS = r"^(?:[0-9]+|(?:100(?:\.0+)?|[0-9]{1,2}(?:\.[0-9]+)?) ?%)" + END


def _address(pattern: str, wanted: str) -> Kind:
    """A text that begins as the pattern says."""

    def read(value: Any) -> str:
        if not re.search(pattern, _text(value)):
            raise UsageError(f"write {wanted}")
        return str(value)

    return Kind(read, {"type": "string", "pattern": pattern})


REFERENCE = r"env:.|file:(?!//)."
OTHERS = "s3|gs|gcs|az|abfs|abfss|https?|file|hdfs"

TEXT = Kind(_text, {"type": "string", "minLength": 1})
SWITCH = Kind(_switch, {"type": "boolean"})
SHARE = Kind(
    _share,
    {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": f"^(?:{settings.SHARE.pattern}){END}"},
        ]
    },
)
NUMBER = Kind(_number, {"type": "number"})
DURATION = _time(positive=False)
INTERVAL = _time(positive=True)
BYTES = Kind(_size, {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": SIZE}]})
NAMES = names(1)
ANY_NAMES = names(0)
PLACES = Kind(_one_or_more, {"anyOf": [TEXT.schema, _list_schema(1)]})
INPUT = Kind(_input, {"anyOf": [TEXT.schema, _list_schema(1)]})
KEEP = Kind(_keep, {"anyOf": [{"enum": ["auto", "all", "none"]}, *NAMES.schema["anyOf"]]})
COMMAND = Kind(_words, _list_schema(1))
PAIRS = Kind(_pairs, {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}})
STATE = _address(
    f"^(?:{REFERENCE}|sqlite:///.|postgres(?:ql)?://.)",
    "sqlite:///PATH, postgresql://user@host/database, or env:NAME that holds such a URL",
)
KEPT = _address(
    f"^(?:embedded{END}|{REFERENCE}|postgres(?:ql)?://.|rediss?://.)",
    "embedded, postgresql://user@host/database, redis://host/0, or env:NAME that holds such a URL",
)
TABLE = _address(
    f"^(?:{REFERENCE}|(?!(?:{OTHERS})://)[A-Za-z][A-Za-z0-9_.+]*://.)",
    "a database's table, such as sqlite:///shop.db#customers or env:SHOP_URL#customers",
)
WEBHOOK = _address(f"^(?:{REFERENCE}|https?://.)", "https://…, or env:NAME that holds it")
HIDDEN = _address(f"^(?:{REFERENCE})", "env:NAME or file:PATH: a secret stands in a variable or a file, not here")
COUNT = whole(settings.Bounds(0))
AT_LEAST_ONE = whole(settings.Bounds(1))
MAX_REJECTS = Kind(_rejects, {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": REJECTS}]})


def choices(known: Sequence[str]) -> Kind:
    """A list of some of the known words."""
    one = choice(known)

    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise wrong(value, f"a list of some of {', '.join(known)}")
        if not value:
            raise UsageError(f"the list is empty; it holds some of {', '.join(known)}")
        return tuple(one.read(each) for each in value)

    return Kind(read, {"type": "array", "items": one.schema, "minItems": 1})


# -- which kind a key has ---------------------------------------------------------------------------------------------


def of_annotation(annotation: Any) -> Kind | None:
    """The kind of a table's field; None for what is a table itself."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return next((each for each in marks if isinstance(each, Kind)), None) or of_annotation(inner)
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = (each for each in get_args(annotation) if each is not NoneType)
        return of_annotation(inner)
    if get_origin(annotation) is Literal:
        return choice(get_args(annotation))
    if get_origin(annotation) is tuple and get_origin(get_args(annotation)[0]) is Literal:
        return choices(get_args(get_args(annotation)[0]))
    return {str: TEXT, bool: SWITCH, float: NUMBER}.get(annotation)


READERS: dict[Any, Kind] = {
    str: TEXT,
    float: NUMBER,
    settings.names: ANY_NAMES,
    settings.size: BYTES,
    settings.seconds: DURATION,
    settings.share: SHARE,
    settings.switch: SWITCH,
    settings.runtime: choice(settings.RUNTIMES),
    settings.control: choice(settings.CONTROLS),
    settings.spare: choice(settings.SPARES),
}


def of_setting(setting: settings.Setting) -> Kind:
    """The kind of a key of [server]; one that reads texts in a way of its own takes texts. What the setting says of a
    text or of a value is said here too.
    """
    kind = _of_check(setting) or READERS.get(setting.read)
    kind = kind or Kind(lambda value: setting.read(_text(value)), TEXT.schema)

    def read(value: Any) -> Any:
        if isinstance(value, str):
            setting.judge(value)
        found = kind.read(value)
        setting.check(found)
        return found

    return Kind(read, kind.schema)


def _of_check(setting: settings.Setting) -> Kind | None:
    """The kind of what the setting's check lets pass, where that is less than all that is read so."""
    check = setting.check
    if isinstance(check, settings.Bounds):
        return whole(check)
    if isinstance(check, settings.Pattern):
        return _names_like(check) if setting.read is settings.names else _text_like(check)
    return INTERVAL if check is settings.interval else None


def _text_like(check: settings.Pattern) -> Kind:
    def read(value: Any) -> str:
        check(_text(value))
        return str(value)

    return Kind(read, {"type": "string", "minLength": 1, "pattern": f"^(?:{check.pattern}){END}"})


def _names_like(check: settings.Pattern) -> Kind:
    """As `names`, each with the pattern."""
    one = f"(?:{check.pattern})"
    pattern = f"^ *(?:{one} *(?:, *{one} *)*)?{END}"

    def read(value: Any) -> tuple[str, ...]:
        if isinstance(value, str) and not re.search(pattern, value):
            raise UsageError(f"write {check.wanted}")
        found: tuple[str, ...] = ANY_NAMES.read(value)
        check(found)
        return found

    listed = {"type": "array", "items": {"type": "string", "pattern": f"^{one}{END}"}}
    return Kind(read, {"anyOf": [{"type": "string", "pattern": pattern}, listed]})
