"""What would turn a policy off without a word is an error at start."""

from __future__ import annotations

import functools
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field

from luthien_guard import Guard
from luthien_guard.engine.plan import Plan
from luthien_guard.errors import ConfigError
from luthien_guard.policy import Policy, hookimpl


class Rule(BaseModel):
    word: str
    action: str = "allow"


class Words(Policy):
    class Config(BaseModel):
        forbidden: tuple[str, ...] = ()
        rules: list[Rule] = []
        named: dict[str, Rule] = {}
        first: Rule | None = None

    def __init__(self, forbidden: tuple[str, ...] = (), **further: Any) -> None:
        self.forbidden = forbidden

    @hookimpl
    def on_content_completed(self, content: Any) -> Any: ...


class Open(Words):
    class Config(Words.Config):
        model_config = ConfigDict(extra="ignore")


class Aliased(Words):
    class Config(BaseModel):
        forbidden: tuple[str, ...] = Field(default=(), alias="not-allowed")
        one: str = Field(default="", validation_alias=AliasChoices("uno", AliasPath("numbers", 0)))
        rule: Rule | None = Field(default=None, validation_alias=AliasPath("deep", "rule"))


class Named(Aliased):
    class Config(Aliased.Config):
        model_config = ConfigDict(populate_by_name=True)


RULE = {"word": "x", "acton": "block"}


def problem(*items: Any, **arguments: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Guard(items, allow_paths=True, **arguments)
    return str(caught.value)


def configured(policy: type[Policy], config: Any) -> dict[str, Any]:
    return {"use": f"{__name__}:{policy.__name__}", "config": config}


@pytest.mark.parametrize(
    ("policy", "config", "says"),
    [
        (Words, {"forbiden": ["secret"]}, "unknown key 'forbiden' (did you mean 'forbidden'?)"),
        (Words, {"rules": [{"word": "x"}, RULE]}, "unknown key 'acton' (did you mean 'action'?)"),
        (Words, {"named": {"a": RULE}}, "unknown key 'acton'"),
        (Words, {"first": RULE}, "unknown key 'acton'"),
        (Aliased, {"forbidden": ["secret"]}, "unknown key 'forbidden'"),
        (Aliased, {"one": "2"}, "unknown key 'one'"),
    ],
)
def test_a_key_that_the_policys_model_does_not_know(
    policy: type[Policy], config: Mapping[str, Any], says: str
) -> None:
    assert says in problem(configured(policy, config))


@dataclass
class Unchecked:
    forbidden: tuple[str, ...] = ()


class Loose(Words):
    Config = Unchecked  # type: ignore[assignment]


class Made(Words):
    Config = Words.Config()  # type: ignore[assignment]


@pytest.mark.parametrize("policy", [Loose, Made])
def test_a_config_that_checks_nothing_is_told(policy: type[Policy]) -> None:
    said = problem(configured(policy, {"forbidden": ["a"]}))
    assert f"`Config` of {policy.__name__} is " in said
    assert "a pydantic model is expected" in said


class Keyed(Words):
    class Config(BaseModel):
        api_key: str
        model: str
        rules: list[Rule] = []


def test_what_the_policys_model_refuses_is_told_without_what_was_given() -> None:
    """pydantic's own words quote all of the configuration: a key among it would stand in the log."""
    given = {"api_key": "sk-canary", "rules": [{"word": ["sk-canary"]}]}
    with pytest.raises(ConfigError) as caught:
        Guard([configured(Keyed, given)], allow_paths=True)
    said = "model: Field required; rules.0.word: Input should be a valid string"
    assert str(caught.value) == f"configuration of policy '{__name__}:Keyed': {said}"
    assert caught.value.place[-2:] == ("config", "model")
    assert "sk-canary" not in "".join(traceback.format_exception(caught.value))


def test_a_key_that_the_policy_takes_no_argument_for() -> None:
    """Named like a pydantic model's, and with what was probably meant."""
    said = problem({"use": "default-limits", "config": {"max_token": 5}})
    assert (
        said
        == "configuration of policy 'default-limits': unknown key 'max_token' (did you mean 'max_tokens'?)"
    )
    assert "unknown key 'n'" in problem({"use": "noop", "config": {"n": 1}})


@pytest.mark.parametrize(
    ("policy", "config"),
    [
        (Words, {"forbidden": ["a"], "rules": [{"word": "x", "action": "block"}], "first": None}),
        (Aliased, {"not-allowed": ["a"], "uno": "1"}),
        (Aliased, {"numbers": ["1"]}),
        (Aliased, {"deep": {"rule": {"word": "x"}}}),
        (Named, {"forbidden": ["a"], "one": "1"}),
        (Open, {"forbiden": ["its author wants this"]}),
    ],
)
def test_what_the_policys_model_knows(policy: type[Policy], config: Mapping[str, Any]) -> None:
    assert Guard([configured(policy, config)], allow_paths=True).policies == (policy.__name__,)


@pytest.mark.parametrize("config", [[], False, "", 0, "x"])
def test_only_none_is_no_configuration(config: Any) -> None:
    kind = type(config).__name__
    assert problem({"use": "default-limits", "config": config}) == (
        f"config of default-limits is a {kind}: give a mapping"
    )
    assert "config of words: nobody reads it" in problem({"use": Words(), "config": config})


def yields(self: Any) -> Any:
    yield


async def yields_async(self: Any) -> Any:
    yield


@pytest.mark.parametrize("function", [yields, yields_async])
@pytest.mark.parametrize("hook", ["on_exchange_closed", "on_response_completed", "on_content_chunk"])
def test_a_hook_that_yields_would_never_run(function: Callable[..., Any], hook: str) -> None:
    policy = type("Audit", (Policy,), {"look": hookimpl(specname=hook)(function)})()
    assert problem(policy) == f"audit.{hook} has a `yield`: it would never run; return what it has to say"


class Forgets(Words):
    def listens(self, hook: str) -> Any:
        return False if hook == "on_response_completed" else None


def test_who_forgets_to_say_that_it_listens() -> None:
    said = "forgets.listens('on_content_completed') returned None: return True or False"
    assert problem(Forgets()) == said
    Plan([{"use": Forgets(), "mode": "off"}])


class Assigned(Policy):
    def __init__(self, name: str, hook: Any) -> None:
        setattr(self, name, hook)


def test_a_hook_of_the_instance_needs_its_mark() -> None:
    def look(content: Any) -> Any: ...

    assert "assigned.on_content_completed looks like a hook" in problem(
        Assigned("on_content_completed", look)
    )
    Plan([Assigned("on_found", look)])  # a callback of its own
    assert Plan([Assigned("on_content_completed", hookimpl(look))]).calls["on_content_completed"]


class Called:
    def __call__(self, content: Any) -> Any: ...


def look_at(content: Any) -> Any: ...


@pytest.mark.filterwarnings("ignore:functools.partial:FutureWarning")  # Python 3.13 says so of any on a class
@pytest.mark.parametrize("hook", [Called(), functools.partial(look_at), functools.lru_cache(look_at)])
def test_a_mark_on_what_is_no_function_would_never_be_seen(hook: Any) -> None:
    marked = hookimpl(hook)
    by_class = type("Audit", (Policy,), {"on_content_completed": marked})()
    kind = type(hook).__name__
    assert f"it is a {kind}, and not a function" in problem(by_class)
    assert f"it is a {kind}, and not a function" in problem(Assigned("on_content_completed", marked))
    assert f"it is a {kind}, and not a function" in problem(Assigned("look", marked))


class Anything:
    """Has whatever it is asked for, like the proxy of a remote object."""

    def __getattr__(self, name: str) -> Any:
        return self


def test_an_object_that_has_everything_has_no_mark() -> None:
    Plan([Assigned("client", Anything())])


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda content, ctx: None, "a method's first parameter is `self`, and here it is content"),
        (lambda: None, "a method's first parameter is `self`, and here it is missing"),
        (lambda self, contents: None, "no argument 'contents' (did you mean 'content'?): use content, ctx"),
        (lambda self, content, context: None, "no argument 'context'"),
    ],
)
def test_a_parameter_that_is_no_argument(function: Any, says: str) -> None:
    policy = type("Audit", (Policy,), {"on_content_completed": hookimpl(function)})()
    assert problem(policy).startswith("audit.on_content_completed: ")
    assert says in problem(policy)


