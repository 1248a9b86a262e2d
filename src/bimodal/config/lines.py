"""Lines: where each key of a TOML text stands. tomllib gives values alone; an error without its line is half of one."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping

Key = tuple[str | int, ...]  # ("jobs", "nightly", "notify", 0, "url"); places in lists count from 0

BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
SPACE = re.compile(r"[ \t]*")
NAME = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
VALUE = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:""|")?'
    r"|'''.*?'''(?:''|')?"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[^\s,\]}#]*"  # a date and a time with a space between them
    r"|[^\s,\]}#]+",
    re.DOTALL,
)


def lines(text: str) -> Mapping[Key, int]:
    """The line (from 1) of every table, key and list element of a text that tomllib accepts; of a table that is named
    several times, the first.
    """
    return _Scanner(text).found


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Key, int] = {}
        self._ends = [each.start() for each in re.finditer("\n", text)]
        self._last: dict[Key, int] = {}  # of each array of tables, its last element
        self._document()

    def _document(self) -> None:
        table: Key = ()
        self._skip(BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                table = self._header()
            else:
                self._pair(table)
            self._skip(BLANK)

    def _header(self) -> Key:
        """[a.b] or [[a.b]]: the key of the table that begins."""
        line = self._line()
        many = self.text.startswith("[[", self.at)
        self.at += 2 if many else 1
        *above, name = self._name()
        self.at += 2 if many else 1
        table: Key = ()
        for each in above:
            table = self._inside((*table, each), line)
        table = (*table, name)
        self.found.setdefault(table, line)
        if many:
            self._last[table] = self._last.get(table, -1) + 1
            table = (*table, self._last[table])
            self.found[table] = line
        return table

    def _inside(self, table: Key, line: int) -> Key:
        """A table named on the way to another: of an array of tables, the last one."""
        self.found.setdefault(table, line)
        return (*table, self._last[table]) if table in self._last else table

    def _pair(self, table: Key) -> None:
        line = self._line()
        for each in self._name():
            table = (*table, each)
            self.found.setdefault(table, line)
        self.at += 1  # =
        self._skip(SPACE)
        self._value(table)

    def _name(self) -> list[str]:
        """A key, dotted or not. What follows it is where the scanner stands then."""
        parts = []
        while True:
            self._skip(SPACE)
            found = NAME.match(self.text, self.at)
            assert found is not None, "tomllib has read this"
            self.at = found.end()
            parts.append(tomllib.loads(f"name = {found[0]}")["name"] if found[0][0] in "\"'" else found[0])
            self._skip(SPACE)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def _value(self, key: Key) -> None:
        if self.text.startswith("[", self.at):
            self._list(key)
        elif self.text.startswith("{", self.at):
            self._inline(key)
        else:
            self._skip(VALUE)

    def _list(self, key: Key) -> None:
        place = 0
        self.at += 1  # [
        while self._more("]"):
            self.found[(*key, place)] = self._line()
            self._value((*key, place))
            place += 1

    def _inline(self, key: Key) -> None:
        self.at += 1  # {
        while self._more("}"):
            self._pair(key)

    def _more(self, end: str) -> bool:
        """Go to the next part of a list or an inline table; False past its end."""
        self._skip(BLANK)
        if self.text[self.at] == ",":
            self.at += 1
            self._skip(BLANK)
        if self.text[self.at] != end:
            return True
        self.at += 1
        return False

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        assert found is not None, "tomllib has read this"
        self.at = found.end()

    def _line(self) -> int:
        return bisect_left(self._ends, self.at) + 1
