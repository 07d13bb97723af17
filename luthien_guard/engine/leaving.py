"""The last look before chunks leave: as every policy before has decided them, not as they came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from luthien_guard.engine.chunks import ChunkHooks
from luthien_guard.engine.transcript import Transcript
from luthien_guard.events import Chunk
from luthien_guard.wire.chunks import BodyDecoder, StreamDecoder
from luthien_guard.wire.format import ReadChunk

__all__ = ["Leaving", "told"]

Item = tuple[bytes, int | None]
_DECIDED: Final = -1  # the source of a chunk that a policy changed before: its grammar has been looked at


class Leaving:
    """Writes what was decided, shows it to `on_chunk_completed` chunk by chunk, and reads what leaves then. A policy that
    looks here sees nothing of what was blocked, and so cannot put it back."""

    def __init__(self, hooks: ChunkHooks, *, stream: bool) -> None:
        exchange = hooks.exchange
        self._hooks = hooks
        self._stream = stream
        self._writer = exchange.writer(stream=stream)
        self.transcript = Transcript(exchange.reader(stream=stream))
        self.undone: Sequence[ReadChunk] = ()  # what the transcript has, and did not leave

    async def read(self, ready: Sequence[ReadChunk]) -> list[ReadChunk]:
        """What leaves instead of these. Raises Stop, and IllegalOutput for what was decided before."""
        as_it_came = {read.source: read.chunk for read in ready if read.source is not None}
        self.undone = out = list[ReadChunk]()
        for raw, source in self._writer.write(ready):
            chunks = self._parsed(raw) if source is None else [as_it_came[source]]
            for chunk in chunks:
                for made in await self._hooks.completed(chunk):
                    kept = None if made is not chunk else _DECIDED if source is None else source
                    out.append(ReadChunk(made, self.transcript.read(made), kept))
                    out[-1].made_by = self._hooks.maker_of(made)
        return out

    def _parsed(self, raw: bytes) -> list[Chunk]:
        if self._stream:
            frames = StreamDecoder(max_event_bytes=len(raw))
            return [*frames.feed(raw), *frames.close()]
        body = BodyDecoder(max_bytes=len(raw))
        return [*body.feed(raw), *body.close()]


def told(items: Sequence[Item]) -> list[Item]:
    """The items, of which those that were decided before did not leave as they came."""
    return [(raw, None if source == _DECIDED else source) for raw, source in items]
