"""What is asked: prompts and conversations of every kind, and a text wherever a conversation may say it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from luthien_guard.testing.catalogue import PROMPTS
from luthien_guard.testing.leaks import find_leaks
from luthien_guard.testing.likeness import gist
from luthien_guard.testing.places import requests_with
from luthien_guard.testing.policy_check.agreement import same, same_answer
from luthien_guard.testing.policy_check.checked import check, run_checked
from luthien_guard.testing.requests import conversation_for
from luthien_guard.testing.script import Script

__all__ = ["check_requests", "check_sent"]


async def check_requests(policy: Any, options: Mapping[str, Any]) -> None:
    script = Script().text("Hello.")
    for prompt in PROMPTS:
        runs = await run_checked(f"prompt {prompt!r}", policy, script, "whole", {**options, "prompt": prompt})
        same_answer(f"prompt {prompt!r}", runs, script)
    for wire_format in options["wire_formats"]:
        conversation = {"wire_formats": [wire_format], "request": conversation_for(wire_format)}
        runs = await run_checked("a conversation", policy, script, "whole", {**options, **conversation})
        same("a conversation", runs, lambda run: run.wire_format, gist)


async def check_sent(policy: Any, text: str, formats: Iterable[str], options: Mapping[str, Any]) -> None:
    script = Script().text("Hello.")
    for wire_format in formats:
        for place, request in requests_with(text, wire_format).items():
            only = {**options, "wire_formats": [wire_format], "request": request}
            for each in await run_checked(f"in {place}", policy, script, "whole", only):
                sent = json.dumps(each.upstream.requests, ensure_ascii=False).encode()
                check(f"in {place}", each, not find_leaks(sent, text), f"{text!r} was sent upstream")
