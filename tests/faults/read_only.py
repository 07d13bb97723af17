"""A store on a disk that may only be read: `python -m tests.faults.read_only FOLDER URL mounted`. Without `mounted` the disk
stays as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import anyio

from luthien_guard import Guard
from luthien_guard.errors import SinkError
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import CallFilter
from luthien_guard.testing.sinks import exchange_rows


async def _started(url: str) -> str:
    try:
        async with Guard(store=url):
            return ""
    except SinkError as error:
        return str(error)


def main(folder: str, url: str, *mounted: str) -> None:
    store = open_store(url)
    store.open()
    store.write(exchange_rows(1))
    store.close()
    if mounted:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    store.open()
    found: dict[str, Any] = {"asked": len(store.calls(CallFilter())), "written": ""}
    try:
        store.write(exchange_rows(2))
    except SinkError as error:
        found["written"] = str(error)
    store.close()
    found["started"] = anyio.run(_started, url)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
