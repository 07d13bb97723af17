"""litellm's objects with other words in them. Copied where they can be: making one from its JSON takes litellm's models
several times as long, and loses what the JSON does not say (fields that are null, the class of a part)."""

from __future__ import annotations

from typing import Any, Final

import jiter

from luthien_guard.wire.format import Path

__all__ = ["change_at", "copied", "differences", "revised", "with_changes", "with_notes"]

#: What litellm keeps beside the JSON: costs, ids, headers.
_NOTES: Final = ("_hidden_params", "_response_headers", "_response_ms")
_set: Final = object.__setattr__


class _Differs(Exception):
    """In more than words."""


def revised(like: Any, said: bytes, data: dict[str, Any]) -> Any:
    """A copy of litellm's object `like`, whose JSON is `said`, that says `data`. What both say is the very part of `like`.
    None where more than strings and numbers differ, and where what is replaced holds anything that its JSON does not show."""
    if not _is_model(like):
        return None
    try:
        parsed = jiter.from_json(said)
    except ValueError:  # a lone surrogate
        return None
    changes = differences(parsed, data)
    return None if changes is None else with_changes(like, parsed, changes)


def differences(said: Any, data: Any) -> Any:
    """What `data` says instead of `said`: a string or a number itself, anything else by the keys and indices that lead to
    it. None where more differs."""
    try:
        return _changes(said, data)
    except _Differs:
        return None


def change_at(path: Path, value: Any) -> Any:
    """The difference of one value, at this path, as `differences` tells it."""
    for key in reversed(path):
        value = {key: value}
    return value


def with_changes(like: Any, said: Any, changes: Any) -> Any:
    """A copy of `like`, which says `said`, with these differences; None where it is not possible."""
    try:
        return _with(like, said, changes)
    except _Differs:
        return None


def _changes(said: Any, data: Any) -> Any:
    if isinstance(data, dict) and isinstance(said, dict) and said.keys() == data.keys():
        return {name: _changes(was, data[name]) for name, was in said.items() if was != data[name]}
    if isinstance(data, list) and isinstance(said, list) and len(said) == len(data):
        pairs = enumerate(zip(said, data, strict=True))
        return {at: _changes(was, each) for at, (was, each) in pairs if was != each}
    if isinstance(data, (str, int, float)):
        return data
    raise _Differs


def _with(like: Any, said: Any, changes: Any) -> Any:
    if type(changes) is not dict:
        if type(like) is type(changes):
            return changes
        raise _Differs
    if isinstance(said, list):
        return _list_with(like, said, changes)
    if isinstance(like, dict):
        return _fields_with(like.copy(), {}, said, changes)
    if not _is_model(like):
        raise _Differs
    made, own, extra = copied(like)
    _fields_with(own, extra, said, changes)
    return made


def copied(like: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A copy of one of litellm's models, with its two stores: of the fields that its class names, and of all others. (Store
    by store: pydantic's own copy takes twice as long.)"""
    made = object.__new__(type(like))
    extra, private = like.__pydantic_extra__, like.__pydantic_private__
    (own := made.__dict__).update(like.__dict__)
    _set(made, "__pydantic_extra__", extra := None if extra is None else extra.copy())
    _set(made, "__pydantic_fields_set__", like.__pydantic_fields_set__.copy())
    _set(made, "__pydantic_private__", None if private is None else _quiet(private))
    return made, own, extra or {}


def _list_with(like: Any, said: list[Any], changes: dict[int, Any]) -> list[Any]:
    if not isinstance(like, list) or len(like) != len(said):
        raise _Differs
    made = like.copy()
    for at, change in changes.items():
        made[at] = _with(like[at], said[at], change)
    return made


def _fields_with(
    own: dict[str, Any], extra: dict[str, Any], said: dict[str, Any], changes: dict[str, Any]
) -> dict[str, Any]:
    """Both with these changes; the first one again."""
    for name, change in changes.items():
        store = own if name in own else extra
        store[name] = _with(store.get(name), said[name], change)
    for name, value in own.items():
        if value is not None and name not in said and name not in _NOTES:
            raise _Differs
    return own


def _is_model(like: Any) -> bool:
    """`isinstance` asks pydantic's metaclass, which thinks about it."""
    return hasattr(like, "__pydantic_extra__")


def _quiet(private: dict[str, Any]) -> dict[str, Any]:
    made = private.copy()
    if "_hidden_params" in made:
        made["_hidden_params"] = _quoting_nothing(made["_hidden_params"])
    return made


def with_notes(made: Any, original: Any) -> Any:
    """`made` with what litellm noted on the object that came (None if there is none)."""
    if original is not None:
        made._hidden_params = _quoting_nothing(_note(original, "_hidden_params"))
        for name in _NOTES[1:]:
            if (value := _note(original, name)) is not None:
                setattr(made, name, value)
    return made


def _quoting_nothing(notes: Any) -> dict[str, Any]:
    """A copy without the one note that quotes the answer."""
    quiet: dict[str, Any] = dict(notes or {})
    quiet.pop("original_response", None)
    return quiet


def _note(of: Any, name: str) -> Any:
    """Looked for where pydantic keeps it: to ask its objects for what they do not have takes longer than all else here. Some
    providers of callers answer with a dict."""
    own: dict[str, Any] = getattr(of, "__dict__", {})
    if name in own:
        return own[name]
    return (getattr(of, "__pydantic_private__", None) or {}).get(name)
