"""ModelText: what LightGBM writes of a booster, which keeps the bits of every threshold and leaf (17 digits)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Block = Mapping[str, str]  # the lines `name=value`


@dataclass(frozen=True)
class ModelText:
    """head: the lines before the trees. trees: a block each. parameters: of the training."""

    head: Block
    trees: tuple[Block, ...]
    parameters: Block

    @classmethod
    def of(cls, booster: Any) -> ModelText:
        """Of all the trees that answer."""
        text = str(booster.model_to_string(num_iteration=booster.best_iteration))
        body, _, rest = text.partition("\nend of trees")
        head, *trees = body.split("\n\nTree=")
        told = rest.partition("\nparameters:")[2].partition("\nend of parameters")[0]
        settings = (line.strip("[]").partition(": ") for line in told.splitlines() if line.startswith("["))
        return cls(_block(head), tuple(_block(each) for each in trees), {name: value for name, _, value in settings})

    @property
    def objective(self) -> str:
        """With its parameters (`binary sigmoid:1`); empty where the user wrote it."""
        return self.head.get("objective", "")

    @property
    def classes(self) -> int:
        """How many raw scores a row has."""
        return int(self.head["num_tree_per_iteration"])

    @property
    def averaged(self) -> bool:
        """The raw scores are divided by the number of rounds: a random forest."""
        return "average_output" in self.head

    def categorical(self, known: Sequence[Sequence[Any]]) -> tuple[int, ...]:
        """The places of the columns that had these categories in the training's frame; () where the text leaves that
        open. (Columns that the user called categorical, though they were numbers, are listed beside them; ordered
        ones are not.)
        """
        listed = self.parameters.get("categorical_feature", "")
        places = tuple(sorted(int(place) for place in listed.split(",") if place.isdigit()))
        if len(places) == len(known):
            return places
        infos = self.head["feature_infos"].split()
        first = _assigned(infos, known)
        last = tuple(len(infos) - 1 - place for place in reversed(_assigned(infos[::-1], known[::-1])))
        return first if first == last else ()


def _block(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in pairs}


def _assigned(infos: Sequence[str], known: Sequence[Sequence[Any]]) -> tuple[int, ...]:
    """The first columns, in order, whose values may be codes of these categories; () where there are too few."""
    places: list[int] = []
    for place, info in enumerate(infos):
        if len(places) < len(known) and _may_be(info, len(known[len(places)])):
            places.append(place)
    return tuple(places) if len(places) == len(known) else ()


def _may_be(info: str, count: int) -> bool:
    """Whether the values that were seen (`[least:most]`, `a:b:c`, `none`) are codes below `count`."""
    if info == "none":
        return True
    values = [float(value) for value in info.strip("[]").split(":")]
    return all(value.is_integer() and -1 <= value < count for value in values)
