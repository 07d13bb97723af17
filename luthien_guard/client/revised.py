"""litellm's objects with other words in them. Copied where they can be: making one from its JSON takes litellm's models
several times as long, and loses what the JSON does not say (fields that are null, the class of a part)."""

from __future__ import annotations

from typing import Any, Final

import jiter

__all__ = ["revised", "with_notes"]

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
        return _revised(like, jiter.from_json(said), data)
    except (ValueError, _Differs):  # ValueError: a lone surrogate
        return None


def _revised(like: Any, said: Any, data: Any) -> Any:
    if type(like) is type(data) and isinstance(data, (str, int, float)):
        return data
    if isinstance(data, dict) and isinstance(said, dict) and said.keys() == data.keys():
        return _copied(like, said, data)
    if isinstance(like, list) and isinstance(data, list) and len(like) == len(said) == len(data):
        parts = zip(like, said, data, strict=True)
        return [part if was == each else _revised(part, was, each) for part, was, each in parts]
    raise _Differs


def _copied(like: Any, said: dict[str, Any], data: dict[str, Any]) -> Any:
    """A dict or a model with other values."""
    if isinstance(like, dict):
        return _with_fields(like.copy(), {}, said, data)
    if not _is_model(like):
        raise _Differs
    made = object.__new__(type(like))
    extra, private = like.__pydantic_extra__, like.__pydantic_private__
    # store by store: pydantic's own copy takes twice as long
    _set(made, "__dict__", like.__dict__.copy())
    _set(made, "__pydantic_extra__", None if extra is None else extra.copy())
    _set(made, "__pydantic_fields_set__", like.__pydantic_fields_set__.copy())
    _set(made, "__pydantic_private__", None if private is None else _quiet(private))
    _with_fields(made.__dict__, made.__pydantic_extra__ or {}, said, data)
    return made


def _is_model(like: Any) -> bool:
    """`isinstance` asks pydantic's metaclass, which thinks about it."""
    return hasattr(like, "__pydantic_extra__")


def _with_fields(
    own: dict[str, Any], extra: dict[str, Any], said: dict[str, Any], data: dict[str, Any]
) -> dict[str, Any]:
    """Both with what `data` says; the first one again."""
    for name, was in said.items():
        if was != data[name]:
            store = own if name in own else extra
            store[name] = _revised(store.get(name), was, data[name])
    for name in own.keys() - said.keys():
        if own[name] is not None and name not in _NOTES:
            raise _Differs
    return own


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
