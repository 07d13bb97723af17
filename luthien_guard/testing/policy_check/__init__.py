"""What every policy must keep, checked on your own: `await check_policy(MyPolicy())`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from luthien_guard.testing.catalogue import BROKEN, ORDINARY
from luthien_guard.testing.cuts import Cuts
from luthien_guard.testing.likeness import gist
from luthien_guard.testing.policy_check.agreement import same
from luthien_guard.testing.policy_check.answers import check_answer, check_breaks
from luthien_guard.testing.policy_check.apart import check_apart
from luthien_guard.testing.policy_check.checked import run_checked
from luthien_guard.testing.policy_check.leaving import check_leaves, check_shadow
from luthien_guard.testing.policy_check.requests import check_requests, check_sent
from luthien_guard.testing.runs import Runs
from luthien_guard.testing.script import WIRE_FORMATS, Script

__all__ = ["check_policy"]


async def check_policy(
    policy: Any,
    *,
    scripts: Mapping[str, Script] | None = None,
    never_leaves: Iterable[str] = (),
    never_sent: Iterable[str] = (),
    wire_formats: Iterable[str] = WIRE_FORMATS,
    cuts: Cuts = "some",
    **options: Any,
) -> None:
    """Raises AssertionError, saying which promise is broken and how, unless for every script of the catalogue and of
    `scripts` (name: script; add what your policy reacts to), in every wire format:

    * no hook raises, returns nonsense or hangs;
    * verdict, words and tool calls are the same for the stream, the body, and any cut of either, also when the same
      text comes in deltas of one character: a policy that looks for words across deltas needs a `lookahead` or
      `on_content_completed` (where text is blocked, more or less of what stood before it may have left, but nothing
      that the policy would block if it were the whole answer);
    * what is sent upstream is the same for the stream and the body, and says the same in every wire format;
    * no verdict comes when it can have no effect any more;
    * what leaves is legal in its wire format;
    * when upstream breaks off, nothing has left that the whole answer would not have begun with;
    * exchanges do not see each other, one after the other or at once;
    * in shadow, no byte changes;
    * none of the texts `never_leaves` can be read from an answer that says it: in any channel, choice, name or argument of
      a call, unknown field, spread over deltas or texts, or in escapes;
    * none of the texts `never_sent` is sent upstream, wherever a conversation says it: in the user's words, the system
      prompt, earlier calls and their results, the description of a tool;
    * `on_exchange_closed` comes exactly once.

    `policy` is what `Guard` takes; `options` go to `Guard` (`judge`, `limits`, ...).
    """
    formats = tuple(wire_formats)
    everything = {**ORDINARY, **(scripts or {})}
    for name, script in everything.items():
        spoken = {**options, "wire_formats": [each for each in formats if each in script.wire_formats]}
        if not spoken["wire_formats"]:
            continue
        await check_answer(f"script {name!r}", policy, script, cuts, spoken)
        await check_breaks(f"script {name!r}", policy, script, spoken)
        await check_shadow(policy, script, spoken)
    for name, script in BROKEN.items():
        runs = await run_checked(
            f"script {name!r}", policy, script, cuts, {**options, "wire_formats": formats}
        )
        # a verdict that waits may or may not come before upstream breaks off
        prompt = Runs(each for each in runs if "late" not in each.cut)
        same(f"script {name!r}", prompt, lambda run: (run.wire_format, run.stream), gist)
    await check_requests(policy, {**options, "wire_formats": formats})
    for text in never_leaves:
        await check_leaves(policy, text, formats, options)
    for text in never_sent:
        await check_sent(policy, text, formats, options)
    for wire_format in formats:
        sayable = [script for script in everything.values() if wire_format in script.wire_formats]
        await check_apart(policy, sayable, wire_format, options)
