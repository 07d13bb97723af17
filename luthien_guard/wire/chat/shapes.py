"""Of which types the members of a chunk are.

There are clients that check each chunk, skip one that is not as it should be, and read on: what others read in it would
stand apart for these. So no member that they check is of another type than theirs.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["CHECKED", "are_annotations", "are_logprobs", "fits"]

_NUMBER: Final[frozenset[type]] = frozenset({int, float, type(None)})
_STRING: Final[frozenset[type]] = frozenset({str, type(None)})
_OBJECT: Final[frozenset[type]] = frozenset({dict, type(None)})
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS: Final = {
    "prompt_tokens_details": ("cached_tokens", "cache_write_tokens"),
    "completion_tokens_details": (
        "reasoning_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
    ),
}
_TYPES: Final = {"id": _STRING, "model": _STRING, "created": _NUMBER}
#: Members of the chunk that `fits` knows.
CHECKED: Final = frozenset({*_TYPES, "usage", "error"})


def fits(key: str, value: Any) -> bool:
    if key == "error":
        return bool(value)  # an empty one is none, but there are clients that read nothing else of its chunk
    return _is_usage(value) if key == "usage" else type(value) in _TYPES[key]


def are_logprobs(value: Any) -> bool:
    return type(value) is dict and all(
        value.get(key) is None or _are(value[key], {"token": _STRING, "logprob": _NUMBER})
        for key in ("content", "refusal")
    )


def are_annotations(value: Any) -> bool:
    if not _are(value, {"type": _STRING, "url_citation": _OBJECT}):
        return False
    inner = [each.get("url_citation") for each in value]
    return _are(
        inner, {"url": _STRING, "title": _STRING, "start_index": _NUMBER, "end_index": _NUMBER}
    ) and all(each["type"] == "url_citation" for each in value)


def _are(value: Any, members: dict[str, frozenset[type]]) -> bool:
    return type(value) is list and all(
        type(each) is dict
        and all(each.get(key) is not None and type(each[key]) in types for key, types in members.items())
        for each in value
    )


def _is_usage(value: Any) -> bool:
    if type(value) is not dict:
        return value is None
    return _has_counts(value, _COUNTS) and all(
        value.get(key) is None or (type(value[key]) is dict and _has_counts(value[key], counts))
        for key, counts in _DETAILS.items()
    )


def _has_counts(value: dict[str, Any], keys: tuple[str, ...]) -> bool:
    return all(type(value.get(key)) in _NUMBER for key in keys)
