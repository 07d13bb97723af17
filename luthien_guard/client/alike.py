"""litellm's chunks that are like one before but for the text in them: nearly all that a stream consists of.

What is the same in every other field has the same JSON but for that text (and but for 1 and True, which are the same to
whoever gets the object), so the guard needs no JSON to decide it: what it asks of the rest was asked of the one before.
(`wire.alike` says the same of frames.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import jiter

from luthien_guard.client.revised import change_at, copied, with_changes
from luthien_guard.wire.alike import FILLER, is_filler
from luthien_guard.wire.format import Path
from luthien_guard.wire.json_text import value_at

__all__ = ["Alike"]

_PLAIN: Final = (str, int, float, bool, type(None))
#: Longer texts are rare, and the limits count bytes.
_LONGEST: Final = 1 << 14
_NOTHING: Final[dict[str, Any]] = {}


class _Level:
    """A model on the way to the text: its class, and its fields but for the one (`key`) that leads on, to a model, to a list
    of one, or to the text."""

    __slots__ = ("extra", "key", "kind", "listed", "others", "own", "within")

    def __init__(self, model: Any, key: str) -> None:
        self.kind = type(model)
        self.key = key
        self.within = key in model.__dict__  # not among the fields that its class does not name
        self.own, self.extra = dict(model.__dict__), dict(model.__pydantic_extra__ or {})
        self.listed = isinstance(self.next(model), list)
        (self.own if self.within else self.extra)[key] = None
        #: those that may differ of the fields that the class does not name
        self.others: tuple[str, ...] = () if self.within else (key,)

    def next(self, model: Any) -> Any:
        return (model.__dict__ if self.within else model.__pydantic_extra__)[self.key]

    @property
    def is_plain(self) -> bool:
        return all(isinstance(value, _PLAIN) for value in (*self.own.values(), *self.extra.values()))


class Alike:
    """Of one stream. `learn` from a chunk, ask `text_of` every later one."""

    __slots__ = ("_fills", "_left", "_levels", "_path")

    def __init__(self) -> None:
        self._levels: list[_Level] = []
        self._fills = False  # random characters of nobody stand in it
        self._path: Path = ()
        self._left = 8  # lessons: where chunks differ in something else each time, they are in vain

    def learn(self, chunk: Any, said: bytes, path: Path) -> None:
        """`chunk`, whose JSON is `said`, has the text at `path`."""
        if not self._left or (path == self._path and self.text_of(chunk) is not None):
            return
        self._left -= 1
        self._levels, self._path = [], path
        if not _shows_all(chunk, said, path):
            return
        try:
            first, *_ = levels = list(_levels(chunk, path))
        except AttributeError:  # a dict is among them
            return
        self._fills = isinstance(first.extra.get(FILLER), str)
        if self._fills:
            first.others = (*first.others, FILLER)
        if all(level.is_plain for level in levels):
            self._levels = levels

    def text_of(self, chunk: Any) -> str | None:
        """The text of a chunk that is like the one learned; None for any other, "" where its JSON is to be looked at."""
        each: Any = chunk
        for level in self._levels:
            if type(each) is not level.kind:
                return None
            own, extra = each.__dict__, each.__pydantic_extra__ or _NOTHING
            # Where they may differ the known one takes over what this one has.
            if level.within:
                level.own[level.key] = own.get(level.key)
            for name in level.others:
                level.extra[name] = extra.get(name)
            if own != level.own or extra != level.extra:
                return None
            each = (own if level.within else extra)[level.key]
            if level.listed:
                if type(each) is not list or len(each) != 1:
                    return None
                each = each[0]
        if type(each) is not str or each is chunk:
            return None
        if self._fills and not is_filler(self._levels[0].extra[FILLER]):
            return None
        # What is not printable may be the end of a line to some reader, or nothing that UTF-8 can say.
        return each if each.isprintable() and len(each) <= _LONGEST else ""

    def with_text(self, chunk: Any, text: str) -> Any:
        """A copy of a chunk that is like the one learned, with another text."""
        made: Any = text
        for model, level in reversed([*self._models(chunk)]):
            copy, own, extra = copied(model)
            (own if level.within else extra)[level.key] = [made] if level.listed else made
            made = copy
        return made

    def _models(self, chunk: Any) -> Iterator[tuple[Any, _Level]]:
        for level in self._levels:
            yield chunk, level
            chunk = level.next(chunk)
            chunk = chunk[0] if level.listed else chunk


def _levels(chunk: Any, path: Path) -> Iterator[_Level]:
    """The models on the path."""
    for key in path:
        if isinstance(key, str):
            yield (level := _Level(chunk, key))
            chunk = level.next(chunk)
        else:
            chunk = chunk[key]


def _shows_all(chunk: Any, said: bytes, path: Path) -> bool:
    """Whether its JSON says all that a copy would hold."""
    try:
        parsed = jiter.from_json(said)
    except ValueError:  # a lone surrogate
        return False
    return with_changes(chunk, parsed, change_at(path, value_at(parsed, path))) is not None
