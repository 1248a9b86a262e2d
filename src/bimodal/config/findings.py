"""Findings: what is wrong with a file, all of it, each with its line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bimodal.config.lines import Key
from bimodal.errors import ConfigError


def dotted(key: Key) -> str:
    """jobs.nightly.notify[1].url; the places in a list are told from 1."""
    text = ""
    for each in key:
        text += f"[{each + 1}]" if isinstance(each, int) else f".{_spelled(each)}"
    return text.removeprefix(".")


def _spelled(name: str) -> str:
    plain = name and all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in name)
    return name if plain else f'"{name}"'


class Findings:
    """Collects what is wrong. A key that has a fault already is not told again, and a check that looks at such a key
    says nothing: what it would find may come of that fault.
    """

    def __init__(self, name: str, lines: Mapping[Key, int]) -> None:
        self.name = name
        self._lines = lines
        self._found: list[tuple[int, str]] = []
        self._faulty: set[Key] = set()

    def add(self, key: Key, message: str, *involved: Key) -> None:
        """key: where it stands. involved: other keys that the check looked at."""
        if any(self.is_faulty(each) for each in (key, *involved)):
            return
        self._faulty.add(key)
        self._found.append((self.line(key), f"{dotted(key)}: {message}"))

    def also(self, key: Key, message: str) -> None:
        """One more of a key that may have a fault already, where neither comes of the other."""
        self._faulty.add(key)
        self._found.append((self.line(key), f"{dotted(key)}: {message}"))

    def is_faulty(self, key: Key) -> bool:
        """Whether a fault was found in it, or in a table around it."""
        return any(key[:length] in self._faulty for length in range(1, len(key) + 1))

    def line(self, key: Key) -> int:
        """Where the key stands; of one that is missing, its table."""
        while key and key not in self._lines:
            key = key[:-1]
        return self._lines.get(key, 1)

    def told(self) -> Iterable[str]:
        for line, message in sorted(self._found, key=lambda each: each[0]):
            yield f"{self.name}:{line}: {message}"

    def close(self) -> None:
        """Raise ConfigError where anything was found."""
        if self._found:
            raise ConfigError("\n".join(self.told()))
