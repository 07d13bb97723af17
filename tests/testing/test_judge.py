"""The fake judge says what it was told to say."""

from __future__ import annotations

import json

import pytest

from luthien_guard.testing import FakeJudge


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "rm -rf is harmful"}, {"role": "user", "content": text}]


async def test_the_highest_marker_in_the_question_decides() -> None:
    judge = FakeJudge({"rm": 0.4, 'rm -rf "/"': 0.9}, default=0.1)
    quoted = json.dumps({"arguments": json.dumps({"command": 'rm -rf "/"'})})
    answers = [
        json.loads(await judge(asked(text), model="any"))["probability"] for text in ("ls", "rm a", quoted)
    ]
    assert answers == [0.1, 0.4, 0.9]
    assert len(judge.asked) == 3


async def test_a_judge_may_fail_or_talk_nonsense() -> None:
    with pytest.raises(ConnectionError):
        await FakeJudge().raises()(asked("ls"), model="any")
    assert await FakeJudge().answers("hm")(asked("ls"), model="any") == "hm"
