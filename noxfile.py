"""Every check of the project. `nox -s tests` is what a newcomer runs; `.ci/run` runs them all.

A session makes its own virtual environment and installs under `constraints.txt`. With `--no-venv` it uses the
environment that nox runs in and installs nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

#: CI keeps its environments out of the checkout, so that none is left over from before.
nox.options.envdir = os.environ.get("LUTHIEN_ENVDIR", ".nox")
nox.options.sessions = ["tests", "lint", "types", "floors"]
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "venv"
nox.needs_version = ">=2024.10.9"

PROJECT = nox.project.load_toml("pyproject.toml")
#: Every optional piece that the library imports somewhere.
EXTRAS = "brotli,cli,litellm,otel,parquet,postgresql,prometheus,redis,serve,testing,zstd"
#: litellm asks the network for its price list at import unless it is told not to.
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def install(session: nox.Session, *packages: str) -> None:
    """Under the constraints; a session without an environment of its own uses what is there."""
    if session.virtualenv.is_sandboxed:
        session.install("-c", "constraints.txt", *packages)


def group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, name))


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, on asyncio and trio. Arguments after `--` go to pytest."""
    install(session, "-e", ".[test]")
    # a process for each core, and one for while the others wait; a slow file must not be the last that one of them begins
    workers = str((os.cpu_count() or 1) + 1)
    session.run("python", "-m", "pytest", "-n", workers, "--dist", "worksteal", *session.posargs, env=OFFLINE)


@nox.session(default=False)
def clients(session: nox.Session) -> None:
    """Real clients against the gateway: SDKs, Claude Code, Codex. Installs them (1.2 GB) in the session's own folder."""
    install(session, "-e", ".[cli,litellm,serve,testing]")
    folder = Path(session.create_tmp()).absolute()
    own = {"LUTHIEN_CLIENTS": str(folder / "programs"), "LUTHIEN_FLOOR": "tests/clients/FLOOR"}
    session.run(
        "python", "-m", "pytest", "-m", "clients", "tests/clients", *session.posargs, env={**OFFLINE, **own}
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely mistakes."""
    install(session, *group("lint"))
    session.run("ruff", "check", *(session.posargs or ["."]))
    session.run("ruff", "format", "--check", *(session.posargs or ["."]))


@nox.session
def types(session: nox.Session) -> None:
    """mypy and pyright, both strict: users run either."""
    install(session, "-e", f".[{EXTRAS}]", *group("types"))
    session.run("mypy")
    # without it pyright looks for third-party packages in whatever Python it finds first
    python = session.run("python", "-c", "import sys; print(sys.executable)", silent=True)
    session.run("pyright", "--pythonpath", str(python).strip())


@nox.session
def floors(session: nox.Session) -> None:
    """Who may import whom. Reads the source, so the project itself need not be installed."""
    install(session, *group("floors"))
    session.run("lint-imports", "--no-cache")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The benchmarks: a table for people, JSON for machines. Arguments after `--` choose which."""
    install(session, "-e", ".[test]")
    session.run("python", "-m", "benchmarks", *session.posargs, env=OFFLINE)
