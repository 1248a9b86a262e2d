"""What the server and its models tell of themselves, over REST."""

from __future__ import annotations

import re
from typing import Any

from conformance.catalogue import MUST, REQUIRED, REST, SHOULD, check
from conformance.checks.errors import told_error
from conformance.target import DATATYPES, Reply, Target, expect


@check("metadata/server", MUST, f"{REST}, Server Metadata", "name, version and extensions are there, of their types")
def server(target: Target) -> None:
    reply = target.get("/v2")
    told = reply.object()
    for name in ("name", "version"):
        expect(isinstance(told.get(name), str), f"{name} is no string", reply)
    extensions = told.get("extensions")
    fits = isinstance(extensions, list) and all(isinstance(each, str) for each in extensions)
    expect(fits, "extensions is no list of strings", reply)


@check("metadata/model", MUST, f"{REST}, Model Metadata", "name, platform, inputs and outputs are there")
def model(target: Target) -> None:
    reply = target.get(target.subject.path)
    told = reply.object()
    expect(told.get("name") == target.subject.name, "name is not the model's", reply)
    expect(isinstance(told.get("platform"), str), "platform is no string", reply)
    for side in ("inputs", "outputs"):
        expect(isinstance(told.get(side), list) and told[side], f"{side} is no list of tensors", reply)


@check("metadata/tensors", MUST, f"{REST}, Model Metadata", "each tensor tells its name, a known datatype, its shape")
def tensors(target: Target) -> None:
    for subject in target.known.values() or (target.subject,):
        reply = target.get(subject.path)
        told = reply.object()
        for each in [*(told.get("inputs") or ()), *(told.get("outputs") or ())]:
            _fits(each, reply)


def _fits(each: Any, reply: Reply) -> None:
    expect(isinstance(each.get("name"), str) and each["name"], "a tensor has no name", reply)
    expect(each.get("datatype") in DATATYPES, f"{each.get('datatype')} is no datatype", reply)
    shape = each.get("shape")
    whole = isinstance(shape, list) and all(type(size) is int and size >= -1 for size in shape)
    expect(whole, f"{shape} is no shape: sizes are whole numbers, -1 the variable one", reply)


@check("metadata/known", MUST, f"{REST}, Model Metadata", "inputs are told as the model takes them (the known models)")
def known(target: Target) -> None:
    subject = target.needs("pair")
    reply = target.get(subject.path)
    told = {(each["name"], each["datatype"]) for each in reply.object().get("inputs") or ()}
    expect(told == {("a", "FP32"), ("b", "FP32")}, "the inputs are a and b, both FP32", reply)


@check("metadata/versions", MUST, f"{REST}, Model Metadata", "versions, where told, are strings that can be asked for")
def versions(target: Target) -> None:
    reply = target.get(target.subject.path)
    listed = reply.object().get("versions")
    if listed is None:
        return
    expect(isinstance(listed, list) and all(isinstance(each, str) for each in listed), "no list of strings", reply)
    for version in listed:
        asked = target.get(f"{target.subject.path}/versions/{version}")
        expect(asked.object().get("name") == target.subject.name, "another model", asked)


@check("metadata/platform", SHOULD, f"{REQUIRED}, Platforms", "a platform is told as project_format")
def platform(target: Target) -> None:
    reply = target.get(target.subject.path)
    told = str(reply.object().get("platform"))
    expect(re.fullmatch(r"[^_]+_.+", told), f"{told!r} has another form", reply)


@check("metadata/json", SHOULD, f"{REST}, Server Metadata", "metadata is sent as application/json")
def content_type(target: Target) -> None:
    for path in ("/v2", target.subject.path):
        reply = target.get(path)
        kind = reply.headers.get("content-type", "")
        expect(kind.startswith("application/json"), f"the content type is {kind!r}", reply)


@check("metadata/unknown-model", MUST, f"{REST}, Model Metadata error", "an unknown model: an error status and error")
def unknown_model(target: Target) -> None:
    told_error(target.get("/v2/models/no-such-model"))


@check("metadata/unknown-version", MUST, f"{REST}, Model Metadata error", "an unknown version: the same")
def unknown_version(target: Target) -> None:
    told_error(target.get(f"{target.subject.path}/versions/987654321"))
