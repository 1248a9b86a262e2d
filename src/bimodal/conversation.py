"""Conversations: the verdict on a list of messages, be it a column of a model or a request in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from bimodal.errors import InputError

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def conversation(told: Any, place: str) -> list[dict[str, Any]]:
    """The messages in the one form that models get: role and content, which is text.

    place: where they stand. Raises InputError, whose column is the place of what is wrong (`messages.0.role`).
    """
    if not isinstance(told, list) or not told:
        raise InputError("a list of messages is needed, with one at least", column=place)
    return [_message(each, f"{place}.{number}") for number, each in enumerate(told)]


def _message(told: Any, place: str) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise InputError("a message is an object, with role and content", column=place)
    role = told.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InputError(f"the role is one of {', '.join(ROLES)}", column=f"{place}.role")
    if told.get("tool_calls"):
        raise InputError("this server calls no tools", column=f"{place}.tool_calls")
    return {"role": ROLES[role], "content": _content(told.get("content"), f"{place}.content")}


def _content(told: Any, place: str) -> str:
    """Text, or the texts of parts."""
    if isinstance(told, str):
        return told
    if not isinstance(told, list) or not told:
        raise InputError("text is needed, or a list of parts", column=place)
    texts = []
    for number, part in enumerate(told):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InputError(
                'a part is {"type": "text", "text": "…"}; no other kind is taken', column=f"{place}.{number}"
            )
        texts.append(part["text"])
    return "".join(texts)
