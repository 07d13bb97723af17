"""The traffic and the policies that every benchmark uses: a chat stream of realistic chunks, no two alike."""

from __future__ import annotations

from luthien_guard import ContentChunk, Policy, hookimpl
from luthien_guard.events import Chunk


def chat_chunk(number: int) -> bytes:
    """One SSE event of about 330 bytes, as OpenAI sends them."""
    return (
        b'data: {"id":"chatcmpl-CkJ1vH2mQd7xW0aZ5bT9rY4nE8sL3","object":"chat.completion.chunk",'
        b'"created":1772310506,"model":"gpt-4o-mini-2024-07-18","service_tier":"default",'
        b'"system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" word%d"},'
        b'"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"aB3dE5fG7h"}\n\n' % number
    )


FINISH = (
    b'data: {"id":"chatcmpl-CkJ1vH2mQd7xW0aZ5bT9rY4nE8sL3","object":"chat.completion.chunk","created":1772310506,'
    b'"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
DONE = b"data: [DONE]\n\n"
REQUEST = b'{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"write"}]}'


def stream_of(chunks: int) -> list[bytes]:
    return [*(chat_chunk(number) for number in range(chunks)), FINISH, DONE]


class LooksAtChunks(Policy):
    """Looks at every wire unit and does nothing: the cost of looking."""

    @hookimpl
    async def on_chunk_started(self, chunk: Chunk) -> None: ...


class Reads(Policy):
    """Reads the text: strict decoding, every string accounted for."""

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> None:
        assert chunk.text


class Changes(Policy):
    """Changes every chunk."""

    channels = frozenset({"content"})

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        return chunk.replace(text=chunk.text.upper())


class Window(Policy):
    """Looks across chunk borders."""

    lookahead = 64

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> None:
        assert "secret" not in chunk.text
