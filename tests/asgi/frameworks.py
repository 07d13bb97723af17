"""The same small application in five frameworks: one stream, one body, one plain route."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import anyio.lowlevel

EVENTS = [b'data: {"n": 0}\n\n', b'data: {"n": 1}\n\n', b"data: [DONE]\n\n"]
BODY = b'{"id": "x", "choices": []}'


#: What a stream without an end has said.
asked: list[bytes] = []


def events(stream: object) -> AsyncIterator[bytes]:
    return Endless() if stream == "endless" else _events()


async def _events() -> AsyncIterator[bytes]:
    for event in EVENTS:
        yield event


class Endless:
    """Not a generator: what frameworks leave of one is nobody's to clean up."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        asked.append(EVENTS[0])
        return EVENTS[0]


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def chat(request: Request) -> Response:
        if stream := (await request.json()).get("stream"):
            return StreamingResponse(events(stream), media_type="text/event-stream")
        return Response(BODY, media_type="application/json")

    async def plain(request: Request) -> Response:
        return PlainTextResponse("open")

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/open", plain)])


def fastapi_app() -> Any:
    from fastapi import FastAPI, Request
    from fastapi.responses import PlainTextResponse, Response, StreamingResponse

    app = FastAPI()

    async def chat(request: Request) -> Response:
        if stream := (await request.json()).get("stream"):
            return StreamingResponse(events(stream), media_type="text/event-stream")
        return Response(BODY, media_type="application/json")

    def plain() -> Response:
        return PlainTextResponse("open")

    chat.__annotations__["request"] = Request  # FastAPI looks names up in the module, not in this function
    app.add_api_route("/v1/chat/completions", chat, methods=["POST"], response_model=None)
    app.add_api_route("/open", plain, methods=["GET"], response_model=None)
    return app


def litestar_app() -> Any:
    from litestar import Litestar, MediaType, Request, Response, get, post
    from litestar.response import Stream

    async def chat(request: Request[Any, Any, Any]) -> Any:
        if stream := (await request.json()).get("stream"):
            return Stream(events(stream), media_type="text/event-stream")
        return Response(BODY, media_type=MediaType.JSON)

    async def plain() -> str:
        return "open"

    for function, result in ((chat, Response), (plain, str)):
        function.__annotations__ = {"return": result}
    chat.__annotations__["request"] = Request
    handlers = [
        post("/v1/chat/completions", status_code=200)(chat),
        get("/open", media_type=MediaType.TEXT)(plain),
    ]
    # Its own logging would set the root logger to INFO.
    return Litestar(handlers, openapi_config=None, logging_config=None)


def quart_app() -> Any:
    from quart import Quart, Response, request

    app = Quart("framework")

    async def chat() -> Any:
        if stream := (await request.get_json())["stream"]:
            return Response(events(stream), mimetype="text/event-stream")
        return Response(BODY, mimetype="application/json")

    async def plain() -> str:
        return "open"

    app.add_url_rule("/v1/chat/completions", "chat", chat, methods=["POST"])
    app.add_url_rule("/open", "plain", plain)
    return app


def django_app() -> Any:
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            DEBUG=False, SECRET_KEY="for tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, USE_TZ=True
        )
        django.setup()
    from django.core.handlers.asgi import ASGIHandler

    return ASGIHandler()


def _django_urls() -> list[Any]:
    import json

    from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
    from django.urls import path

    async def chat(request: HttpRequest) -> Any:
        if stream := json.loads(request.body).get("stream"):
            return StreamingHttpResponse(events(stream), content_type="text/event-stream")
        return HttpResponse(BODY, content_type="application/json")

    async def plain(request: HttpRequest) -> HttpResponse:
        return HttpResponse("open")

    return [path("v1/chat/completions", chat), path("open", plain)]


def __getattr__(name: str) -> Any:
    if name == "urlpatterns":  # Django asks for it once it is configured
        return _django_urls()
    raise AttributeError(name)


FRAMEWORKS: dict[str, Callable[[], Any]] = {
    "starlette": starlette_app,
    "fastapi": fastapi_app,
    "litestar": litestar_app,
    "quart": quart_app,
    "django": django_app,
}
#: These speak asyncio only.
ASYNCIO_ONLY = {"quart", "django"}
