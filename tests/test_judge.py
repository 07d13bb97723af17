"""The judge that asks litellm: loaded late and beside the event loop, and quiet towards the network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

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


FAILING = """
import anyio, litellm
from luthien_guard.judge import ask_with_litellm
switch = lambda: litellm.suppress_debug_info
async def ask():
    try:
        await ask_with_litellm([], model="gpt-4o", api_key="k", mock_response=Exception("down"))
    except Exception as error:
        assert "down" in str(error)
    else:
        raise AssertionError("answered")
async def both(change):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        change()
anyio.run(ask)
assert switch() is False
anyio.run(both, lambda: None)
assert switch() is False
anyio.run(both, lambda: setattr(litellm, "suppress_debug_info", True))
assert switch() is True
print("the end")
"""


def test_a_judge_that_fails_prints_nothing_and_leaves_litellms_settings() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILING], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the end\n"


RELOADED = """
import sys, anyio
from pathlib import Path
from luthien_guard import Guard
from luthien_guard.config.reload import Reloader
path = Path(PATH)
async def main():
    async with Guard.from_config(path) as guard:
        assert "litellm" not in sys.modules
        path.write_text("policies: [tool-call-judge]")
        assert await Reloader(guard, path).reload()
        assert "litellm" in sys.modules
        print(*guard.policies)
anyio.run(main)
"""


def test_a_judge_that_comes_with_a_new_file_is_loaded_before_its_policies_run(tmp_path: Path) -> None:
    path = tmp_path / "guard.yaml"
    path.write_text("policies: [noop]")
    assert in_a_new_process(RELOADED.replace("PATH", repr(str(path)))) == "tool-call-judge"
