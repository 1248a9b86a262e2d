"""Point the suite at a server: python -m conformance --url http://HOST:PORT [--grpc HOST:PORT] [--model NAME]

--list shows every check with its level and the sentence it comes from. The exit code is 0 when every `must` of the core
and of each announced extension passed, 1 when one failed, 2 for a wrong command, a server that is not
there, or a model that does not answer inputs that were made up.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import conformance.checks  # noqa: F401 - fills the catalogue
from conformance.catalogue import Fault
from conformance.report import as_json, chosen, conforms, run, show
from conformance.target import Target


def main() -> int:
    options = argparse.ArgumentParser("conformance", description=__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--url", help="of the HTTP port: http://127.0.0.1:8000")
    options.add_argument("--grpc", help="host:port of gRPC, where the server has it")
    options.add_argument("--model", help="the model of the general checks; without it, the known model `pair`")
    options.add_argument("--inputs", type=Path, help="what it takes, as JSON: for each input a list, one value a row")
    options.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="sent with every request")
    options.add_argument("--only", default="", help="sections or ids, with commas between them; core: no extensions")
    options.add_argument("--timeout", type=float, default=30, help="seconds for one answer")
    options.add_argument("--json", action="store_true", help="the result as JSON")
    options.add_argument("--list", action="store_true", help="show the checks and stop")
    asked = options.parse_args()
    checks = chosen(filter(None, asked.only.split(",")))
    if asked.list:
        for each in checks:
            print(f"{each.id:32} {each.level:8} {each.sentence} [{each.source}]")
        return 0
    if not asked.url:
        options.error("--url is needed")
    headers = dict(each.split(":", 1) for each in asked.header)
    inputs = json.loads(asked.inputs.read_text()) if asked.inputs else None
    target = Target(asked.url, asked.grpc, asked.model, asked.timeout, headers, inputs)
    if not there(target):
        print(f"{asked.url} tells no server metadata at /v2", file=sys.stderr)
        return 2
    refusal = target.refusal()
    if refusal is not None:
        print(f"{asked.model} does not answer inputs that were made up: {refusal}", file=sys.stderr)
        print("name some that it takes: --inputs FILE", file=sys.stderr)
        target.close()
        return 2
    try:
        outcomes = run(target, checks)
        if asked.json:
            print(as_json(target, outcomes))
        else:
            show(target, outcomes)
    finally:
        target.close()
    return 0 if conforms(outcomes) else 1


def there(target: Target) -> bool:
    """Whether the server tells its metadata."""
    try:
        return bool(target.metadata)
    except Fault:
        return False


if __name__ == "__main__":
    sys.exit(main())
