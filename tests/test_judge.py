"""The judge that asks litellm: loaded late and beside the event loop, and quiet towards the network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from luthien_guard.judge import ask_with_litellm
from luthien_guard.testing import Script, run
from luthien_guard.testing.provider import FakeProvider, serving

ASKED = """
import os, sys, anyio
from luthien_guard.judge import ask_with_litellm
assert "litellm" not in sys.modules
messages = [{"role": "user", "content": "?"}]
said = anyio.run(lambda: ask_with_litellm(messages, model="gpt-4o", api_key="k", mock_response="0.9"))
print(said, *(os.environ[name] for name in NAMES))
"""
NAMES = ("LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS")


@pytest.mark.parametrize(("own", "expected"), [({}, "0.9 True True"), ({NAMES[1]: "no"}, "0.9 True no")])
def test_nothing_is_fetched_unless_the_user_says_so(own: dict[str, str], expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | own
    assert in_a_new_process(ASKED.replace("NAMES", repr(NAMES)), environment) == expected


def in_a_new_process(code: str, environment: Mapping[str, str] | None = None) -> str:
    """The last line of what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[-2]


STARTED = """
import sys, anyio
from luthien_guard import Guard
from luthien_guard.testing import FakeJudge
ticks = 0
async def tick():
    global ticks
    while True:
        await anyio.sleep(0.01)
        ticks += 1
async def start(guard):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        async with guard:
            tasks.cancel_scope.cancel()
judged = ["noop", "tool-call-judge"]
off = {"use": "tool-call-judge", "mode": "off"}
for guard in (Guard(["noop", off]), Guard(judged, judge=FakeJudge())):
    anyio.run(start, guard)
    assert "litellm" not in sys.modules
anyio.run(start, Guard(policy_sets={"strict": judged}))
assert "litellm" in sys.modules
print("others ran" if ticks > 5 else f"{ticks} ticks")
"""


def test_a_guard_that_judges_loads_it_when_it_starts_and_others_run_meanwhile() -> None:
    assert in_a_new_process(STARTED) == "others ran"


#: litellm runs on asyncio only.
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
VERDICT = Script().text('{"probability": 0.97, "explanation": "it deletes"}')


@on_asyncio
async def test_the_judge_as_it_is_shipped_is_asked_and_answers() -> None:
    provider = FakeProvider(VERDICT)
    with serving(provider) as url:
        here = {"use": "tool-call-judge", "config": {"api_base": f"{url}/v1", "api_key": "any"}}
        script = Script().tool_call("bash", {"command": "rm -rf /"})
        runs = await run(here, script, cuts="whole", wire_formats=["openai.chat"])
    runs.assert_blocked("tool-call-judge", reason__contains="0.97").assert_outcome("blocked").no_leak(
        "rm -rf"
    )
    assert [asked.body["model"] for asked in provider.requests] == ["gpt-5-mini"] * len(runs)
    assert provider.complaints == []


@on_asyncio
@pytest.mark.parametrize(("model", "temperature"), [("gpt-5-mini", None), ("gpt-4o-mini", 0.0)])
async def test_what_a_model_does_not_take_is_left_out(model: str, temperature: float | None) -> None:
    provider = FakeProvider(VERDICT)
    with serving(provider) as url:
        there = {"api_base": f"{url}/v1", "api_key": "any"}
        await ask_with_litellm([{"role": "user", "content": "?"}], model=model, temperature=0.0, **there)
    assert provider.requests[0].body.get("temperature") == temperature


@on_asyncio
async def test_a_model_that_thinks_until_its_tokens_are_spent_gave_no_answer() -> None:
    with serving(FakeProvider(Script().text("").finish("length"))) as url:
        there = {"api_base": f"{url}/v1", "api_key": "any"}
        with pytest.raises(ValueError, match=r"no text.*length"):
            await ask_with_litellm([{"role": "user", "content": "?"}], model="gpt-5-mini", **there)
