"""What would turn a policy off without a word is an error at start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
