"""Running the checks, and telling what came of them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from conformance.catalogue import CHECKS, LEVELS, MUST, Absent, Check, Fault, Null
from conformance.models.twins import TWINS
from conformance.target import Target

CORE = ("health", "metadata", "infer", "errors", "datatypes", "grpc", "grpc-errors", "clients", "binary")
EXTENSIONS = ("classification", "parameters", "statistics", "config", "repository", "generate", "stream", "others")
SECTIONS = (*CORE, *EXTENSIONS)
PASSED, FAILED, NOT_ANNOUNCED, NO_MODEL, NO_GRPC = "passed", "failed", "not announced", "not applicable", "no gRPC"


@dataclass(frozen=True)
class Outcome:
    """What came of one check. told: why it failed, or does not apply."""

    check: Check
    result: str
    told: str = ""
    request: str = ""
    answer: str = ""


def chosen(only: Iterable[str]) -> list[Check]:
    """The checks of the sections that are named (core: those that need no extension), or all of them."""
    names = set(only)
    sections = {each.section for each in CHECKS.values()}
    unknown = names - sections - {"core"} - CHECKS.keys()
    if unknown:
        known = ", ".join(sorted({"core", *sections}))
        raise SystemExit(f"no section or check is called {', '.join(sorted(unknown))}; known are {known}")
    found = [each for each in CHECKS.values() if not names or names & _names(each)]
    return sorted(found, key=lambda each: SECTIONS.index(each.section))


def _names(check: Check) -> set[str]:
    """What a check can be chosen by."""
    core = check.extension is None and check.section != "stream"
    return {check.section, check.id, *(["core"] if core else [])}


def run(target: Target, checks: Iterable[Check]) -> list[Outcome]:
    return [judge(target, each) for each in checks]


def judge(target: Target, check: Check) -> Outcome:
    """One check against the server."""
    if check.grpc and target.grpc_address is None:
        return Outcome(check, NO_GRPC)
    if check.extension is not None and not target.announced(check.extension):
        return Outcome(check, NOT_ANNOUNCED, f"{check.extension} is not announced")
    try:
        check.run(target)
    except Absent as absent:
        return Outcome(check, NO_MODEL, str(absent))
    except Null as null:  # a known model has none to tell
        return Outcome(check, FAILED if target.subject.name in TWINS else NO_MODEL, str(null))
    except Fault as fault:
        return Outcome(check, FAILED, fault.told, fault.request, fault.answer)
    except Exception as error:  # whatever a client library raises, or an answer of a form nobody thought of
        return Outcome(check, FAILED, f"{type(error).__name__}: {error}"[:400])
    return Outcome(check, PASSED)


def conforms(outcomes: Iterable[Outcome]) -> bool:
    """Whether every must passed, of the core and of each announced extension."""
    return not any(each.result == FAILED and each.check.level == MUST for each in outcomes)


def table(outcomes: list[Outcome]) -> list[list[str]]:
    """A line a section: passed of tried, for each level; what does not apply."""
    lines = []
    there = {each.check.section for each in outcomes}
    for section in [*(each for each in SECTIONS if each in there), ""]:
        own = [each for each in outcomes if section in ("", each.check.section)]
        cells = [section or "total"]
        for level in LEVELS:
            tried = [each for each in own if each.check.level == level and each.result in (PASSED, FAILED)]
            cells.append(f"{sum(each.result == PASSED for each in tried)}/{len(tried)}" if tried else "-")
        left = [each.result for each in own if each.result not in (PASSED, FAILED)]
        cells.append(", ".join(f"{left.count(each)} {each}" for each in dict.fromkeys(left)))
        lines.append(cells)
    return lines


def as_json(target: Target, outcomes: list[Outcome]) -> str:
    told = {
        "server": target.metadata,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "conforms": conforms(outcomes),
        "sections": {line[0]: dict(zip((*LEVELS, "left_out"), line[1:], strict=True)) for line in table(outcomes)},
        "checks": [
            {
                "id": each.check.id,
                "level": each.check.level,
                "source": each.check.source,
                "sentence": each.check.sentence,
                "result": each.result,
                **({"told": each.told} if each.told else {}),
                **({"request": each.request, "answer": each.answer} if each.result == FAILED else {}),
            }
            for each in outcomes
        ],
    }
    return json.dumps(told, indent=1)


def show(target: Target, outcomes: list[Outcome]) -> None:
    """The table and the failures, as Markdown."""
    told = target.metadata
    print(f"{told.get('name')} {told.get('version')}: extensions {', '.join(sorted(target.extensions)) or 'none'}\n")
    print("| section | must | should | optional | left out |\n| --- | ---: | ---: | ---: | --- |")
    for line in table(outcomes):
        print(f"| {' | '.join(line)} |")
    for each in outcomes:
        if each.result == FAILED:
            print(f"\n{each.check.level} {each.check.id}: {each.check.sentence} ({each.check.source})\n  {each.told}")
            for name, value in (("asked", each.request), ("answer", each.answer)):
                if value:
                    print(f"  {name}: {value}")
    passed = conforms(outcomes)
    print(f"\n{'conforms: every must passed' if passed else 'does not conform: a must failed'}")
    sys.stdout.flush()
