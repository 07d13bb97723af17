"""How `ctx.judge` asks another model when the application gave no judge of its own: through litellm, which is loaded
here for everybody."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from typing import Any, Final

from anyio import to_thread

from luthien_guard.forks import Lock

__all__ = ["ask_with_litellm", "function", "litellm", "load"]

_CHAT: Final = ("litellm.chat_completions.dispatch", "litellm.main")
#: Where litellm keeps its own functions, whatever an application assigned to `litellm`; newer versions' places first.
_HOMES: Final[Mapping[str, tuple[str, ...]]] = {
    "acompletion": _CHAT,
    "completion": _CHAT,
    "aresponses": ("litellm.responses.dispatch", "litellm.responses.main"),
    "anthropic_messages": (
        "litellm.messages.dispatch",
        "litellm.llms.anthropic.experimental_pass_through.messages.handler",
    ),
}


@cache
def litellm() -> Any:
    """The module, imported when it is first needed and never at `import luthien_guard`. Without the variables it asks the
    network for its price list at import, and for a list of headers at the first call that has one, and waits for the
    time-out."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    import litellm as module

    return module


async def load() -> Any:
    """The same without standing still: the import takes seconds, in a thread. Raises ImportError."""
    if litellm.cache_info().currsize:
        return litellm()
    return await to_thread.run_sync(litellm, abandon_on_cancel=True)


def function(name: str) -> Any:
    """What stands in litellm under this name; litellm's own where an application has put a guarded one there."""
    found = getattr(litellm(), name)
    return _own(name) if _is_guarded(found) else found


def _is_guarded(found: Any) -> bool:
    while isinstance(found, partial):
        found = found.func
    return str(getattr(found, "__module__", "")).startswith("luthien_guard.")


def _own(name: str) -> Any:
    for home in _HOMES[name]:
        try:
            return getattr(import_module(home), name)
        except (ImportError, AttributeError):
            continue
    raise RuntimeError(f"litellm.{name} was replaced, and litellm's own was not found: do not replace it")


async def ask_with_litellm(messages: list[dict[str, Any]], *, model: str, **params: Any) -> str:
    """The text of the model's answer. What the model does not take of `params` is left out (reasoning models know no
    `temperature`), unless `drop_params=False` says otherwise. Raises litellm's own exceptions, and ValueError where there
    is no text: a model that thinks may spend all of `max_tokens` on that."""
    api = await load()
    with _quiet(api):
        response: Any = await function("acompletion")(
            model=model, messages=messages, **{"drop_params": True, **params}
        )
    choice = response.choices[0]
    text = choice.message.content
    if not isinstance(text, str) or not text:
        raise ValueError(f"the judge gave no text (finish reason: {choice.finish_reason})")
    return text


#: Neither True nor False: what the application sets meanwhile can be told from it.
_QUIET: Final = "while a judge is asked"
_lock = Lock()
_before: list[Any] = []  # for each judge that is asked, how loud litellm was before the first


@contextmanager
def _quiet(api: Any) -> Generator[None]:
    """Where a call fails, litellm prints a request for feedback to standard output, which may be somebody's protocol.
    That is one switch for the process: it is put back when the last judge has answered, unless somebody else has set it
    by then."""
    with _lock:
        _before.append(_before[0] if _before else api.suppress_debug_info)
        if api.suppress_debug_info is False:
            api.suppress_debug_info = _QUIET
    try:
        yield
    finally:
        with _lock:
            before = _before.pop()
            if not _before and api.suppress_debug_info is _QUIET:
                api.suppress_debug_info = before
