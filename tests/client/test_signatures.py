"""The guarded functions look like litellm's, and do not import it before they are used."""

from __future__ import annotations

import inspect
import subprocess
import sys

import litellm
import pytest

import luthien_guard

NAMES = ("acompletion", "completion", "aresponses", "anthropic_messages")


@pytest.mark.parametrize("name", NAMES)
def test_the_signature_is_litellms(name: str) -> None:
    ours, theirs = getattr(luthien_guard, name), getattr(litellm, name)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert ours.__name__ == name


@pytest.mark.parametrize("name", NAMES)
def test_what_is_async_in_litellm_is_async_here(name: str) -> None:
    ours, theirs = getattr(luthien_guard, name), getattr(litellm, name)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)


def test_the_signature_can_be_used() -> None:
    signature = inspect.signature(luthien_guard.acompletion)
    assert signature.bind("gpt-4o", [], stream=True).arguments["stream"] is True
    assert signature.replace(parameters=[]).parameters == {}


def test_naming_the_functions_does_not_import_litellm() -> None:
    code = (
        "import sys, luthien_guard\n"
        "luthien_guard.acompletion, luthien_guard.completion, luthien_guard.aresponses\n"
        "assert 'litellm' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