class Static(Policy):
    @staticmethod
    @hookimpl
    def on_content_completed(content: Any) -> Any:
        return content

    @classmethod
    @hookimpl
    def on_tool_call_completed(cls, call: Any) -> Any:
        return call


def test_hooks_that_need_no_instance() -> None:
    calls = Plan([Static()]).calls
    assert calls["on_content_completed"][0].function("content", "ctx") == "content"
    assert calls["on_tool_call_completed"][0].function("call", "ctx") == "call"


def test_a_method_that_only_sounds_like_a_hook() -> None:
    policy = type("Audit", (Policy,), {"on_found": look_at})()
    assert "there is no such hook" in problem(policy)


@dataclass(slots=True)
class Slotted(Policy):
    seen: list[str] = field(default_factory=list[str])


@pytest.mark.parametrize("seen", [[], {}, {"x"}, deque([1]), bytearray(b"x")])
def test_what_exchanges_would_share(seen: Any) -> None:
    kind = type(seen).__name__
    assert f"audit.seen is a {kind}" in problem(type("Audit", (Policy,), {"seen": seen})())
    assert f"assigned.seen is a {kind}" in problem(Assigned("seen", seen))
    assert "slotted.seen is a list" in problem(Slotted())
    Plan([type("Audit", (Policy,), {"WORDS": seen, "_seen": seen})()])


class Settings(Policy, BaseModel):
    model_config = ConfigDict(frozen=True)
    word: str


def test_a_policy_may_be_a_pydantic_model_or_a_dataclass() -> None:
    Plan([Settings(word="x")])
    assert [each.name for each in Plan([Equal(), Equal()]).registered] == ["equal", "equal#2"]


@dataclass
class Equal(Policy):
    """Two of them are equal, and two all the same."""

    @hookimpl
    def on_content_completed(self, content: Any) -> Any: ...


@pytest.mark.parametrize(
    ("written", "value", "meant"),
    [
        ("look_ahead", 5, "lookahead"),
        ("wait", True, "waits"),
        ("holds", "response", "hold"),
        ("channel", frozenset({"content"}), "channels"),
        ("needs_histroy", True, "needs_history"),
    ],
)
def test_a_declaration_that_is_misspelt(written: str, value: Any, meant: str) -> None:
    said = f".{written} is nothing that a policy declares: did you mean {meant!r}?"
    assert said in problem(type("Audit", (Words,), {written: value})())
    assert said in problem(Assigned(written, value))


def test_attributes_of_its_own_are_its_own() -> None:
    for name, value in {"channel": "#ops", "wait": 3.5, "holder": "x", "head": 5}.items():
        Plan([Assigned(name, value)])
